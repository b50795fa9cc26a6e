"""Masked views of a picture beside the full one: one, several, and over all mask ratios."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitmsn import image
from vitmsn.classification import Classification
from vitmsn.encoder import Encoder
from vitmsn.image import ImageSource
from vitmsn.masking import Keep, keep_rows
from vitmsn.robustness.prediction import Assignment, Predictions, assignment, cross_entropies, predict

RATIOS = tuple(round(0.05 * step, 2) for step in range(20))  # 0 to 0.95
QUICK = 50  # milliseconds of a full view that is measured again and again along a curve
ROUNDS, FEWEST_ROUNDS = 9, 5  # of a measurement, and below which it is not steady
STEADY_SECONDS = 2.0  # for all of its rounds
CURVE_SECONDS = 10.0  # after which a curve is no longer measured steadily: others wait for the machine

Sampler = Callable[[float, int], np.ndarray]  # mask ratio, seed -> patches kept (K,)


# --- similarity ------------------------------------------------------------------------------------------------------


def cosine(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Cosine similarity of a row (1, D) to each of (N, D): (N,)."""
    norms = np.maximum(np.linalg.norm(one) * np.linalg.norm(many, axis=1), np.finfo(np.float32).tiny)
    return ((many @ one[0]) / norms).clip(-1, 1).astype(float)


def centered(encoder: Encoder, one: np.ndarray, many: np.ndarray) -> np.ndarray | None:
    """:func:`cosine` of what is left of embeddings (1, D) and (N, D) without the model's feature mean: (N,).

    All embeddings of a model have their mean in common, and where it is long any two pictures have a plain cosine near
    1. Around the mean two different pictures have 0 on average. None where the model has no feature mean.
    """
    mean = encoder.feature_mean
    return None if mean is None else cosine(one - mean, many - mean)


def others(encoder: Encoder, one: np.ndarray) -> float | None:
    """The plain cosine that other pictures have to this embedding (1, D) on average: what a similarity compares with.

    From the feature mean alone: the mean of ``x @ y`` over all y is ``x @ mean``, and embeddings of one model are about
    equally long (on Tiny ImageNet it is within 0.012 of the mean over 299 pictures, for each of 300). None without one.
    """
    mean = encoder.feature_mean
    if mean is None:
        return None
    return float((one[0] @ mean / max(float(one[0] @ one[0]), np.finfo(np.float32).tiny)).clip(-1, 1))


# --- one view --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A masked view of a picture beside the full one.

    Attributes:
        kept: (rows, columns) bool, True where a patch stays.
        full, masked: embeddings (1, D).
        similarity: their cosine.
        centered: the cosine around the model's feature mean; None where it has none.
        others: the cosine that other pictures have, see :func:`others`; None without a feature mean.
        before, after: the classification of both views; None without a classifier.
        assignment: the loss between them; None without prototypes.
        milliseconds: of one forward of the full and of the masked view, measured in turns; None where not asked for.
    """

    kept: np.ndarray
    full: np.ndarray
    masked: np.ndarray
    similarity: float
    centered: float | None = None
    others: float | None = None
    before: Classification | None = None
    after: Classification | None = None
    assignment: Assignment | None = None
    milliseconds: tuple[float, float] | None = None

    @property
    def count(self) -> int:
        """Patches kept."""
        return int(self.kept.sum())

    @property
    def total(self) -> int:
        return self.kept.size

    @property
    def keep_indices(self) -> np.ndarray:
        return np.flatnonzero(self.kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; null for what this model cannot say."""
        times = self.milliseconds or (None, None)
        return {
            "kept": self.count,
            "total": self.total,
            "similarity": _rounded(self.similarity),
            "similarity_centered": _rounded(self.centered),
            "similarity_others": _rounded(self.others),
            "milliseconds_full": _rounded(times[0], 3),
            "milliseconds_masked": _rounded(times[1], 3),
            "top_before": None if self.before is None else self.before.top(),
            "top_after": None if self.after is None else self.after.top(),
            **(dict.fromkeys(_ASSIGNED) if self.assignment is None else self.assignment.to_dict()),
        }


