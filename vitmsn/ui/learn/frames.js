// A pure function of the film: where pictures are between two frames. `share` goes from 0 to 1, and slows down at the end.
function between(before, after, share) {
  const eased = 1 - (1 - share) ** 3;
  return after.map(([x, y], i) => [before[i][0] + (x - before[i][0]) * eased, before[i][1] + (y - before[i][1]) * eased]);
}
