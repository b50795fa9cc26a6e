// Sections that the visitor has opened are open again when the page is loaded again in the same tab of the browser. They
// appear one after another, as tabs are opened; each is opened once.
const FOLD = "button.label-wrap", KEPT = "msn-folds";
const met = new WeakSet();

function kept() {
  try {
    return new Set(JSON.parse(sessionStorage.getItem(KEPT) ?? "[]"));
  } catch {
    return new Set();
  }
}

function openAgain() {
  if (!window.msnTab) return; // not before the page has loaded: then it gets this visit's answers
  const names = kept();
  for (const fold of document.querySelectorAll(FOLD)) {
    if (met.has(fold) || !fold.offsetParent) continue;
    met.add(fold);
    if (names.has(fold.textContent.trim()) && !fold.classList.contains("open")) fold.click();
  }
}

addEventListener("click", (event) => {
  const fold = event.isTrusted ? event.target.closest?.(FOLD) : null;
  if (!fold) return;
  met.add(fold);
  const names = kept(), name = fold.textContent.trim();
  if (fold.classList.contains("open")) names.delete(name);
  else names.add(name);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...names]));
  } catch {
    // without storage, sections are closed again
  }
}, true);
new MutationObserver(openAgain).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ["style", "class"]});
