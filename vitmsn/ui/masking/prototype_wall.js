// The wall is one stop of the Tab key; arrow keys move in it, and a click, Enter or Space opens a prototype.
// `chosen` outlives an answer, which replaces the buttons.

let chosen = "";
const cards = () => [...element.querySelectorAll(".msn-wall button")];

function mark() {
  for (const card of cards()) card.setAttribute("aria-pressed", String(card.dataset.number === chosen));
}

element.addEventListener("click", (event) => {
  const card = event.target.closest(".msn-wall button");
  if (!card) return;
  chosen = card.dataset.number;
  mark();
  trigger("click", {number: Number(chosen)});
});
element.addEventListener("keydown", (event) => {
  const all = cards(), place = all.indexOf(event.target.closest("button"));
  if (place < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const columns = all.filter((card) => card.offsetTop === all[0].offsetTop).length;
  const to = moved(event.key, place, all.length, columns);
  if (to < 0) return;
  event.preventDefault();
  for (const card of all) card.tabIndex = -1;
  all[to].tabIndex = 0;
  all[to].focus();
});
watch("value", mark);
