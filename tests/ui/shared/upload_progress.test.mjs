import assert from "node:assert/strict";
import test from "node:test";
import { functions } from "../../support/functions.mjs";

const { uploadProgress } = functions("shared/upload_progress.js", "uploadProgress");

test("an upload's share and the seconds left follow from its pace", () => {
  assert.deepEqual(uploadProgress(250, 1000, 2000), { share: 0.25, left: 6 });
  assert.deepEqual(uploadProgress(1000, 1000, 4000), { share: 1, left: 0 });
  assert.deepEqual(uploadProgress(1200, 1000, 4000), { share: 1, left: 0 }); // the form around the file counts too
});

test("nothing is foretold from the first second, from no byte, or of an empty file", () => {
  assert.deepEqual(uploadProgress(250, 1000, 999), { share: 0.25, left: null });
  assert.deepEqual(uploadProgress(0, 1000, 5000), { share: 0, left: null });
  assert.deepEqual(uploadProgress(0, 0, 5000), { share: 0, left: null });
});
