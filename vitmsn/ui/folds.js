// Sections that the visitor has opened are open again when the page is loaded again in the same tab of the browser, in
// either language: a section is known by its id, because several have the same name. They appear one after another, as
// tabs are opened. Gradio may build a tab anew while the page loads, which closes its sections: they are opened again.
const FOLD = "button.label-wrap", KEPT = "msn-folds";
const PAUSE = 300, MOST = 5; // milliseconds that a click has to take effect, and clicks on one section
const clicks = new Map(); // id of a section -> how often it was opened here, and when it was last clicked

const place = (fold) => fold.closest(".gr-accordion")?.id;
const clicked = (id) => clicks.get(id) ?? {often: 0, last: -Infinity};

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
  if (!names.size) return;
  for (const fold of document.querySelectorAll(FOLD)) {
    const id = place(fold), {often, last} = clicked(id);
    if (!names.has(id) || !fold.offsetParent || fold.classList.contains("open") || often >= MOST) continue;
    if (performance.now() - last < PAUSE) {
      setTimeout(openAgain, PAUSE);
      continue;
    }
    clicks.set(id, {often: often + 1, last: performance.now()});
    fold.click();
  }
}

addEventListener("click", (event) => {
  const fold = event.isTrusted ? event.target.closest?.(FOLD) : null;
  if (!fold) return;
  const names = kept(), id = place(fold);
  clicks.set(id, {...clicked(id), last: performance.now()});
  if (fold.classList.contains("open")) names.delete(id);
  else names.add(id);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...names]));
  } catch {
    // without storage, sections are closed again
  }
}, true);
new MutationObserver(openAgain).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ["style", "class"]});
