// The place that an arrow key moves to in a grid of `many` cells, `columns` in a row: -1 for any other key.
function moved(key, place, many, columns) {
  const to = {
    ArrowRight: place + 1,
    ArrowLeft: place - 1,
    ArrowDown: place + columns,
    ArrowUp: place - columns,
    Home: 0,
    End: many - 1,
  }[key];
  if (to === undefined) return -1;
  return to < 0 || to >= many ? place : to;
}
