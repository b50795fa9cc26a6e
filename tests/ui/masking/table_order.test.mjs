import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { order } = functions("masking/table_order.js", "order");
const sorted = (...values) => values.sort(order);

test("numbers are ordered as numbers, not as words", () => {
  assert.deepEqual(sorted("10", "9", "-1", "0.5"), ["-1", "0.5", "9", "10"]);
});

test("words are ordered as words", () => {
  assert.deepEqual(sorted("teapot", "cat", "goldfish"), ["cat", "goldfish", "teapot"]);
});

test("missing values come first", () => {
  assert.deepEqual(sorted("0.3", "", "0.1"), ["", "0.1", "0.3"]);
});
