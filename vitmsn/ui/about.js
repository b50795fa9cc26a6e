// The panel About: a dialog, so that it takes the focus, closes on Escape, and is not there for anybody while closed.
element.addEventListener("click", (event) => {
  const panel = element.querySelector("dialog");
  if (event.target.closest("[data-open]")) panel.showModal();
  else if (event.target.closest("[data-forget]")) trigger("forget");
  else if (event.target === panel || event.target.closest("[data-close]")) panel.close();
});
