// The map: points on a canvas, keyed by id, linked with the list of pictures beside it. Names are written only as text.
// `element`'s contents are replaced after every answer; the canvas is drawn again from its data. Points that do not
// move are drawn once, onto a background canvas, so that hovering over one of ten thousand points draws only two.

const NEAR = 12; // pixels around a point that count as on it
const SIZE = 11; // radius of a point in pixels, when there are few
const WAIT = 120; // milliseconds of hovering before a picture that is not in the list is requested
const still = matchMedia("(prefers-reduced-motion: reduce)");
const coarse = matchMedia("(any-pointer: coarse)"); // a finger scrolls unless the lasso button is on
let points = [], known = new Map(), from = new Map(), began = 0, lit = null, chosen = null, asked = "";
let face = 16, view = { ...WHOLE }, search = "", order = ""; // half the side of a picture on the map; what is shown
let picked = new Set(), loop = null, lasso = false, moved = false, ground = null, peeking = 0, acted = false;
const peeked = new Map(), faces = new Map();

const part = (selector) => element.querySelector(selector);
const item = (id) => (id === null ? null : part(`button[data-id="${CSS.escape(id)}"]`));

function read() {
  const map = part(".msn-map");
  if (!map) return;
  from = new Map(points.map((point) => [point.id, place(point)]));
  const before = known;
  points = JSON.parse(map.dataset.points);
  known = new Map(points.map((point) => [point.id, point]));
  for (const [id, { d }] of before) {
    if (known.get(id)?.d === d) continue; // otherwise gone, or another picture under the same id
    for (const kept of [from, picked, faces, peeked]) kept.delete(id);
    if (lit === id) lit = null;
    if (chosen === id) chosen = null;
  }
  if (acted) letGo();
  acted = false;
  began = still.matches ? -1e9 : performance.now();
  ground = null;
  part("[data-lasso]").hidden = !coarse.matches;
  part("[data-search]").value = search;
  part("[data-size]").value = face;
  part("[data-order]").value = order;
  arrange();
  showPicked();
  draw();
  const wanted = map.dataset.wanted;
  if (wanted && wanted !== asked) trigger("wanted");
  asked = wanted;
}

// The current position of a point, moving from the old map to the new one, in -1..1.
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
  return [width / 2 + x * scale * wide * view.scale + view.x, height / 2 - y * scale * view.scale + view.y];
}

// The list as asked for: what the search finds, in the chosen order, at the chosen size.
function arrange() {
  const list = part(".msn-gallery"), found = points.filter((point) => matches(point, search));
  const rank = new Map(points.map((point, i) => [point.id, order ? -(point.u ?? -1) : i]));
  const there = new Set(found.map((point) => point.id));
  const items = [...list.children].sort((a, b) => rank.get(a.firstChild.dataset.id) - rank.get(b.firstChild.dataset.id));
  for (const one of items) one.hidden = !there.has(one.firstChild.dataset.id);
  if (items.some((one, i) => one !== list.children[i])) list.append(...items);
  list.style.setProperty("--thumb", `${Math.max(44, 3.5 * face)}px`);
  part("[data-found]").textContent = search ? tr("{count} of {total}", { count: found.length, total: points.length }) : "";
  ground = null;
}

// The name of each class, at the middle of its points.
function nameClasses(pen, width, height, ink) {
  const sums = new Map();
  for (const point of points) {
    if (!point.c) continue;
    const [x, y] = onScreen(point, width, height), sum = sums.get(point.c) ?? [0, 0, 0];
    sums.set(point.c, [sum[0] + x, sum[1] + y, sum[2] + 1]);
  }
  const paper = getComputedStyle(part(".msn-map")).backgroundColor;
  pen.font = "700 14px system-ui, sans-serif";
  pen.lineJoin = "round";
  const labels = [...sums].map(([full, [x, y, many]]) => {
    const name = full.slice(0, 24);
    return { name, x: x / many, y: y / many, wide: pen.measureText(name).width };
  });
  for (const { name, x, y } of labelPlaces(labels, width, height, 18)) {
    pen.lineWidth = 5;
    pen.strokeStyle = paper;
    pen.strokeText(name, x, y);
    pen.fillStyle = ink;
    pen.fillText(name, x, y);
  }
}

function show(what) {
  const canvas = part(".msn-map canvas"), size = [canvas.clientWidth, canvas.clientHeight];
  const ways = { left: [-0.25, 0], right: [0.25, 0], up: [0, -0.25], down: [0, 0.25] };
  if (what === "whole") view = { ...WHOLE };
  else if (ways[what]) view = moveView(view, ...ways[what], ...size);
  else view = zoomed(view, what === "in" ? 1.5 : 1 / 1.5);
  ground = null;
  draw();
  showTip();
}

const many = () => points.length > 400;
const radius = () => (many() ? 5 : points.length > 100 ? 8 : SIZE);

