// Where names are written on a map of width × height: each at its point {name, x, y, wide}, moved into the map where it
// would be cut, and up or down by lines of `high` px where it would cover another. A point outside gets no name.
function labelPlaces(labels, width, height, high) {
  const placed = [];
  const free = (one) => placed.every(({ x, y, wide }) => Math.abs(x - one.x) >= (wide + one.wide) / 2 + 4 || Math.abs(y - one.y) >= high);
  const within = (value, edge, most) => Math.max(edge, Math.min(most - edge, value));
  for (const label of labels) {
    if (label.x < 0 || label.x > width || label.y < 0 || label.y > height) continue;
    const x = within(label.x, label.wide / 2 + 4, width), y = within(label.y, high / 2, height);
    const tries = [0, 1, -1, 2, -2, 3, -3].map((lines) => ({ ...label, x, y: within(y + lines * high, high / 2, height) }));
    placed.push(tries.find(free) ?? tries[0]);
  }
  return placed;
}
