// The visitor added their own picture: remove the example from the address.
() => {
  const url = new URL(window.location);
  url.searchParams.delete("example");
  window.history.replaceState(null, "", url);
}
