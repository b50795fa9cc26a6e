import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { moved } = functions("shared/grid_keys.js", "moved");

test("arrow keys move by one and by a row", () => {
  assert.equal(moved("ArrowRight", 4, 12, 5), 5);
  assert.equal(moved("ArrowLeft", 4, 12, 5), 3);
  assert.equal(moved("ArrowDown", 4, 12, 5), 9);
  assert.equal(moved("ArrowUp", 9, 12, 5), 4);
  assert.equal(moved("Home", 9, 12, 5), 0);
  assert.equal(moved("End", 9, 12, 5), 11);
});

test("at an edge nothing moves, and other keys are not taken", () => {
  assert.equal(moved("ArrowLeft", 0, 12, 5), 0);
  assert.equal(moved("ArrowDown", 9, 12, 5), 9);
  assert.equal(moved("ArrowUp", 2, 12, 5), 2);
  assert.equal(moved("Tab", 2, 12, 5), -1);
  assert.equal(moved("Enter", 2, 12, 5), -1);
});
