// Arrow keys move among the maps; a click (or Enter) enlarges one. Each answer replaces the maps but not `element`, so
// the listeners are on `element`, and the focus returns to the enlarged map.
let back = false;
const maps = () => [...element.querySelectorAll("button[data-x]")];
element.addEventListener("click", (event) => {
  const map = event.target.closest("button[data-head]");
  if (!map) return;
  back = true;
  trigger("click", {layer: Number(map.dataset.layer), head: Number(map.dataset.head)});
});
element.addEventListener("keydown", (event) => {
  const here = event.target.closest("button[data-x]");
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!here || !step) return;
  event.preventDefault();
  const x = Number(here.dataset.x) + step[0], y = Number(here.dataset.y) + step[1];
  const next = maps().find((map) => Number(map.dataset.x) === x && Number(map.dataset.y) === y);
  if (!next) return;
  here.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
new MutationObserver(() => {
  if (!back || element.contains(document.activeElement)) return;
  back = false;
  element.querySelector("button[data-x][aria-pressed=true]")?.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});
