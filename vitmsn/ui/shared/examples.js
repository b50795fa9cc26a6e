// A click on an example takes it, and the address names it.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-name]");
  if (!button) return;
  const url = new URL(window.location);
  url.searchParams.set("example", button.dataset.name);
  window.history.replaceState(null, "", url);
  trigger("click", {name: button.dataset.name});
});
