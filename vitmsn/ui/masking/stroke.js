// The patch [row, column] at a point of the window; `box` is the picture's rectangle.
function patchAt(x, y, box, { rows, columns }) {
  const place = (at, start, size, count) => Math.min(count - 1, Math.max(0, Math.floor((count * (at - start)) / size)));
  return [place(y, box.top, box.height, rows), place(x, box.left, box.width, columns)];
}

// The patches that a straight stroke crosses, sampled every half patch.
function crossed([fromX, fromY], [toX, toY], box, grid) {
  const x = toX - fromX, y = toY - fromY;
  const patches = Math.max((Math.abs(x) * grid.columns) / box.width, (Math.abs(y) * grid.rows) / box.height);
  const steps = Math.max(1, Math.ceil(2 * patches));
  return Array.from({ length: steps }, (_, step) => {
    const share = (step + 1) / steps;
    return patchAt(fromX + share * x, fromY + share * y, box, grid);
  });
}
