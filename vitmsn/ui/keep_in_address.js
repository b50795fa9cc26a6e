// Keeps the address in step with a control, so that the page can be linked to as it stands.
(name, value) => {
  const url = new URL(window.location);
  url.searchParams.set(name, value);
  window.history.replaceState(null, "", url);
}
