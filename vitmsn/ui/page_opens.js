// What the server needs when the page opens: the query of the address, and the ticket of the visit so far.
() => {
  try {
    return [window.location.search, sessionStorage.getItem("msn-ticket") ?? ""];
  } catch {
    return [window.location.search, ""];
  }
}
