// The lesson on paper: while it is printed, every step is open and the rest of the page is away (learn.css). The arrows
// to the left and right turn the steps wherever they have nothing else to do. On a phone the row of steps scrolls, and
// the chosen one is kept in sight: a link names it before there is a row.

const root = document.documentElement;
const centre = () => {
  const chosen = document.querySelector(`#learn-step label:nth-of-type(${root.dataset.step ?? 1})`);
  const row = chosen?.parentElement;
  if (row) row.scrollLeft = chosen.offsetLeft - row.offsetLeft - (row.clientWidth - chosen.offsetWidth) / 2;
};
new MutationObserver(centre).observe(root, { attributeFilter: ["data-step"] });
new ResizeObserver(centre).observe(document.body);

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
