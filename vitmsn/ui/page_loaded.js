// The page has loaded and shows `tab`: fill it. `ticket` brings this visit back when the page is loaded again; it stays
// in this tab of the browser and never in the address.
(tab, ticket) => {
  window.msnTab = tab;
  window.msnAddress.begin(tab);
  try {
    sessionStorage.setItem("msn-ticket", ticket);
  } catch {
    // without storage, a page that is loaded again begins anew
  }
  document.getElementById(`fill-${tab}`).click();
}
