import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { wanted } = functions("classify/class_filter.js", "wanted");

test("a part of any word finds a class, ignoring case", () => {
  assert.equal(wanted("egyptian cat mammal", "CAT"), true);
  assert.equal(wanted("egyptian cat mammal", "dog"), false);
});

test("empty or blank text hides nothing", () => {
  assert.equal(wanted("goldfish", ""), true);
  assert.equal(wanted("goldfish", "  "), true);
});
