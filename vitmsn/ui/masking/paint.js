// Paint a mask: drag over the masked view to hide every patch on the way (or to show them again, if the stroke starts
// on a hidden patch). A plain click stays a click. On a touch screen this works only while "painted" is chosen, so that
// the page can still be scrolled.
let stroke = null;

const paintedGrid = () => element.querySelector("[data-rows]")?.dataset;
const painting = () => document.querySelector("#mask-kind input[value=painted]")?.checked;

function mark(image, [row, column]) {
  const box = image.getBoundingClientRect(), {rows, columns} = paintedGrid(), cell = document.createElement("i");
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
  if (!image || event.button !== 0 || !paintedGrid()) return;
  if (event.pointerType !== "mouse" && !painting()) return;
  stroke = {image, at: event, cells: [patchAt(event.clientX, event.clientY, image.getBoundingClientRect(), paintedGrid())]};
});
document.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const from = stroke.at;
  stroke.at = event;
  // a fast drag sends few events, so fill in the patches between them
  const box = stroke.image.getBoundingClientRect();
  for (const here of crossed([from.clientX, from.clientY], [event.clientX, event.clientY], box, paintedGrid())) {
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
  window.addEventListener("click", swallow, true); // the end of a stroke is not a click
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
