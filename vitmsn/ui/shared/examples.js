// A click on an example chooses it and writes its name into the address.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-name]");
  if (!button) return;
  window.msnAddress.keep("example", button.dataset.name);
  trigger("click", {name: button.dataset.name});
});
// An own picture is on the server (own_picture.js).
element.addEventListener("msn-files", (event) => trigger("files", event.detail));
