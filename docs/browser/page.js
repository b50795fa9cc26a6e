// The page: a picture in, the model's answer out. Nothing leaves the browser.

import * as ort from "./ort/ort.wasm.min.mjs";
import { pixelValues, probabilities } from "./picture.js";

const SHOWN = 5; // classes
const MOST = 4000; // pixels of a picture's longer side; larger ones are reduced first
const find = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;

ort.env.wasm.numThreads = 1; // more would need special headers from the server
const ready = open();
ready.catch((error) => say(`The model cannot be opened: ${error.message}`));

async function open() {
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error("model.json and model.onnx are not beside this page; see below how to make them.");
  const about = await answer.json();
  if (!about.labels.length) throw new Error("it has no classes; convert one with a classifier, or with --set.");
  const session = await ort.InferenceSession.create(new URL(about.file, new URL("model.json", location.href)).href);
  find("classes").textContent = `${about.model}: ${about.labels.length} classes`;
  find("choose").disabled = false;
  say("Choose a picture, drop one or paste it.");
  return { about, session };
}

/** The RGB points of a picture file, upright, on white. */
async function points(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) rgb[3 * i + channel] = rgba[4 * i + channel];
  }
  return { rgb, width, height };
}

async function classify(file) {
  say("Looking ...");
  const { about, session } = await ready;
  let picture;
  try {
    picture = await points(file);
  } catch {
    say(`${file.name || "That"} is not a picture that this browser can read; choose a JPEG, PNG or WebP.`);
    return;
  }
  find("picture").src = URL.createObjectURL(file);
  find("picture").hidden = false;
  const [, , height, width] = about.inputs.pixel_values;
  const values = pixelValues(picture.rgb, picture.width, picture.height, about.preprocessing);
  const started = performance.now();
  const found = await session.run({ pixel_values: new ort.Tensor("float32", values, [1, 3, height, width]) });
  const milliseconds = performance.now() - started;
  const shares = probabilities(Array.from(found.logits.data), about.probabilities);
  const best = shares.map((share, place) => ({ share, label: about.labels[place] })).sort((a, b) => b.share - a.share);
  show(best, about.sure_from);
  find("time").textContent = `${Math.round(milliseconds)} ms in this browser`;
  say("");
}

function show(best, sureFrom) {
  const [first] = best;
  const sure = sureFrom === null || first.share >= sureFrom;
  find("answer").textContent = sure ? first.label : `Not sure. Closest: ${first.label}`;
  find("list").replaceChildren(
    ...best.slice(0, SHOWN).map(({ label, share }) => {
      const row = document.createElement("li");
      const [name, bar, number] = ["span", "progress", "span"].map((tag) => document.createElement(tag));
      name.textContent = label;
      bar.max = 1;
      bar.value = share;
      bar.setAttribute("aria-label", label);
      number.textContent = percent(share);
      row.append(name, bar, number);
      return row;
    }),
  );
  find("result").hidden = false;
}

function say(text) {
  find("status").textContent = text;
}

function take(files) {
  if (files.length) classify(files[0]).catch((error) => say(`That did not work: ${error.message}`));
}

find("choose").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", (event) => take(event.target.files));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));
