import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { between } = functions("learn/frames.js", "between");

test("a picture moves from one frame to the next and arrives", () => {
  assert.deepEqual(between([[0, 0]], [[1, 2]], 0), [[0, 0]]);
  assert.deepEqual(between([[0, 0]], [[1, 2]], 1), [[1, 2]]);
  const [[x, y]] = between([[0, 0]], [[1, 2]], 0.5);
  assert.ok(x > 0.5 && x < 1 && y === 2 * x);
});
