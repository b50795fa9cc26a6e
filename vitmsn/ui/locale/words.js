// Texts of the page's scripts in its language, from the catalogue that came with the page (window.msnWords).

// The text in the page's language, its named fields filled in: tr("{count} of {total}", {count: 3, total: 9}).
function tr(text, values = {}) {
  return (window.msnWords[text] ?? text).replace(/\{(\w+)\}/g, (field, name) => values[name] ?? field);
}

// A number written in English, "1.5" or "63 %", as the page's language writes it.
function trNumber(text) {
  if (document.documentElement.lang !== "de") return text.replace(/(\d) %/g, "$1\u00a0%");
  return text.replace(/(\d)\.(\d)/g, "$1,$2").replace(/(\d) %/g, "$1\u202f%");
}
