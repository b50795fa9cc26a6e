// The skip link moves the focus to the open tab's contents; the address stays as it is.
element.addEventListener("click", (event) => {
  if (!event.target.closest(".msn-skip")) return;
  event.preventDefault();
  const panel = [...document.querySelectorAll("[role=tabpanel]")].find((one) => one.offsetParent !== null);
  if (!panel) return;
  panel.tabIndex = -1;
  panel.focus();
  panel.scrollIntoView();
});
