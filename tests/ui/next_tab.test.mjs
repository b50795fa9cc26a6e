import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../support/functions.mjs";

const { nextTab } = functions("next_tab.js", "nextTab");

test("arrow keys move by one, round the ends", () => {
  assert.equal(nextTab("ArrowRight", 1, 6), 2);
  assert.equal(nextTab("ArrowRight", 5, 6), 0);
  assert.equal(nextTab("ArrowLeft", 1, 6), 0);
  assert.equal(nextTab("ArrowLeft", 0, 6), 5);
});

test("Home and End move to the ends, and other keys are not taken", () => {
  assert.equal(nextTab("Home", 3, 6), 0);
  assert.equal(nextTab("End", 3, 6), 5);
  assert.equal(nextTab("ArrowDown", 3, 6), -1);
  assert.equal(nextTab("Tab", 3, 6), -1);
  assert.equal(nextTab("constructor", 3, 6), -1);
});
