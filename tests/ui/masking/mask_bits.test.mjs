import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { bits } = functions("masking/mask_bits.js", "bits");

test("each digit is four patches, the first one in the highest bit", () => {
  assert.deepEqual(bits("8f0"), [true, false, false, false, true, true, true, true, false, false, false, false]);
  assert.deepEqual(bits(""), []);
});
