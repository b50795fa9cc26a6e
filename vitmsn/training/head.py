"""Fit a linear classifier on a frozen backbone, with calibrated probabilities.

head.run("FOLDERS", "runs/taught", model="runs/mine/model")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitmsn import checkpoint, lowshot
from vitmsn.data import DataSet, open_data
from vitmsn.encoder import Encoder
from vitmsn.training import calibration, card
from vitmsn.training.calibration import Calibration


@dataclass(frozen=True)
class HeadResult:
    """A model folder with a new head, fitted on ``pictures``, with the ``penalty`` of ``lowshot.linear_probe``."""

    model: Path
    source: str
    classes: tuple[str, ...]
    pictures: int
    penalty: float
    card: dict[str, Any]
    calibration: Calibration

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": str(self.model),
            "source": self.source,
            "classes": len(self.classes),
            "pictures": self.pictures,
            "penalty": self.penalty,
            "temperature": round(self.calibration.temperature, 4),
            "not_sure_below": self.calibration.not_sure_below,
            "held_out": self.calibration.held_out,
        }


def run(
    data: str | Path | DataSet,
    out: str | Path,
    *,
    model: str | Path | None = None,
    kinds: Mapping[str, Sequence[str]] | None = None,
    split: str | None = None,
    held_out: float = 0.05,
    seed: int = 0,
    device: str = "auto",
    dtype: torch.dtype = torch.float16,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], object] | None = None,
) -> HeadResult:
    """Fit a head on labelled pictures, and write backbone and head to the folder ``out``; it may be that of ``model``.

    Args:
        data: a data set, or what :func:`vitmsn.data.open_data` opens; its classes become the model's.
        model: the backbone, a folder, a file or a hub id; None: the embedded one. Its MSN head and card stay.
        kinds: wider names for classes, for the model's card: {"pet": ["cat", "dog"]}.
        held_out: share of each class, drawn by ``seed``, that is not trained on, to measure and calibrate with.
        dtype: of the weights in the file.
        progress: called with (what, done, total).

    Raises:
        DataError: fewer than two classes, a class without pictures, or kinds of other classes.
    """
    dataset = data if isinstance(data, DataSet) else open_data(data, split)
    classes = dataset.classes
    card.check_classes(dataset)
    card.check_kinds(kinds or {}, classes)
    train, queries = dataset.split(held_out, seed)
    card.check_every_class_has_pictures(classes, train.labels)  # now, not after minutes
    source = checkpoint.embedded() if model is None else model
    loaded, encoder = checkpoint.load(source), Encoder.from_pretrained(source, device, "float32")

    seen, asked = (lowshot.extract(encoder, part, progress=progress) for part in (train, queries))
    card.check_every_class_has_pictures(classes, seen.y)
    for text in (*dataset.skipped, *seen.skipped, *asked.skipped):
        say(f"left out {text}")
    probe = lowshot.linear_probe(seen.X, seen.y, asked.X, asked.y, seed=seed, progress=progress)
    linear = {"weight": torch.from_numpy(probe.weight), "bias": torch.from_numpy(probe.bias)}
    logits = torch.nn.functional.linear(torch.from_numpy(asked.X), **linear)
    measured = calibration.measure(logits, torch.from_numpy(asked.y))

    about = {**loaded.card, "not_sure_below": measured.not_sure_below, "held_out": measured.held_out}
    before = {label for labels in about.get("kinds", {}).values() for label in labels}
    if kinds:
        about["kinds"] = {kind: list(labels) for kind, labels in kinds.items()}
    elif not before <= set(classes):
        del about["kinds"]
        say(f"the kinds of {loaded.source} are of other classes and are left out; give some with --kinds")
    checkpoint.save(
        Path(out),
        replace(loaded.config.with_labels(id2label=dict(enumerate(classes))), problem_type=None),
        loaded.tensors,
        classifier=calibration.fold_temperature(linear, measured.temperature),
        msn_head=loaded.msn_head,
        feature_mean=loaded.feature_mean,
        processor=loaded.processor,
        temperature=loaded.temperature,
        sharpening=loaded.sharpening,
        card=about,
        dtype=dtype,
    )
    return HeadResult(Path(out), loaded.source, classes, len(seen.y), probe.penalty, about, measured)
