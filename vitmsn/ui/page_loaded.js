// The page has loaded and shows `tab`: fill it.
(tab) => {
  window.msnTab = tab;
  document.getElementById(`fill-${tab}`).click();
}
