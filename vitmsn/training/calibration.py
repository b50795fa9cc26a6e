"""Calibrate a classifier's probabilities, on pictures that it was not trained on.

Calibration divides the logits by one temperature (Guo et al. 2017), which is folded into the classifier, so that
whoever loads the model gets calibrated probabilities from its plain softmax. A second half of the held-out pictures
then chooses the probability below which an answer counts as "not sure".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn import checkpoint, lowshot
from vitmsn.classification import SINGLE
from vitmsn.data import DataSet, open_data
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, InputError
from vitmsn.training import card

NEVER = 1.1  # above every probability: no prediction is sure


@dataclass(frozen=True)
class Calibration:
    """A classifier on held-out pictures.

    Attributes:
        held_out: pictures, and the share of them whose class is the first (top1) or among the first five (top5).
        temperature: what to divide its logits by, see :func:`fold_temperature`.
        not_sure_below: probability from which on an answer is sure; :data:`NEVER` where no answer can be.
        notes: remarks for the user, in sentences.
    """

    held_out: dict[str, Any]
    temperature: float
    not_sure_below: float
    notes: tuple[str, ...] = ()


def measure(logits: Tensor, labels: Tensor) -> Calibration:
    """Accuracy, temperature and threshold from logits (N, classes) of held-out pictures and their labels (N,).

    Every second picture chooses the temperature, the others the threshold.
    """
    temperature = calibrate(logits[::2], labels[::2])
    notes: tuple[str, ...] = ()
    try:
        sure = sure_threshold((logits[1::2] / temperature).softmax(1), labels[1::2])
    except DataError as error:
        sure, notes = NEVER, (f"{error} It will always say that it is not sure.",)
    right = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    top1, top5 = (round(float(right[:, :k].any(1).float().mean()), 4) for k in (1, 5))
    return Calibration({"pictures": len(labels), "top1": top1, "top5": top5}, temperature, round(sure, 4), notes)


def run(
    source: str | Path,
    data: str | Path | DataSet,
    out: str | Path,
    *,
    split: str | None = None,
    share: float = 1.0,
    kinds: Mapping[str, Sequence[str]] | None = None,
    recipe: str | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[str, int, int], object] | None = None,
) -> Calibration:
    """Calibrate a classifier on pictures that it was not trained on, and write it to ``out``.

    Args:
        source: a folder, a file or a hub id.
        data: labelled pictures of the model's classes, by their names.
        share: of every class that is used; the rest stays unseen, to measure with.
        kinds: wider names for classes, for the model's card; None: those that it has.
        recipe: how pictures become its input from now on (``ViTMSNImageProcessor.with_recipe``); None: as before.
        dtype: of the weights in the file.

    Raises:
        MissingHeadError: the model has no classifier.
        DataError: no picture of its classes.
        InputError: a model without a classifier of which one class is right.
    """
    encoder, loaded = Encoder.from_pretrained(source, dtype="float32"), checkpoint.load(source)
    if recipe is not None:
        encoder.processor = encoder.processor.with_recipe(recipe)
    if encoder.problem_type != SINGLE:
        raise InputError(
            f"{encoder.name} is no classifier of which one class is right ({encoder.problem_type}); a temperature fits "
            "only such a one: choose another model."
        )
    dataset = data if isinstance(data, DataSet) else open_data(data, split)
    if share < 1:
        dataset = dataset.split(share)[1]
    card.check_kinds(kinds or {}, encoder.labels)
    rows = lowshot.extract(encoder, dataset, progress=progress)
    places = {label: place for place, label in enumerate(encoder.labels)}
    truth = torch.tensor([places.get(dataset.classes[label], -1) for label in rows.y.tolist()], dtype=torch.long)
    known = truth >= 0
    if not known.any():
        raise DataError(
            f"None of the classes of {dataset.name} is one of {encoder.name}'s; pictures of its classes are needed."
        )
    logits = torch.from_numpy(encoder.class_probabilities(rows.X)).clamp_min(1e-30).log()  # but for a constant
    measured = measure(logits[known], truth[known])
    about = {**loaded.card, "held_out": measured.held_out, "not_sure_below": measured.not_sure_below}
    if kinds:
        about["kinds"] = {kind: list(labels) for kind, labels in kinds.items()}
    kept = ("msn_head", "feature_mean", "temperature", "sharpening")
    checkpoint.save(
        out,
        loaded.config,
        loaded.tensors,
        classifier=fold_temperature(loaded.classifier, measured.temperature),
        card=about,
        processor=encoder.processor.to_dict(),
        dtype=dtype,
        **{name: getattr(loaded, name) for name in kept},
    )
    return measured


def calibrate(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that makes softmax(logits / T) fit held-out ``labels`` best (least cross-entropy).

    Args:
        logits: (N, classes) of pictures not trained on.  labels: (N,) int64.
    """
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    logits = logits.double()
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return float(log_temperature.detach().exp())


def fold_temperature(classifier: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """A linear head whose plain softmax is calibrated: weight and bias divided by the temperature."""
    return {name: tensor / temperature for name, tensor in classifier.items()}


def sure_threshold(probabilities: Tensor, labels: Tensor, precision: float = 3 / 4, least: int = 50) -> float:
    """The lowest top probability from which on answers are right at least ``precision`` of the time.

    Args:
        probabilities: (N, classes), calibrated, of pictures neither trained nor calibrated on.
        least: answers that a threshold must rest on.

    Raises:
        DataError: no threshold reaches the precision on ``least`` answers.
    """
    best, guess = probabilities.max(1)
    order = best.argsort(descending=True)
    right = (guess == labels)[order].double().cumsum(0) / torch.arange(1, len(labels) + 1)
    good = (right >= precision).nonzero().flatten()
    good = good[good >= least - 1]
    if not len(good):
        raise DataError(
            f"No {least} answers are right {precision:.0%} of the time; the classifier cannot be sure of any."
        )
    return float(best[order[good[-1]]])