// The picture of a point; null until it is there, then the map is drawn again.
function pictureOf(id) {
  if (!faces.has(id)) {
    const source = item(id)?.querySelector("img")?.src ?? peeked.get(id);
    if (!source) return null;
    const picture = new Image();
    faces.set(id, picture);
    picture.onload = () => {
      ground = null;
      requestAnimationFrame(draw);
    };
    picture.src = source;
  }
  return faces.get(id).complete ? faces.get(id) : null;
}

function drawPoint(pen, point, width, height, ink, strong) {
  const [x, y] = onScreen(point, width, height), size = radius();
  const picture = part(".msn-map").dataset.faces ? pictureOf(point.id) : null;
  pen.beginPath();
  if (picture) pen.rect(x - face, y - face, 2 * face, 2 * face);
  else if (point.q) pen.rect(x - size, y - size, 2 * size, 2 * size);
  else pen.arc(x, y, size, 0, 2 * Math.PI);
  if (picture) {
    const side = Math.min(picture.naturalWidth, picture.naturalHeight);
    const left = (picture.naturalWidth - side) / 2, top = (picture.naturalHeight - side) / 2;
    pen.drawImage(picture, left, top, side, side, x - face, y - face, 2 * face, 2 * face);
    pen.strokeStyle = point.f;
    pen.lineWidth = 3;
    pen.stroke();
  } else {
    pen.fillStyle = point.f;
    pen.fill();
    if (!many()) {
      pen.fillStyle = point.k;
      pen.fillText(point.l, x, y + 0.5);
    }
  }
  if (point.q || strong) {
    pen.strokeStyle = ink;
    pen.lineWidth = strong ? 3 : 1.5;
    pen.stroke();
  }
}

function prepared(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = `700 ${radius() + 1}px system-ui, sans-serif`;
  return pen;
}

function draw() {
  const canvas = part(".msn-map canvas");
  if (!canvas?.clientWidth) return;
  const width = canvas.clientWidth, height = canvas.clientHeight, ink = getComputedStyle(canvas).color;
  const moving = performance.now() - began < 500;
  if (!ground || moving || ground.shown !== `${width} ${height} ${ink}`) {
    ground = document.createElement("canvas");
    ground.shown = `${width} ${height} ${ink}`;
    const pen = prepared(ground, width, height);
    for (const queries of [true, false]) {
      for (const point of points) {
        if (Boolean(point.q) !== queries) continue;
        pen.globalAlpha = matches(point, search) ? 1 : 0.12;
        drawPoint(pen, point, width, height, ink, false);
      }
    }
    pen.globalAlpha = 1;
    if (new Set(points.map((point) => point.c)).size <= 24) nameClasses(pen, width, height, ink);
  }
  const pen = prepared(canvas, width, height);
  pen.drawImage(ground, 0, 0, width, height);
  for (const id of new Set([...picked, chosen, lit])) {
    if (known.has(id)) drawPoint(pen, known.get(id), width, height, ink, true);
  }
  if (loop) {
    pen.beginPath();
    for (const [x, y] of loop) pen.lineTo(x, y);
    pen.closePath();
    pen.globalAlpha = 0.15;
    pen.fillStyle = ink;
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.strokeStyle = ink;
    pen.setLineDash([6, 4]);
    pen.stroke();
    pen.setLineDash([]);
  }
  if (moving) requestAnimationFrame(draw);
}

