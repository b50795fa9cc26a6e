import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { labelPlaces } = functions("explore/label_places.js", "labelPlaces");
const at = (name, x, y) => ({ name, x, y, wide: 100 });
const places = (...labels) => labelPlaces(labels, 300, 200, 18).map(({ name, x, y }) => [name, x, y]);

test("a name that would be cut moves into the map", () => {
  assert.deepEqual(places(at("a", 10, 100), at("b", 290, 3)), [["a", 54, 100], ["b", 246, 9]]);
});

test("names do not cover one another", () => {
  assert.deepEqual(places(at("a", 150, 100), at("b", 160, 102), at("c", 140, 95)), [["a", 150, 100], ["b", 160, 120], ["c", 140, 77]]);
});

test("a place outside the map, when it is zoomed, has no name", () => {
  assert.deepEqual(places(at("a", -20, 100), at("b", 150, 201)), []);
});

test("where all is full, a name stays at its place", () => {
  const many = Array.from({ length: 9 }, (_, place) => at(`${place}`, 150, 100));
  assert.deepEqual(places(...many).at(-1), ["8", 150, 100]);
});
