// The confusion matrix of many classes, large: the matrix itself moves into a dialog, so that its numbers stay buttons.
element.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-large]");
  const dialog = button?.parentElement.querySelector("dialog"), matrix = button?.parentElement.querySelector(".msn-scroll");
  if (!dialog || !matrix) return;
  dialog.append(matrix);
  dialog.addEventListener("close", () => button.before(matrix), { once: true });
  dialog.showModal();
});
element.addEventListener("click", (event) => {
  const dialog = event.target.closest?.("dialog.msn-large");
  if (dialog && (event.target === dialog || event.target.closest("[data-close], [data-act]"))) dialog.close();
});
