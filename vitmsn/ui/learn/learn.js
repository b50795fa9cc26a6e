// Printing: every step is shown and the rest of the page is hidden (learn.css). The left and right arrow keys change
// the step, except in inputs and other widgets that use them. On a phone the row of steps scrolls; the chosen one is
// kept visible, also when a link sets the step before the row exists.

const root = document.documentElement;
const center = () => {
  const chosen = document.querySelector(`#learn-step label:nth-of-type(${root.dataset.step ?? 1})`);
  const row = chosen?.parentElement;
  if (row) row.scrollLeft = chosen.offsetLeft - row.offsetLeft - (row.clientWidth - chosen.offsetWidth) / 2;
};
new MutationObserver(center).observe(root, { attributeFilter: ["data-step"] });
new ResizeObserver(center).observe(document.body);

const open = () => element.offsetParent !== null || document.getElementById("learn-steps")?.offsetParent;
addEventListener("beforeprint", () => {
  if (open()) root.dataset.lesson = "";
});
addEventListener("afterprint", () => delete root.dataset.lesson);
addEventListener("keydown", (event) => {
  const turn = { ArrowRight: "learn-next", ArrowLeft: "learn-back" }[event.key];
  const busy = event.target.closest?.("input, textarea, select, [role=tab], [role=listbox], [role=slider], [contenteditable]");
  if (!turn || busy || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !open()) return;
  document.getElementById(turn).click();
  event.preventDefault();
});