_ASSIGNED = ("cross_entropy", "cross_entropy_least", "cross_entropy_even", "prototypes")


def compare(
    encoder: Encoder, picture: ImageSource, keep_indices: Keep, *, top_k: int = 5, timed: bool = False
) -> Comparison:
    """Embed the full view and the view that keeps ``keep_indices`` (K,) or (1, K), and compare them.

    Args:
        top_k: classes of each view.
        timed: measure both views too, some forwards more.

    Example:
        >>> found = compare(Encoder.random(device="cpu"), np.zeros((64, 64, 3), dtype=np.uint8), [0, 1, 2, 3])
        >>> found.count, found.total
        (4, 64)

    Raises:
        InputError: a mask that this model's input does not have.
    """
    grid = encoder.grid()
    rows = keep_rows(keep_indices, 1, math.prod(grid))
    indices = np.arange(math.prod(grid)) if rows is None else rows[0]
    full = encoder.embed(picture)
    masked = full if len(indices) == math.prod(grid) else encoder.embed(picture, keep_indices=indices)
    kept = np.zeros(grid, dtype=bool)
    kept.flat[indices] = True
    around = centered(encoder, full, masked)
    before = after = None
    if encoder.has_classifier:
        before, after = encoder.classify_embeddings(np.concatenate([full, masked]), top_k=top_k)
    return Comparison(
        kept,
        full,
        masked,
        float(cosine(full, masked)[0]),
        None if around is None else float(around[0]),
        others(encoder, full),
        before,
        after,
        assignment(encoder, full, masked) if encoder.has_msn_head else None,
        times(encoder, picture, kept) if timed else None,
    )


def times(encoder: Encoder, picture: ImageSource, kept: np.ndarray) -> tuple[float, float]:
    """Milliseconds of the full view and of the one that keeps ``kept`` (rows, columns) bool, measured now.

    Medians of nine rounds, in turns, so that other work on the machine affects both; of fewer rounds, at least one,
    where nine take longer than two seconds.
    """
    full, masked = np.median(_rounds(encoder, picture, np.flatnonzero(kept)), axis=0)
    return float(full), float(full if kept.all() else masked)


def steady_times(encoder: Encoder, picture: ImageSource, keep_indices: np.ndarray) -> tuple[float, float] | None:
    """The same for the patches ``keep_indices`` (K,), or None where not even five rounds fit into two seconds: a model
    that slow is measured by itself, not beside an answer."""
    rounds = _rounds(encoder, picture, keep_indices)
    if len(rounds) < FEWEST_ROUNDS:
        return None
    full, masked = np.median(rounds, axis=0)
    return float(full), float(masked)


def _rounds(encoder: Encoder, picture: ImageSource, keep_indices: np.ndarray) -> list[list[float]]:
    picture = image.decode(picture)
    rounds: list[list[float]] = []
    end = time.monotonic() + STEADY_SECONDS
    while not rounds or (len(rounds) < ROUNDS and time.monotonic() < end):
        rounds.append([encoder.time(picture, keep_indices=keep, repeats=1) for keep in (None, keep_indices)])
    return rounds


# --- several views ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Views:
    """S masked views of a picture beside the full one. ``predictions``: of [full, *views], None without any head;
    ``cross_entropy``: (S,) nats, None without prototypes."""

    similarity: np.ndarray  # (S,) cosine to the full view
    predictions: Predictions | None
    cross_entropy: np.ndarray | None
    centered: np.ndarray | None = None  # (S,) the same around the model's feature mean; None where it has none
    others: float | None = None  # the similarity that other pictures have, to compare with, see `others`

    @property
    def same(self) -> np.ndarray | None:
        """(S,) bool: the answer is that of the full view."""
        return None if self.predictions is None else self.predictions.index[1:] == self.predictions.index[0]

    def to_dict(self) -> dict[str, Any]:
        """Over the masks: mean and least similarity, and the share that keeps the answer; null where unknown."""
        around = self.centered
        return {
            "draws": len(self.similarity),
            "similarity_mean": _rounded(self.similarity.mean()),
            "similarity_least": _rounded(self.similarity.min()),
            "similarity_centered_mean": None if around is None else _rounded(around.mean()),
            "similarity_centered_least": None if around is None else _rounded(around.min()),
            "answer_kept": None if self.same is None else _rounded(self.same.mean()),
        }


