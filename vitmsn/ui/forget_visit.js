// The server has deleted the visit: begin anew.
() => {
  sessionStorage.clear();
  window.msnSaved = "all";
  window.location.assign(window.location.pathname);
}
