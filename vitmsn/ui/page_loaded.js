// The page has loaded and shows `tab`: it may be filled.
(tab) => {
  window.msnTab = tab;
  document.getElementById(`fill-${tab}`).click();
}
