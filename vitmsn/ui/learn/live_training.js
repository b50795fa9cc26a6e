// The map of the live training: each held-out digit drawn at its embedding, moving from frame to frame.
// Every answer replaces the contents of `element`; the canvas is drawn again from its data.

const MOVES = 900; // milliseconds from one frame to the next
const HALF = 1.2; // half the width of the map: unit vectors around their mean rarely leave it
// Okabe and Ito's colors, darker or lighter for contrast with the background; the digit itself tells the class
const LIGHT = ["#000000", "#9a6a00", "#0b6fa8", "#00795a", "#7a6f00", "#0058a0", "#b34400", "#a3487b", "#55607a", "#8b2a2a"];
const DARK = ["#ffffff", "#e69f00", "#56b4e9", "#2fc79a", "#f0e442", "#7db8ff", "#ff8a4c", "#e79ac4", "#a9b3cc", "#ff9c9c"];
const paper = matchMedia("print"), still = matchMedia("(prefers-reduced-motion: reduce)");
let now = null, from = null, began = 0;

function read() {
  const figure = element.querySelector(".msn-field");
  if (!figure) {
    now = from = null;
    return;
  }
  const next = JSON.parse(figure.dataset.frame);
  const same = now && now.labels.length === next.labels.length && next.step > now.step;
  from = same && !still.matches ? now.xy.map((_, i) => place(i)) : null;
  began = performance.now();
  now = next;
  draw();
}

function place(i) {
  if (!from) return now.xy[i];
  const share = Math.min(1, (performance.now() - began) / MOVES), eased = 1 - (1 - share) ** 3;
  return [0, 1].map((axis) => from[i][axis] + (now.xy[i][axis] - from[i][axis]) * eased);
}

function draw() {
  const canvas = element.querySelector("canvas");
  if (!now || !canvas?.clientWidth) return;
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), dark = document.body.classList.contains("dark") && !paper.matches;
  pen.scale(ratio, ratio);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = "600 13px system-ui, sans-serif";
  const scale = Math.min(width, height) / 2 / HALF;
  now.labels.forEach((label, i) => {
    const [x, y] = place(i);
    pen.fillStyle = (dark ? DARK : LIGHT)[label];
    pen.fillText(label, width / 2 + x * scale, height / 2 - y * scale);
  });
  if (from && performance.now() - began < MOVES) requestAnimationFrame(draw);
}

watch("value", read);
paper.addEventListener("change", draw);
new ResizeObserver(draw).observe(element);
new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] }); // light and dark
read();
