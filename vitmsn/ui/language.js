// The other language: the same page, with all settings of its address; the visit comes back as after any reload. The
// page that is left says its language in its address, so that Back comes back to it.
element.addEventListener("click", (event) => {
  const link = event.target.closest(".msn-language");
  if (!link) return;
  event.preventDefault();
  window.msnAddress.keep("lang", document.documentElement.lang);
  const url = new URL(window.location);
  url.searchParams.set("lang", link.hreflang);
  window.location.assign(url);
});
