// The map: points on a canvas, keyed by id, linked both ways with the list of pictures beside it. Names are only ever
// written as text. `element`'s contents are rendered anew after every answer; the canvas is drawn again from its data.

const NEAR = 12; // pixels around a point that count as on it
const SIZE = 11; // radius of a point, while there are few
const still = matchMedia("(prefers-reduced-motion: reduce)");
let points = [], classes = [], from = new Map(), began = 0, lit = null, chosen = null, asked = "";

const part = (selector) => element.querySelector(selector);
const item = (id) => (id === null ? null : part(`button[data-id="${CSS.escape(id)}"]`));

function read() {
  const map = part(".msn-map");
  if (!map) return;
  const before = new Map(points.map((point) => [point.id, place(point)]));
  points = JSON.parse(map.dataset.points);
  classes = JSON.parse(map.dataset.classes);
  from = before;
  began = still.matches ? -1e9 : performance.now();
  if (!points.some((point) => point.id === lit)) lit = null;
  if (!points.some((point) => point.id === chosen)) chosen = null;
  draw();
  const wanted = map.dataset.wanted;
  if (wanted && wanted !== asked) trigger("wanted");
  asked = wanted;
}

// Where a point is now, between the old map and the new one, in -1..1.
function place(point) {
  const old = from.get(point.id);
  const share = Math.min(1, (performance.now() - began) / 500);
  if (!old || share === 1) return [point.x, point.y];
  const eased = 1 - (1 - share) ** 3;
  return [old[0] + (point.x - old[0]) * eased, old[1] + (point.y - old[1]) * eased];
}

function onScreen(point, width, height) {
  const scale = Math.min(width, height) / 2 - 2 * SIZE, wide = Math.min(1.6, (width / 2 - 2 * SIZE) / scale);
  const [x, y] = place(point);
  return [width / 2 + x * scale * wide, height / 2 - y * scale];
}

function draw() {
  const canvas = part("canvas");
  if (!canvas || !canvas.clientWidth) return;
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const ink = getComputedStyle(canvas).color, many = points.length > 400;
  const size = many ? 5 : points.length > 100 ? 8 : SIZE;
  pen.font = `700 ${size + 1}px system-ui, sans-serif`;
  const special = points.filter((point) => point.id === lit || point.id === chosen);
  const order = [...points.filter((point) => point.q), ...points.filter((point) => !point.q), ...special];
  for (const point of order) {
    const [x, y] = onScreen(point, width, height);
    const [, letter, tone, dark] = point.c < 0 ? ["", "?", "#8c8c8c", "#000"] : classes[point.c];
    pen.beginPath();
    if (point.q) pen.rect(x - size, y - size, 2 * size, 2 * size);
    else pen.arc(x, y, size, 0, 2 * Math.PI);
    pen.fillStyle = tone;
    pen.fill();
    if (!many) {
      pen.fillStyle = dark;
      pen.fillText(letter, x, y + 0.5);
    }
    if (point.q || special.includes(point)) {
      pen.strokeStyle = ink;
      pen.lineWidth = special.includes(point) ? 3 : 1.5;
      pen.stroke();
    }
  }
  if (performance.now() - began < 500) requestAnimationFrame(draw);
}

function under(event) {
  const canvas = part("canvas"), box = canvas.getBoundingClientRect();
  let best = null, least = NEAR + (points.length > 400 ? 0 : SIZE / 2);
  for (const point of points) {
    const [x, y] = onScreen(point, box.width, box.height);
    const distance = Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y);
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

// The point that is looked at: a ring on the map, a larger picture with its name beside it.
function light(id) {
  if (id === lit) return;
  lit = id;
  draw();
  const tip = part(".msn-tip"), point = points.find((one) => one.id === (lit ?? chosen));
  tip.hidden = !point;
  if (!point) return;
  const canvas = part("canvas"), [x, y] = onScreen(point, canvas.clientWidth, canvas.clientHeight);
  const picture = item(point.id)?.querySelector("img"), shown = tip.querySelector("img");
  shown.hidden = !picture;
  if (picture) shown.src = picture.src;
  tip.querySelector("p").textContent = point.n;
  tip.style.left = `${Math.max(0, Math.min(x + 18, canvas.clientWidth - 150))}px`;
  tip.style.top = `${Math.max(0, Math.min(y - 40, canvas.clientHeight - 170))}px`;
}

function choose(id) {
  chosen = id;
  for (const button of element.querySelectorAll(".msn-gallery button")) {
    button.setAttribute("aria-pressed", String(button.dataset.id === id));
  }
  const button = item(id), list = part(".msn-gallery");
  if (button) list.scrollTop = button.offsetTop - list.offsetTop - list.clientHeight / 2;
  draw();
}

element.addEventListener("pointermove", (event) => {
  if (event.target.matches("canvas")) light(under(event)?.id ?? null);
  else if (event.target.closest?.(".msn-gallery button")) light(event.target.closest("button").dataset.id);
});
element.addEventListener("pointerleave", () => light(null));
element.addEventListener("focusin", (event) => {
  if (event.target.dataset.id) light(event.target.dataset.id);
});
element.addEventListener("click", (event) => {
  const button = event.target.closest(".msn-gallery button");
  if (event.target.matches("canvas")) {
    const id = under(event)?.id ?? null;
    light(id);
    choose(id);
  } else if (button) {
    light(button.dataset.id);
    choose(button.dataset.id);
  }
});
watch("value", read);
new ResizeObserver(draw).observe(element);
new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] }); // light and dark
read();
