// Which squares of the picture are dropped, as a set of their numbers; every change is a new set.

// One square is dropped, or comes back; the last one that is left stays.
function toggled(dropped, place, count) {
  const next = new Set(dropped);
  if (!next.delete(place) && next.size + 1 < count) next.add(place);
  return next;
}

// `many` more squares are dropped at random, as long as one is left. `chance` gives numbers from 0 to below 1.
function thinned(dropped, many, count, chance = Math.random) {
  const left = [...Array(count).keys()].filter((place) => !dropped.has(place));
  const next = new Set(dropped);
  for (let more = Math.min(many, left.length - 1); more > 0; more -= 1) {
    next.add(left.splice(Math.floor(chance() * left.length), 1)[0]);
  }
  return next;
}
