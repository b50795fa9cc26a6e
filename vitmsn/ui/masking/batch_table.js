// A click on a heading sorts by its column; a second click reverses the order.
element.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (!button) return;
  const head = button.closest("th"), body = element.querySelector("tbody");
  const place = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (row) => row.children[place]?.dataset.value ?? "";
  const compare = (a, b) => (up ? order(value(a), value(b)) : order(value(b), value(a)));
  body.append(...[...body.children].sort(compare));
});
