// A tab was selected. Gradio also selects the first tab when the page opens, although a link may name another: do
// nothing until the page has loaded.
(tab) => {
  if (!window.msnTab || window.msnTab === tab) return;
  window.msnTab = tab;
  window.msnAddress.open(tab);
  document.getElementById(`fill-${tab}`).click();
}
