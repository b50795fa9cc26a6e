// Screen readers hear one polite live region: every sentence (data-say) that is new in what the page shows, after an
// answer, on another step of Learn, on another tab. A value of data-say is said before the sentence ("Step 3 of 8").
// Gradio's own region, which speaks after every request, is hidden (theme.css).
const QUIET = 400; // milliseconds without a change before something is said
const LONG = 10_000; // milliseconds between two words on how far a long job is
const region = element.querySelector("#msn-announcer");
let heard = [], wait = 0;

function announce() {
  const shown = [...document.querySelectorAll("[data-say]")].filter((one) => one.offsetParent !== null);
  const now = shown.map((one) => [one.dataset.say, one.textContent.trim()].filter(Boolean).join(" "));
  const fresh = unheard(now, heard);
  heard = now;
  if (fresh) region.textContent = fresh;
}

setInterval(() => {
  const job = document.querySelector(".wrap.full:not(.hide) .progress-level-inner");
  if (job?.offsetParent) region.textContent = job.textContent.trim();
}, LONG);

new MutationObserver((changes) => {
  if (changes.every((change) => region.contains(change.target))) return;
  clearTimeout(wait);
  wait = setTimeout(announce, QUIET);
}).observe(document.documentElement, {
  subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["class", "style", "hidden", "data-step"],
});
