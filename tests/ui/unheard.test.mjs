import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../support/functions.mjs";

const { unheard } = functions("unheard.js", "unheard");

test("only what is new is said, in the order of the page", () => {
  assert.equal(unheard(["It is a cat.", "3 of 4 right."], []), "It is a cat. 3 of 4 right.");
  assert.equal(unheard(["It is a cat.", "4 of 4 right."], ["It is a cat.", "3 of 4 right."]), "4 of 4 right.");
  assert.equal(unheard(["It is a cat."], ["It is a cat."]), "");
});
