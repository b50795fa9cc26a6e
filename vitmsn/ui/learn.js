// The lesson on paper: while it is printed, every step is open and the rest of the page is away (learn.css). The arrows
// to the left and right turn the steps wherever they have nothing else to do.

const open = () => element.offsetParent !== null || document.getElementById("learn-steps")?.offsetParent;
addEventListener("beforeprint", () => {
  if (open()) document.documentElement.dataset.lesson = "";
});
addEventListener("afterprint", () => delete document.documentElement.dataset.lesson);
addEventListener("keydown", (event) => {
  const turn = { ArrowRight: "learn-next", ArrowLeft: "learn-back" }[event.key];
  const busy = event.target.closest?.("input, textarea, select, [role=tab], [role=listbox], [role=slider], [contenteditable]");
  if (!turn || busy || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !open()) return;
  document.getElementById(turn).click();
  event.preventDefault();
});
