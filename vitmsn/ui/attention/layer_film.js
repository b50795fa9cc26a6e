// The film of layers: the map over the photograph fades from layer to layer; a slider goes to any, Play shows them all.
// Each answer of the server brings new data, in a new player or in the same one, whose words it empties; a film that plays
// goes on with the new maps.

const MOVES = 900; // milliseconds from one layer to the next
const still = matchMedia("(prefers-reduced-motion: reduce)");
let player = null, data = "", about = null, photo = null, maps = null, timer = 0, place = 0, before = 0, began = 0;

const part = (name) => player.querySelector(name);

function picture(source) {
  const image = new Image();
  image.onload = draw;
  image.src = source;
  return image;
}

function take() {
  const found = element.querySelector(".msn-layer-film");
  if (!found || (found.dataset.about === data && found.querySelector("figcaption").textContent)) return;
  const at = timer ? place : 0;
  player = found;
  data = player.dataset.about;
  about = JSON.parse(data);
  photo = picture(about.photo);
  maps = picture(about.maps);
  part("[data-play]").textContent = timer ? tr("Pause") : tr("Play");
  go(Math.min(at || Number(part("input").defaultValue), about.said.length));
}

function go(to, from = 0) {
  place = to;
  part("input").value = place;
  before = still.matches ? 0 : from;
  began = performance.now();
  const said = about.said[place - 1];
  part("output").textContent = tr("layer {place} of {total}", { place, total: about.said.length });
  part("input").setAttribute("aria-valuetext", tr("layer {place}", { place }));
  part("figcaption").textContent = said;
  part("canvas").setAttribute("aria-label", said);
  draw();
}

function stop() {
  clearInterval(timer);
  timer = 0;
  if (player) part("[data-play]").textContent = tr("Play");
}

function draw() {
  if (!player?.isConnected || !photo.naturalWidth || !maps.naturalWidth) return;
  const canvas = part("canvas"), pen = canvas.getContext("2d"), [rows, columns] = about.grid;
  const share = before ? Math.min(1, (performance.now() - began) / (MOVES / 2)) : 1;
  const map = (at, strength) => {
    pen.globalAlpha = strength;
    pen.drawImage(maps, 0, (at - 1) * rows, columns, rows, 0, 0, canvas.width, canvas.height);
  };
  pen.imageSmoothingEnabled = false;
  pen.globalAlpha = 1;
  pen.drawImage(photo, 0, 0, canvas.width, canvas.height);
  if (share < 1) {
    // the earlier map below the new one, so that both together hide as much of the photograph as one
    map(before, (about.strength * (1 - share)) / (1 - about.strength * share));
  }
  map(place, about.strength * share);
  if (share < 1) requestAnimationFrame(draw);
}

element.addEventListener("input", (event) => {
  if (event.target !== part("input")) return;
  stop();
  go(Number(event.target.value));
});
element.addEventListener("click", (event) => {
  if (!event.target.closest("[data-play]")) return;
  if (timer) return stop();
  go(1);
  part("[data-play]").textContent = tr("Pause");
  timer = setInterval(() => {
    if (!element.isConnected || element.offsetParent === null) return stop(); // another tab was opened
    if (place >= about.said.length) return stop();
    go(place + 1, place);
  }, MOVES);
});
new MutationObserver(take).observe(element, { childList: true, subtree: true });
take();
