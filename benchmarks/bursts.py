"""Few-shot after a burst: what is rejected as "none of these", and how much near-copies count.

    python -m benchmarks.bursts [MODEL]        the embedded model, or another; two minutes on one core

Sets of two to four things, drawn from the photographs in scikit-image and scikit-learn. Each is learned from 20 frames
in one of seven camera settings, from ten varied examples, or from both. Queries are the same things, moved and relit,
moved twice as far, and all other things.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from vitmsn.encoder import Encoder
from vitmsn.fewshot import NONE, Lesson, learn
from vitmsn.gallery import raw_pixels
from vitmsn.image import Picture, decode

SETS, FRAMES, VARIED, ASKED = 100, 20, 10, 20
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "clock_motion", "coffee", "coins", "grass", "gravel", "horse", "ihc"),
    *("motorcycle_left", "retina", "rocket"),
)
# share of the picture that shifts, spread of brightness, noise, JPEG quality (0: none), spread of rotation in degrees
WAYS = {
    "still": (0, 0, 1.5, 92, 0),
    "tripod": (0.004, 0.01, 2, 0, 0),
    "noisy": (0.002, 0.005, 12, 80, 0),
    "flicker": (0.005, 0.06, 3, 92, 0),
    "hand": (0.02, 0.02, 3, 92, 0.5),
    "shaking hand": (0.05, 0.03, 3, 92, 1.5),
    "pan": (0, 0.01, 3, 92, 0),
}
MOVED, FAR = (0.12, 0.25, 2, 0, 0), (0.25, 0.2, 4, 85, 6)


def photographs() -> dict[str, Image.Image]:
    """Name -> picture of 320 x 240 pixels."""
    from skimage import data

    found = {}
    for name in PHOTOGRAPHS:
        files = [Path(data.__file__).parent / f"{name}.{kind}" for kind in ("png", "jpg")]
        found[name] = Image.open(next(file for file in files if file.is_file()))
    found |= {str(n): Image.fromarray(pixels) for n, pixels in enumerate(load_sample_images().images)}
    return {name: picture.convert("RGB").resize((320, 240)) for name, picture in found.items()}


def frames(picture: Image.Image, count: int, seed: int, way: str | Sequence[float]) -> list[Picture]:
    """Frames (count) of one thing, as a camera held in this way takes them."""
    rng, (width, height) = np.random.default_rng(seed), picture.size
    shift, light, noise, quality, turn = WAYS[way] if isinstance(way, str) else way
    made = []
    for at in np.linspace(0, 1, count):
        scale, left, top = 1 - rng.uniform(0, shift), rng.uniform(), rng.uniform()
        if way == "pan":
            scale, left, top = 0.8 + 0.1 * np.sin(3 * at), at, 0.5 + 0.5 * np.sin(2 * at)
        seen = picture.rotate(rng.normal(0, turn), Image.Resampling.BICUBIC) if turn else picture
        left, top = left * width * (1 - scale), top * height * (1 - scale)
        seen = seen.crop((left, top, left + width * scale, top + height * scale)).resize(picture.size)
        seen = ImageEnhance.Brightness(seen).enhance(max(0.2, 1 + rng.normal(0, light)))
        pixels = np.asarray(seen) + rng.normal(0, noise, (height, width, 3))
        seen = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        out = io.BytesIO()
        seen.save(out, "JPEG", quality=int(quality)) if quality else seen.save(out, "PNG")
        made.append(decode(out.getvalue(), name="frame"))
    return made


def turned_away(lesson: Lesson, rows: NDArray[np.float32]) -> float:
    """Share of rows rejected as "none of these"."""
    return float(np.mean([one.reason == NONE for one in lesson.answer(rows)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=None)
    encoder = Encoder.from_pretrained(parser.parse_args().model, "cpu", "float32")
    rows: dict[tuple[str, str], NDArray[np.float32]] = {}
    pixels: dict[tuple[str, str], NDArray[np.float32]] = {}
    things = photographs()
    for number, (name, picture) in enumerate(things.items()):
        asked = {"varied": (VARIED, MOVED), "moved": (ASKED, MOVED), "far": (ASKED, FAR)}
        ways = {way: (FRAMES, way) for way in WAYS} | asked
        for place, (key, (count, way)) in enumerate(ways.items()):
            seen = frames(picture, count, 100 * number + place, way)
            rows[name, key], pixels[name, key] = encoder.embed(seen), raw_pixels(seen)
    print("| examples | the same things, moved | moved farther | other things | count for |\n|---|---|---|---|---|")
    for title, kinds in (("a burst", ("burst",)), ("varied", ("varied",)), ("both", ("burst", "varied"))):
        found = []
        for seed in range(SETS):
            rng = np.random.default_rng(seed)
            count, names = int(rng.integers(2, 5)), [str(name) for name in rng.permutation(list(things))]
            own, way = names[:count], list(WAYS)[seed % len(WAYS)]
            keys = [(name, way if kind == "burst" else kind) for name in own for kind in kinds]
            X, P = (np.concatenate([kept[key] for key in keys]) for kept in (rows, pixels))
            y = np.repeat([name for name, _ in keys], [len(rows[key]) for key in keys])
            lesson = learn(X, y, "centroid", feature_mean=encoder.feature_mean, pixels=P)
            same, far = (np.mean([turned_away(lesson, rows[name, key]) for name in own]) for key in ("moved", "far"))
            others = np.mean([turned_away(lesson, rows[name, "moved"]) for name in names[count:]])
            found.append((same, far, others, (lesson.groups.max() + 1) / len(y)))
        same, far, others, share = 100 * np.mean(found, axis=0)
        print(f"| {title} | {same:.1f} % away | {far:.1f} % away | {others:.1f} % away | {share:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
