// The page has loaded and shows `tab`: fill it, or open the one that the visitor has chosen meanwhile. `ticket` brings this visit back when the page is loaded again; it stays
// in this tab of the browser and never in the address. `far` is the model of the link if it has to be downloaded first.
(tab, ticket, far) => {
  window.msnTab = tab;
  window.msnAddress.begin(tab);
  try {
    sessionStorage.setItem("msn-ticket", ticket);
  } catch {
    // without storage, a page that is loaded again begins anew
  }
  const wanted = window.msnWanted === tab ? null : document.getElementById(`tab-${window.msnWanted}-button`);
  (wanted ?? document.getElementById(`fill-${tab}`)).click();
  if (far) document.getElementById("open-model").click();
}
