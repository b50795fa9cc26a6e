// Scrub through the steps of the search, or play them; no Play button for visitors who want reduced motion.
const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
let timer = 0;

function show(part) {
  const steps = JSON.parse(part.dataset.steps), range = part.querySelector("input");
  const step = steps[Number(range.value)];
  const hidden = bits(step.hidden);
  part.querySelectorAll(".msn-cells i").forEach((cell, place) => cell.classList.toggle("msn-gone", hidden[place]));
  part.querySelector("output").textContent = step.said;
  range.setAttribute("aria-valuetext", step.said);
}

function stop(part) {
  clearInterval(timer);
  timer = 0;
  part.querySelector("button").textContent = tr("Play");
}

element.addEventListener("input", (event) => {
  const part = event.target.closest("[data-steps]");
  if (!part) return;
  if (timer) stop(part);
  show(part);
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-play]");
  if (!button) return;
  const part = button.closest("[data-steps]"), range = part.querySelector("input");
  if (timer) return stop(part);
  if (Number(range.value) >= Number(range.max)) range.value = 0;
  button.textContent = tr("Pause");
  show(part);
  timer = setInterval(() => {
    if (!part.isConnected || Number(range.value) >= Number(range.max)) return stop(part);
    range.value = Number(range.value) + 1;
    show(part);
  }, Math.max(120, 4000 / (Number(range.max) + 1)));
});
const prepare = () => element.querySelectorAll("[data-steps]").forEach((part) => {
  if (still) part.querySelector("button").hidden = true;
});
new MutationObserver(prepare).observe(element, {childList: true, subtree: true});
prepare();
