import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { patchAt, crossed } = functions("masking/stroke.js", "patchAt", "crossed");
const box = { left: 100, top: 50, width: 80, height: 40 }; // patches of 10 x 10 pixels
const grid = { rows: "4", columns: "8" }; // a data set's values are text

test("a point gives its patch, row first", () => {
  assert.deepEqual(patchAt(100, 50, box, grid), [0, 0]);
  assert.deepEqual(patchAt(135, 62, box, grid), [1, 3]);
});

test("points outside the picture give the nearest patch", () => {
  assert.deepEqual(patchAt(0, 0, box, grid), [0, 0]);
  assert.deepEqual(patchAt(180, 90, box, grid), [3, 7]);
});

test("a fast stroke skips no patch after the first", () => {
  const seen = crossed([105, 55], [175, 55], box, grid).map(([row, column]) => `${row}.${column}`);
  assert.deepEqual([...new Set(seen)], ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]);
});

test("a slanted stroke moves between neighbors and ends on its last patch", () => {
  const path = crossed([105, 55], [175, 85], box, grid);
  let [row, column] = [0, 0];
  for (const [nextRow, nextColumn] of path) {
    assert.ok(Math.abs(nextRow - row) <= 1 && Math.abs(nextColumn - column) <= 1);
    [row, column] = [nextRow, nextColumn];
  }
  assert.deepEqual([row, column], [3, 7]);
});

test("a stroke that does not move stays on its patch", () => {
  assert.deepEqual(crossed([112, 71], [112, 71], box, grid), [[2, 1]]);
});
