import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { toggled, thinned } = functions("classroom/choices.js", "toggled", "thinned");

test("a square is dropped and comes back, in a new set", () => {
  const none = new Set();
  const one = toggled(none, 3, 6);
  assert.deepEqual([...one], [3]);
  assert.equal(none.size, 0);
  assert.deepEqual([...toggled(one, 3, 6)], []);
});

test("the last square that is left stays", () => {
  assert.deepEqual([...toggled(new Set([0, 1]), 2, 3)], [0, 1]);
  assert.deepEqual([...toggled(new Set([0, 1]), 1, 3)], [0]);
});

test("some are dropped at random, never one twice and never all", () => {
  const next = thinned(new Set([5]), 10, 64, () => 0.999);
  assert.equal(next.size, 11);
  assert.ok(next.has(5) && next.has(63) && !next.has(0));
  assert.deepEqual([...thinned(new Set([1]), 10, 4, () => 0)], [1, 0, 2]);
  assert.equal(thinned(new Set([0, 1, 2]), 10, 4).size, 3);
});
