// The other language: the same page, with all settings of its address; the visit comes back as after any reload.
element.addEventListener("click", (event) => {
  const link = event.target.closest(".msn-language");
  if (!link) return;
  event.preventDefault();
  const url = new URL(window.location);
  url.searchParams.set("lang", link.hreflang);
  window.location.assign(url);
});