function under(event) {
  const canvas = part(".msn-map canvas"), box = canvas.getBoundingClientRect();
  const faced = part(".msn-map").dataset.faces;
  let best = null, least = faced ? face : NEAR + (many() ? 0 : SIZE / 2);
  for (const point of points) {
    const [x, y] = onScreen(point, box.width, box.height);
    const distance = Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y);
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

// Highlight a point: a ring on the map, a larger picture with its name beside it.
function light(id) {
  if (id === lit) return;
  lit = id;
  draw();
  showTip();
  clearTimeout(peeking);
  if (id !== null && !peeked.has(id) && (!item(id) || id === chosen)) peeking = setTimeout(() => trigger("peek", { id }), WAIT);
}

function showTip() {
  const tip = part(".msn-tip"), point = known.get(lit ?? chosen);
  if (!tip) return;
  tip.hidden = !point;
  if (!point) return;
  const canvas = part(".msn-map canvas"), [x, y] = onScreen(point, canvas.clientWidth, canvas.clientHeight);
  tip.classList.toggle("msn-large", point.id === chosen);
  const source = peeked.get(point.id) ?? item(point.id)?.querySelector("img")?.src, shown = tip.querySelector("img");
  shown.hidden = !source;
  if (source) shown.src = source;
  tip.querySelector("p").textContent = point.n;
  tip.style.left = `${Math.max(0, Math.min(x + 18, canvas.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, Math.min(y - 40, canvas.clientHeight - tip.offsetHeight))}px`;
}

function choose(id, more) {
  chosen = id;
  if (!more) picked = new Set(id === null ? [] : [id]);
  else if (id !== null && !picked.delete(id)) picked.add(id);
  if (id !== null && !peeked.has(id)) trigger("peek", { id }); // large
  showTip();
  const button = item(id), list = part(".msn-gallery");
  if (button) list.scrollTop = button.offsetTop - list.offsetTop - list.clientHeight / 2;
  showPicked();
  draw();
}

function showPicked() {
  for (const button of element.querySelectorAll(".msn-gallery button")) {
    button.setAttribute("aria-pressed", String(picked.has(button.dataset.id)));
  }
  const bar = part(".msn-picked");
  if (!bar) return;
  bar.hidden = picked.size === 0;
  bar.querySelector("[role=status]").textContent = tr("{many} chosen", { many: picked.size });
}

function act(what) {
  const ids = [...picked];
  if (!ids.length) return;
  acted = true;
  trigger("act", { ...what, ids });
}

// Clear the selection, once its change is on the map; after a refused change it stays.
function letGo() {
  picked.clear();
  chosen = null;
  part("[data-new]").value = "";
}

element.addEventListener("pointerdown", (event) => {
  moved = false;
  if (!event.target.matches(".msn-map canvas") || event.button !== 0) return;
  if (event.pointerType === "touch" && !lasso) return; // a finger scrolls, unless the lasso is on
  const box = event.target.getBoundingClientRect();
  loop = [[event.clientX - box.left, event.clientY - box.top]];
  event.target.setPointerCapture(event.pointerId);
});
element.addEventListener("pointermove", (event) => {
  if (loop) {
    const box = part(".msn-map canvas").getBoundingClientRect();
    const next = [event.clientX - box.left, event.clientY - box.top], last = loop[loop.length - 1];
    if (Math.hypot(next[0] - last[0], next[1] - last[1]) < 4) return;
    moved = true;
    loop.push(next);
    draw();
  } else if (event.target.matches(".msn-map canvas")) light(under(event)?.id ?? null);
  else if (event.target.closest?.(".msn-gallery button")) light(event.target.closest("button").dataset.id);
});
for (const end of ["pointerup", "pointercancel"]) {
  element.addEventListener(end, (event) => {
    if (!loop) return;
    if (moved && end === "pointerup" && loop.length > 2) {
      const canvas = part(".msn-map canvas");
      if (!event.shiftKey) picked = new Set();
      for (const point of points) {
        if (inside(loop, ...onScreen(point, canvas.clientWidth, canvas.clientHeight))) picked.add(point.id);
      }
      chosen = null;
    }
    loop = null;
    showPicked();
    draw();
  });
}
element.addEventListener("pointerleave", () => light(null));
element.addEventListener("focusin", (event) => {
  if (event.target.dataset.id) light(event.target.dataset.id);
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button"), more = event.shiftKey || event.ctrlKey || event.metaKey;
  if (event.target.matches(".msn-map canvas")) {
    if (moved) return; // the end of a lasso
    const id = under(event)?.id ?? null;
    light(id);
    choose(id, more);
  } else if (button?.dataset.id) {
    light(button.dataset.id);
    choose(button.dataset.id, more);
  } else if (button?.dataset.view) show(button.dataset.view);
  else if (button?.dataset.lasso !== undefined) {
    lasso = !lasso;
    button.setAttribute("aria-pressed", String(lasso));
    part(".msn-map canvas").style.touchAction = lasso ? "none" : "";
  } else if (button?.dataset.remove !== undefined) act({ act: "remove" });
  else if (button?.dataset.letGo !== undefined) choose(null, false);
  else if (button?.dataset.act === "undo" && event.detail < 2) trigger("act", { act: "undo" });
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("[data-new]") && event.target.value.trim()) {
    act({ act: "move", text: event.target.value, fresh: true });
  }
  if (event.key === "Delete" && event.target.dataset.id) {
    if (!picked.has(event.target.dataset.id)) choose(event.target.dataset.id, true);
    act({ act: "remove" });
  }
});
element.addEventListener("input", (event) => {
  const { target } = event;
  if (target.matches("[data-search]")) search = target.value;
  else if (target.matches("[data-size]")) face = Number(target.value);
  else if (target.matches("[data-order]")) order = target.value;
  else return;
  arrange();
  draw();
});
element.addEventListener("change", (event) => {
  if (event.target.matches("[data-move]") && event.target.value) act({ act: "move", text: event.target.value });
});
watch("value", read);
// Pictures of points that are not in the list arrive one by one, when the pointer is on them.
const answers = document.getElementById("explore-peek");
if (answers) {
  new MutationObserver(() => {
    const picture = answers.querySelector("img[data-of]");
    if (!picture) return;
    if (peeked.size > 500) peeked.clear();
    peeked.set(picture.dataset.of, picture.src);
    showTip();
  }).observe(answers, { childList: true, subtree: true });
}
new ResizeObserver(draw).observe(element);
new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] }); // light and dark
read();
