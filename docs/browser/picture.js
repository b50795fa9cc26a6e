// A picture -> what the network is given, as the file beside the model describes it: the steps and the rounding of
// Pillow, so that browser and Python give the same answer. Plain functions, no page.

const FILTERS = {
  1: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) }, // Lanczos
  2: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) }, // bilinear
  3: { support: 2, weight: cubic },
  4: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) }, // box
  5: { support: 1, weight: (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0) }, // Hamming
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function cubic(x) {
  const d = Math.abs(x);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

/** For each of `to` places: the first of `from` places that counts, and the weights of it and those after it. */
function weights(from, to, { support, weight }) {
  const scale = from / to;
  const wide = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support * wide + 0.5));
    const last = Math.min(from, Math.trunc(center + support * wide + 0.5));
    const raw = Array.from({ length: last - first }, (_, i) => weight((first + i - center + 0.5) / wide));
    const total = raw.reduce((sum, value) => sum + value, 0);
    return { first, values: raw.map((value) => roundHalfAway((value / total) * 2 ** 22)) };
  });
}

function roundHalfAway(value) {
  return Math.trunc(value + (value < 0 ? -0.5 : 0.5));
}

/** One direction of a resize: `lines` lines of `from` RGB points, `step` and `stride` apart, become `to` points long. */
function along(pixels, { from, to, lines, step, stride, filter }) {
  const out = new Uint8ClampedArray(lines * to * 3);
  const [outStep, outStride] = step === 3 ? [3, to * 3] : [lines * 3, 3];
  weights(from, to, filter).forEach(({ first, values }, place) => {
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** 21;
        let at = first * step + line * stride + channel;
        for (const value of values) {
          sum += pixels[at] * value;
          at += step;
        }
        out[place * outStep + line * outStride + channel] = Math.floor(sum / 2 ** 22);
      }
    }
  });
  return out;
}

/** RGB points of width x height as toWidth x toHeight, rounded after each direction as Pillow does. */
export function resize(pixels, width, height, toWidth, toHeight, resample) {
  if (resample === 0) return nearest(pixels, width, height, toWidth, toHeight);
  const filter = FILTERS[resample];
  if (!filter) throw new Error(`The model asks for the resampling ${resample}, which is none of Pillow's.`);
  let points = pixels;
  if (toWidth !== width) {
    points = along(points, { from: width, to: toWidth, lines: height, step: 3, stride: width * 3, filter });
  }
  if (toHeight !== height) {
    points = along(points, { from: height, to: toHeight, lines: toWidth, step: toWidth * 3, stride: 3, filter });
  }
  return points;
}

function nearest(pixels, width, height, toWidth, toHeight) {
  const out = new Uint8ClampedArray(toWidth * toHeight * 3);
  for (let row = 0; row < toHeight; row++) {
    for (let column = 0; column < toWidth; column++) {
      const x = Math.floor(((column + 0.5) * width) / toWidth);
      const y = Math.floor(((row + 0.5) * height) / toHeight);
      for (let c = 0; c < 3; c++) out[(row * toWidth + column) * 3 + c] = pixels[(y * width + x) * 3 + c];
    }
  }
  return out;
}

/** RGB points cut from the center; black where the picture ends. */
function cropped(pixels, width, height, toWidth, toHeight) {
  const [left, top] = [Math.floor((width - toWidth) / 2), Math.floor((height - toHeight) / 2)];
  const out = new Uint8ClampedArray(toWidth * toHeight * 3);
  for (let row = 0; row < toHeight; row++) {
    for (let column = 0; column < toWidth; column++) {
      const [x, y] = [left + column, top + row];
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      for (let c = 0; c < 3; c++) out[(row * toWidth + column) * 3 + c] = pixels[(y * width + x) * 3 + c];
    }
  }
  return out;
}

/** What the model sees of RGB points, {pixels, width, height}, by `steps`: the `preprocessing` of the description. */
export function view(pixels, width, height, steps) {
  let seen = { pixels, width, height };
  if (steps.do_resize) {
    let { width: toWidth, height: toHeight, shortest_edge: edge } = steps.size;
    if (edge) {
      const longer = Math.trunc((edge * Math.max(width, height)) / Math.min(width, height));
      [toWidth, toHeight] = width <= height ? [edge, longer] : [longer, edge];
    }
    const points = resize(pixels, width, height, toWidth, toHeight, steps.resample);
    seen = { pixels: points, width: toWidth, height: toHeight };
  }
  if (steps.do_center_crop) {
    const { width: toWidth, height: toHeight } = steps.crop_size;
    const points = cropped(seen.pixels, seen.width, seen.height, toWidth, toHeight);
    seen = { pixels: points, width: toWidth, height: toHeight };
  }
  return seen;
}

/** RGB points (a Uint8ClampedArray of width * height * 3) -> Float32Array (3, height, width), `pixel_values`. */
export function pixelValues(pixels, width, height, steps) {
  const seen = view(pixels, width, height, steps);
  const count = seen.width * seen.height;
  const out = new Float32Array(3 * count);
  for (let channel = 0; channel < 3; channel++) {
    const mean = steps.do_normalize ? steps.image_mean[channel] : 0;
    const deviation = steps.do_normalize ? steps.image_std[channel] : 1;
    const factor = steps.do_rescale ? steps.rescale_factor : 1;
    for (let i = 0; i < count; i++) {
      out[channel * count + i] = (seen.pixels[i * 3 + channel] * factor - mean) / deviation;
    }
  }
  return out;
}

/** Logits -> probabilities, by the name of the function that the description gives. */
export function probabilities(logits, name) {
  if (name === "sigmoid") return logits.map((value) => 1 / (1 + Math.exp(-value)));
  const most = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - most));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}
