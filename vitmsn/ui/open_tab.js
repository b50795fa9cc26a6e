// A tab was selected. Gradio also selects the first one when the page opens, where a link may ask for another: until the
// page has loaded nothing follows.
(tab) => {
  if (!window.msnTab || window.msnTab === tab) return;
  window.msnTab = tab;
  const url = new URL(window.location);
  url.searchParams.set("tab", tab);
  window.history.replaceState(null, "", url);
  document.getElementById(`fill-${tab}`).click();
}
