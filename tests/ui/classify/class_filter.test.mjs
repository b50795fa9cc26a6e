import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { wanted } = functions("classify/class_filter.js", "wanted");

test("a part of any of its words finds a class, in any case", () => {
  assert.equal(wanted("egyptian cat mammal", "CAT"), true);
  assert.equal(wanted("egyptian cat mammal", "dog"), false);
});

test("nothing typed, or blanks, hides nothing", () => {
  assert.equal(wanted("goldfish", ""), true);
  assert.equal(wanted("goldfish", "  "), true);
});