def views(encoder: Encoder, picture: ImageSource, kept: np.ndarray) -> Views:
    """Look at S masked views (S, K) of a picture; what each model can say of them."""
    picture = image.decode(picture)
    full = encoder.embed(picture)
    masked = encoder.embed([picture] * len(kept), keep_indices=kept)
    told = predict(encoder, np.concatenate([full, masked])) if encoder.has_classifier or encoder.has_msn_head else None
    surprise = None
    if encoder.has_msn_head:
        surprise = cross_entropies(encoder.assign_embeddings(full, sharpen=True), encoder.assign_embeddings(masked))
    around, elsewhere = centered(encoder, full, masked), others(encoder, full)
    return Views(cosine(full, masked), told, surprise, around, elsewhere)


# --- over the mask ratio ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CurvePoint:
    """Similarity, answers and time at one mask ratio, over some masks.

    Attributes:
        kept: patches left, K.
        views: of every draw.
        milliseconds: of one such view, measured; ideal: of the full view, times the share of tokens left. Where it is
            quick both are measured in turns, so that other work on the machine affects both.
        steady: whether they are medians of at least five rounds; a curve of others says little.
    """

    ratio: float
    kept: int
    views: Views
    milliseconds: float
    ideal: float
    steady: bool = False


def curve(
    encoder: Encoder,
    picture: ImageSource,
    sample: Sampler,
    ratios: Iterable[float] = RATIOS,
    seeds: Sequence[int] = (0, 1, 2, 3),
) -> Iterator[CurvePoint]:
    """One point for each ratio, as soon as it is measured.

    Args:
        sample: draws the patches kept for a ratio and a seed.
    """
    picture = image.decode(picture)
    full = encoder.time(picture, repeats=2)
    quick = full < QUICK
    patches = math.prod(encoder.grid())
    until = time.monotonic() + CURVE_SECONDS
    for ratio in ratios:
        kept = np.stack([sample(ratio, seed) for seed in seeds])
        steady = steady_times(encoder, picture, kept[0]) if quick and time.monotonic() < until else None
        full, taken = steady or (full, encoder.time(picture, keep_indices=kept[0], repeats=1))
        ideal = full * (1 + kept.shape[1]) / (1 + patches)
        yield CurvePoint(ratio, kept.shape[1], views(encoder, picture, kept), taken, ideal, steady is not None)


@dataclass(frozen=True)
class MaskCurve:
    """All points of :func:`curve`."""

    points: Sequence[CurvePoint]

    def to_dict(self) -> dict[str, Any]:
        """A list for each quantity, with an entry for each mask ratio (and in it, one for each mask)."""
        views = [point.views for point in self.points]
        return {
            "mask_ratio": [point.ratio for point in self.points],
            "kept": [point.kept for point in self.points],
            "similarity": [_rounded_list(view.similarity) for view in views],
            "similarity_centered": [_rounded_list(view.centered) for view in views],
            "similarity_others": _rounded(views[0].others) if views else None,
            "answer_kept": [None if view.same is None else view.same.tolist() for view in views],
            "cross_entropy": [_rounded_list(view.cross_entropy) for view in views],
            "milliseconds": [_rounded(point.milliseconds, 3) for point in self.points],
            "milliseconds_ideal": [_rounded(point.ideal, 3) for point in self.points],
        }


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(float(value), digits)


def _rounded_list(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.astype(float).round(6).tolist()
