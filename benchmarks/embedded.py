"""Accuracy of the embedded model: the figures of its card, on held-out pictures of its classes.

    python -m benchmarks.embedded DATA [--split validation] [--model MODEL ...]      two minutes a model on one core
    python -m benchmarks.embedded DATA --recipe squash --wider 1.333                 pictures seen in another way

DATA is any data set whose labels are among the model's classes; for the card, Tiny ImageNet's validation pictures.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score

from vitmsn import lowshot, masking
from vitmsn.data import DataSet, open_data
from vitmsn.encoder import Encoder
from vitmsn.image import RECIPES, Picture, decode

SURE = 0.5  # probability over which an answer counts as sure
RATIOS = (0.3, 0.5, 0.7)
BINS = 15  # of the calibration error
NEIGHBORS = 20


def calibration_error(probability: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Expected calibration error (Guo et al. 2017): mean |stated - right| over equal bins of the stated per cent."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [abs(probability[place == n].mean() - right[place == n].mean()) * (place == n).mean() for n in set(place)]
    return float(sum(gaps))


def widened(picture: Picture, times: float) -> Picture:
    """A picture ``times`` as wide, with its edges mirrored into the new sides: the shape of a photograph."""
    side = round(picture.rgb.width * (times - 1) / 2)
    return decode(np.pad(np.asarray(picture.rgb), ((0, 0), (side, side), (0, 0)), mode="reflect"), name=picture.name)


def measure(encoder: Encoder, dataset: DataSet, seed: int = 0, wider: float = 1.0) -> dict[str, Any]:
    """Every figure of one model; the names are the keys of the table."""
    pictures = [widened(decode(record.data, name=record.id), wider) for record in dataset]
    names, y = np.array(dataset.classes), dataset.labels
    X = encoder.embed(pictures)
    found: dict[str, Any] = {"pictures": len(y)}
    if encoder.labels:
        place = {label: n for n, label in enumerate(encoder.labels)}
        truth = np.array([place.get(name, -1) for name in names])[y]
        P = encoder.class_probabilities(X)
        best, top = P.argmax(1), np.argsort(-P, 1)[:, :5]
        right, sure = best == truth, P.max(1) > SURE
        found |= {"class": right.mean(), "among five": (top == truth[:, None]).any(1).mean()}
        found |= {"sure": sure.mean()} | ({"right when sure": right[sure].mean()} if sure.any() else {})
        found["calibration error"] = calibration_error(P.max(1), right)
        generator = torch.Generator().manual_seed(seed)
        for ratio in RATIOS:
            keep = masking.random_mask(encoder.grid(), ratio, generator, batch=len(y))
            masked = encoder.class_probabilities(encoder.embed(pictures, keep_indices=keep)).argmax(1)
            found[f"class, {ratio:.0%} dropped"] = (masked == truth).mean()
            if sure.any():
                found[f"same when sure, {ratio:.0%} dropped"] = (masked == best)[sure].mean()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    gallery, asked = np.split(order, [int(0.8 * len(y))])
    asked = asked[np.isin(y[asked], y[gallery])]
    found[f"kNN, {len(gallery)} as gallery"] = lowshot.knn_accuracy(X[gallery], y[gallery], X[asked], y[asked])
    if encoder.has_msn_head:
        assigned = encoder.assign_embeddings(X)
        mean, nearest = assigned.mean(0), assigned.argmax(1)
        found |= {
            "prototypes": assigned.shape[1],
            "prototypes in use": len(set(nearest.tolist())),
            "entropy of the mean assignment, nats": -(mean * np.log(mean + 1e-12)).sum(),
            "mutual information with the classes": normalized_mutual_info_score(y, nearest),
        }
    return {name: value if isinstance(value, int) else round(float(value), 4) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split")
    parser.add_argument("--model", nargs="+", default=[None], help="folders or hub ids; without it the embedded model")
    about = "share of the pictures that calibrated the model, as `calibrate --share` chose them; they are left out"
    parser.add_argument("--calibrated", type=float, default=0.0, help=about)
    parser.add_argument("--recipe", choices=RECIPES, help="how pictures are seen; without it as the model has it")
    about = "how many times as wide pictures are made, by mirroring their edges"
    parser.add_argument("--wider", type=float, default=1.0, help=about)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dataset = open_data(options.data, options.split)
    if options.calibrated:
        dataset = dataset.split(options.calibrated)[0]
    found = {}
    for source in options.model:
        encoder = Encoder.from_pretrained(source, "cpu", "float32")
        if options.recipe:
            encoder.processor = encoder.processor.with_recipe(options.recipe)
        found[encoder.name] = measure(encoder, dataset, wider=options.wider)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
    for key in dict.fromkeys(key for figures in found.values() for key in figures):
        print(f"| {key} | " + " | ".join(str(figures.get(key, "")) for figures in found.values()) + " |")


if __name__ == "__main__":
    main()
