// The part of the map that is shown: {scale, x, y}, where x and y move the map in pixels. A point at p on the whole map,
// measured from its middle, is drawn at p * scale + (x, y) from the middle.
const WHOLE = { scale: 1, x: 0, y: 0 };
const MOST = 16; // times the whole map

// Zoom by `factor` around the middle. The whole map is the least.
function zoomed(view, factor) {
  const scale = Math.min(MOST, Math.max(1, view.scale * factor));
  const share = scale / view.scale;
  return scale === 1 ? { ...WHOLE } : { scale, x: view.x * share, y: view.y * share };
}

// Move by a share of the width and height; no further than the edge of the map in the middle.
function moveView(view, right, down, width, height) {
  const most = [(width / 2) * view.scale, (height / 2) * view.scale];
  const clip = (value, limit) => Math.min(limit, Math.max(-limit, value));
  return { ...view, x: clip(view.x - right * width, most[0]), y: clip(view.y - down * height, most[1]) };
}

// Whether all words of the search are in a point's name or class.
function matches(point, search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => point.n.toLowerCase().includes(word));
}
