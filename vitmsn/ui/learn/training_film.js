// The film of a training: pictures move from frame to frame; a slider goes to any of them, and Play shows them in turn.
// The frames come from training_reel.js. Whoever looks at an earlier frame stays there.

const MOVES = 700; // milliseconds from one frame to the next
const still = matchMedia("(prefers-reduced-motion: reduce)");
const canvas = element.querySelector("canvas"), slider = element.querySelector("input"), said = element.querySelector("output");
const play = element.querySelector("[data-play]");
const about = JSON.parse(canvas.dataset.about); // the sheet of pictures, and how the map is drawn
const sheet = new Image();
let run = "", labels = [], frames = [], from = null, began = 0, timer = 0;

sheet.onload = draw;

function take() {
  const came = window.msnReel;
  if (!came) return;
  if (!sheet.src) sheet.src = about.sheet;
  const same = came.run === run, before = same ? shown() : null;
  const following = !same || Number(slider.value) >= frames.length - 1;
  if (!same) stop();
  ({ run, labels, frames } = came);
  slider.max = frames.length - 1;
  if (following && !timer) go(frames.length - 1, before);
  else draw();
}

const shown = () => frames[Number(slider.value)];

function go(place, before) {
  slider.value = place;
  from = before && !still.matches ? before.xy : null;
  began = performance.now();
  const now = shown();
  const values = { step: now.step, share: trNumber(`${now.percent} %`), many: labels.length };
  said.textContent = tr("step {step}: {share}", values);
  slider.setAttribute("aria-valuetext", tr("step {step}, {share} named correctly", values));
  canvas.setAttribute("aria-label", tr("Map of {many} pictures after {step} steps: {share} named correctly", values));
  draw();
}

function stop() {
  clearInterval(timer);
  timer = 0;
  play.textContent = tr("Play");
}

slider.addEventListener("input", () => {
  stop();
  go(Number(slider.value), null);
});
play.addEventListener("click", () => {
  if (timer) return stop();
  if (frames.length < 2) return;
  go(0, null);
  play.textContent = tr("Pause");
  timer = setInterval(() => {
    const place = Number(slider.value);
    if (place >= frames.length - 1) return stop();
    go(place + 1, frames[place]);
  }, MOVES);
});

function draw() {
  if (!frames.length || !canvas.clientWidth) return;
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = width * ratio;
  if (canvas.height !== Math.round(height * ratio)) canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const share = from ? Math.min(1, (performance.now() - began) / MOVES) : 1;
  const points = from ? between(from, shown().xy, share) : shown().xy;
  const scale = Math.min(width, height) / 2 / about.half, size = Math.max(16, width / 22);
  const here = sheet.complete && sheet.naturalWidth; // until then, and without it, dots
  points.forEach(([x, y], i) => {
    const across = width / 2 + x * scale, down = height / 2 - y * scale, left = across - size / 2, top = down - size / 2;
    pen.fillStyle = about.inks[labels[i] % about.inks.length];
    if (!here) {
      pen.beginPath();
      pen.arc(across, down, 4, 0, 2 * Math.PI);
      pen.fill();
      return;
    }
    pen.fillRect(left - 2, top - 2, size + 4, size + 4);
    pen.drawImage(sheet, (i % about.columns) * about.side, Math.floor(i / about.columns) * about.side, about.side, about.side, left, top, size, size);
  });
  if (share < 1) requestAnimationFrame(draw);
}

document.addEventListener("msn-reel", take);
new ResizeObserver(draw).observe(element);
take();
