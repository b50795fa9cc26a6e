// The place of the tab that a key moves to from tab `place` of `many`, round the ends; -1 for any other key.
function nextTab(key, place, many) {
  const keys = new Map([["ArrowRight", place + 1], ["ArrowLeft", place - 1 + many], ["Home", 0], ["End", many - 1]]);
  return keys.has(key) ? keys.get(key) % many : -1;
}
