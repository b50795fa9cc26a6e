// The masked view by keyboard: it is one stop of the Tab key, arrow keys, Home and End move a cursor over its patches,
// Space or Enter hides the patch under it or shows it again. The page's live region (announce.js) says which patch it is.
let place = 0, said = -1; // of the cursor; of the patch whose new state is still to be said

const view = () => document.querySelector("#masked-view button:has(img)");
const hides = (at) => paintedGrid().hidden[at] === "1";

function tell(at) {
  const { columns } = paintedGrid(), row = Math.floor(at / columns) + 1, column = (at % columns) + 1;
  document.getElementById("msn-announcer").textContent = hides(at)
    ? tr("Row {row}, column {column}: hidden", { row, column })
    : tr("Row {row}, column {column}: shown", { row, column });
}

// Draw the cursor; it is seen while the view has the focus (picture_tabs.css).
function show() {
  const frame = view().querySelector("img").parentElement, image = frame.querySelector("img");
  const { rows, columns } = paintedGrid(), wide = image.offsetWidth / columns, high = image.offsetHeight / rows;
  const cursor = frame.querySelector(".msn-patch-cursor") ?? frame.appendChild(document.createElement("i"));
  cursor.className = "msn-patch-cursor";
  Object.assign(cursor.style, {
    left: `${image.offsetLeft + wide * (place % columns)}px`, width: `${wide}px`,
    top: `${image.offsetTop + high * Math.floor(place / columns)}px`, height: `${high}px`,
  });
}

// The view says what its keys do; a new picture or mask leaves the cursor where it is.
function prepare() {
  const box = view();
  if (!box || !paintedGrid()) return;
  box.setAttribute("aria-description", tr("Arrow keys move over the patches, Space hides or shows one."));
  place = Math.min(place, paintedGrid().rows * paintedGrid().columns - 1);
  show();
  if (said >= 0 && document.activeElement === box) tell(said);
  said = -1;
}

document.addEventListener("focusin", (event) => {
  if (event.target === view()) prepare();
});
document.addEventListener("keydown", (event) => {
  if (event.target !== view() || !paintedGrid() || event.altKey || event.ctrlKey || event.metaKey) return;
  const columns = Number(paintedGrid().columns), to = moved(event.key, place, paintedGrid().rows * columns, columns);
  if (to < 0 && event.key !== " " && event.key !== "Enter") return;
  event.preventDefault();
  if (to >= 0) {
    place = to;
    show();
    tell(place);
  } else if (!event.repeat) {
    said = place;
    trigger("click", { cells: [[Math.floor(place / columns), place % columns]] });
  }
});
document.addEventListener("keyup", (event) => {
  if (event.target === view() && event.key === " ") event.preventDefault(); // no click in the middle of nowhere
});
addEventListener("resize", () => view() && paintedGrid() && show());
watch("value", () => setTimeout(prepare));
