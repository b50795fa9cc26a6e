"""Few-shot accuracy on classes not seen in training: what labels add to MSN.

    python -m benchmarks.unseen [MODEL ...]        the embedded model and MSN alone, or others; two minutes on one core

Digits: 700 of scikit-learn's handwritten ones. Textures: 180 random crops of scikit-image's brick, grass and gravel.
Photographs: 40 random crops each of some of its photographs, to be told apart by what is on them. The classifier is the
automatic one. Examples are drawn ten times from each class; the rest are queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitmsn import checkpoint, fewshot
from vitmsn.encoder import Encoder

SHOTS, DRAWS = (1, 5, 10), 10
TEXTURES = ("brick", "grass", "gravel")
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "immunohistochemistry", "rocket")
Set = tuple[str, list[Image.Image], NDArray[np.str_]]


def sets(seed: int = 0) -> Iterator[Set]:
    """(name, pictures, labels) of each set."""
    from skimage import data
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    digits = load_digits()
    chosen = rng.permutation(len(digits.target))[:700]
    pictures = [Image.fromarray(np.uint8(digits.images[n] * 15)).resize((64, 64)).convert("RGB") for n in chosen]
    yield "digits", pictures, digits.target[chosen].astype(str)
    cut = (("textures", TEXTURES, 60, (0.25, 0.25)), ("photographs", PHOTOGRAPHS, 40, (0.35, 0.7)))
    for name, files, count, share in cut:
        crops = [crop for file in files for crop in _crops(Image.fromarray(getattr(data, file)()), count, share, rng)]
        yield name, crops, np.repeat(files, count)


def _crops(
    picture: Image.Image, count: int, share: tuple[float, float], rng: np.random.Generator
) -> Iterator[Image.Image]:
    """Random squares whose side is a ``share`` of the picture's shorter one."""
    picture = picture.convert("RGB")
    for _ in range(count):
        side = int(min(picture.size) * rng.uniform(*share))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        yield picture.crop((left, top, left + side, top + side))


def accuracy(encoder: Encoder, X: NDArray[np.float32], y: NDArray[np.str_], shots: int) -> float:
    """Mean accuracy over the draws, on the pictures that were not drawn."""
    found = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        drawn = np.concatenate([rng.permutation(np.flatnonzero(y == label))[:shots] for label in np.unique(y)])
        asked = np.setdiff1d(np.arange(len(y)), drawn)
        classifier = fewshot.automatic(shots, center=encoder.feature_mean)
        found.append((classifier.fit(X[drawn], y[drawn]).predict(X[asked]) == y[asked]).mean())
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[checkpoint.EMBEDDED, checkpoint.MSN_ONLY])
    models = parser.parse_args().models
    print("| right, %, by examples of each class | " + " | ".join(str(shots) for shots in SHOTS) + " |")
    print("|---" * (1 + len(SHOTS)) + "|")
    for name, pictures, y in sets():
        for model in models:
            encoder = Encoder.from_pretrained(model, "cpu", "float32")
            X = encoder.embed(pictures)
            row = [f"{100 * accuracy(encoder, X, y, shots):.1f}" for shots in SHOTS]
            print(f"| {name}, {encoder.name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
