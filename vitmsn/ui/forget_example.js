// A picture of one's own came: the link names no example any more.
() => {
  const url = new URL(window.location);
  url.searchParams.delete("example");
  window.history.replaceState(null, "", url);
}
