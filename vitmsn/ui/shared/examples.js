// A click on an example chooses it and writes its name into the address.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-name]");
  if (!button) return;
  const url = new URL(window.location);
  url.searchParams.set("example", button.dataset.name);
  window.history.replaceState(null, "", url);
  trigger("click", {name: button.dataset.name});
});
