// Paint a mask: drag over the masked view, and every patch that was crossed is hidden (or shown again, where the stroke
// began on a hidden one). A plain click stays a click. On a touch screen only while painting is chosen, so that the page
// can be scrolled otherwise.
let stroke = null;

const grid = () => element.querySelector("[data-rows]")?.dataset;
const painting = () => document.querySelector("#mask-kind input[value=painted]")?.checked;

function patch(event, image) {
  const box = image.getBoundingClientRect(), {rows, columns} = grid();
  const place = (at, start, size, count) => Math.min(count - 1, Math.max(0, Math.floor((count * (at - start)) / size)));
  return [place(event.clientY, box.top, box.height, rows), place(event.clientX, box.left, box.width, columns)];
}

function along(x, y, image) {
  const box = image.getBoundingClientRect(), {rows, columns} = grid();
  const patches = Math.max((Math.abs(x) * columns) / box.width, (Math.abs(y) * rows) / box.height);
  const steps = Math.max(1, Math.ceil(2 * patches));
  return Array.from({length: steps}, (_, step) => (step + 1) / steps);
}

function mark(image, [row, column]) {
  const box = image.getBoundingClientRect(), {rows, columns} = grid(), cell = document.createElement("i");
  cell.className = "msn-stroke";
  Object.assign(cell.style, {
    left: `${box.left + (box.width * column) / columns}px`, top: `${box.top + (box.height * row) / rows}px`,
    width: `${box.width / columns}px`, height: `${box.height / rows}px`,
  });
  document.body.append(cell);
}

const clean = () => document.querySelectorAll(".msn-stroke").forEach((cell) => cell.remove());
const picture = (event) => (event.target.matches?.("#masked-view img") ? event.target : null);

document.addEventListener("pointerdown", (event) => {
  const image = picture(event);
  if (!image || event.button !== 0 || !grid()) return;
  if (event.pointerType !== "mouse" && !painting()) return;
  stroke = {image, at: event, cells: [patch(event, image)]};
});
document.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const from = stroke.at, [x, y] = [event.clientX - from.clientX, event.clientY - from.clientY];
  stroke.at = event;
  for (const share of along(x, y, stroke.image)) {  // a fast hand is heard of at few places: all between them count
    const here = patch({clientX: from.clientX + share * x, clientY: from.clientY + share * y}, stroke.image);
    if (stroke.cells.some(([row, column]) => row === here[0] && column === here[1])) continue;
    if (stroke.cells.length === 1) mark(stroke.image, stroke.cells[0]);
    stroke.cells.push(here);
    mark(stroke.image, here);
  }
});
const end = () => {
  const done = stroke;
  stroke = null;
  clean();
  if (!done || done.cells.length < 2) return;
  const swallow = (event) => event.stopPropagation();
  window.addEventListener("click", swallow, true); // a stroke is not a click too
  setTimeout(() => {
    window.removeEventListener("click", swallow, true);
    trigger("click", {cells: done.cells});
  }, 20);
};
document.addEventListener("pointerup", end);
document.addEventListener("pointercancel", () => { stroke = null; clean(); });
document.addEventListener("dragstart", (event) => { if (picture(event)) event.preventDefault(); });
document.addEventListener("change", () => {
  const view = document.getElementById("masked-view");
  if (view) view.style.touchAction = painting() ? "none" : "";
});
