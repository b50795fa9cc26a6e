// Pure functions of the film: which frames there are, and where a picture is between two of them.

// The frames after new ones came: `from` is the place of the first. null where frames in between are missing.
function joined(frames, from, added) {
  return from > frames.length ? null : [...frames.slice(0, from), ...added];
}

// Points between two frames; `share` goes from 0 to 1, and slows down toward the end.
function between(before, after, share) {
  const eased = 1 - (1 - share) ** 3;
  return after.map(([x, y], i) => [before[i][0] + (x - before[i][0]) * eased, before[i][1] + (y - before[i][1]) * eased]);
}
