import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { between, joined } = functions("learn/frames.js", "between", "joined");

test("new frames follow those that are there, and replace those they repeat", () => {
  assert.deepEqual(joined([], 0, ["a", "b"]), ["a", "b"]);
  assert.deepEqual(joined(["a", "b"], 2, ["c"]), ["a", "b", "c"]);
  assert.deepEqual(joined(["a", "b"], 1, ["b", "c"]), ["a", "b", "c"]);
  assert.deepEqual(joined(["a", "b"], 0, ["a"]), ["a"]);
});

test("frames after a gap are not taken", () => {
  assert.equal(joined(["a"], 3, ["d"]), null);
});

test("a picture moves from one frame to the next and arrives", () => {
  assert.deepEqual(between([[0, 0]], [[1, 2]], 0), [[0, 0]]);
  assert.deepEqual(between([[0, 0]], [[1, 2]], 1), [[1, 2]]);
  const [[x, y]] = between([[0, 0]], [[1, 2]], 0.5);
  assert.ok(x > 0.5 && x < 1 && y === 2 * x);
});
