import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { inside } = functions("explore/lasso.js", "inside");
const square = [[0, 0], [10, 0], [10, 10], [0, 10]];
const hook = [[0, 0], [10, 0], [10, 10], [6, 10], [6, 4], [0, 4]]; // the square without its lower left part

test("a point inside and points around a square", () => {
  assert.equal(inside(square, 5, 5), true);
  for (const [x, y] of [[-1, 5], [11, 5], [5, -1], [5, 11]]) assert.equal(inside(square, x, y), false);
});

test("a point in the notch of a concave polygon is outside", () => {
  assert.equal(inside(hook, 3, 7), false);
  assert.equal(inside(hook, 8, 7), true);
  assert.equal(inside(hook, 3, 2), true);
});

test("the direction of the line does not matter", () => {
  assert.equal(inside([...hook].reverse(), 8, 7), true);
});
