import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { zoomed, moveView, matches } = functions("explore/zoom.js", "zoomed", "moveView", "matches");
const whole = { scale: 1, x: 0, y: 0 };

test("zooming keeps the middle of the screen where it is", () => {
  const near = zoomed({ scale: 2, x: 30, y: -10 }, 2);
  assert.deepEqual({ ...near }, { scale: 4, x: 60, y: -20 });
  assert.deepEqual({ ...zoomed(near, 0.01) }, whole);
  assert.equal(zoomed(near, 1000).scale, 16);
});

test("moving stops at the edge of the map", () => {
  assert.deepEqual({ ...moveView(whole, 0.25, 0, 400, 200) }, { scale: 1, x: -100, y: 0 });
  assert.deepEqual({ ...moveView(whole, 9, -9, 400, 200) }, { scale: 1, x: -200, y: 100 });
});

test("a search finds classes and file names, in any order and case", () => {
  const point = { n: "IMG_1.jpg, Tabby cat" };
  assert.equal(matches(point, "cat img"), true);
  assert.equal(matches(point, ""), true);
  assert.equal(matches(point, "dog"), false);
});
