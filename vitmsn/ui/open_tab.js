// A tab was selected. Gradio also selects the first tab when the page opens, although a link may name another: do
// nothing until the page has loaded.
(tab) => {
  if (!window.msnTab || window.msnTab === tab) return;
  window.msnTab = tab;
  const url = new URL(window.location);
  url.searchParams.set("tab", tab);
  window.history.replaceState(null, "", url);
  document.getElementById(`fill-${tab}`).click();
}
