// Write a control's value into the address, so that a link opens the page as it is now.
(name, value) => {
  const url = new URL(window.location);
  url.searchParams.set(name, value);
  window.history.replaceState(null, "", url);
}
