import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { tr, trNumber } = functions("locale/words.js", "tr", "trNumber");

function page(lang, words = {}) {
  globalThis.window = { msnWords: words };
  globalThis.document = { documentElement: { lang } };
}

test("a text without a translation stays, with its fields filled in", () => {
  page("en");
  assert.equal(tr("{count} of {total}", { count: 3, total: 9 }), "3 of 9");
  assert.equal(tr("{name} came", {}), "{name} came");
});

test("a translation has the same fields", () => {
  page("de", { "{count} of {total}": "{count} von {total}" });
  assert.equal(tr("{count} of {total}", { count: 0, total: 9 }), "0 von 9");
});

test("numbers get the decimal sign of the page's language", () => {
  page("en");
  assert.equal(trNumber("1.5 %"), "1.5\u00a0%");
  page("de");
  assert.equal(trNumber("1.5 %"), "1,5\u202f%");
});
