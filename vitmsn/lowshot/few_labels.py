"""The paper's protocol: a few labels of each class, drawn with a seed, and a logistic regression on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from vitmsn.errors import DataError, InputError
from vitmsn.lowshot.logistic import fit_logistic
from vitmsn.lowshot.report import ReportRow
from vitmsn.lowshot.rows import Array, blocks, checked, right_among, unit

PENALTY = 0.0025  # lambda of the original code
CENTERINGS = ("row", "data")


def prepare(train: Tensor, test: Tensor, centering: str = "row") -> tuple[Tensor, Tensor]:
    """Rows of length 1, each centered on its own mean ("row", as in the original) or on the training rows' ("data")."""
    if centering not in CENTERINGS:
        raise InputError(f"There is no centering {centering!r}; choose one of {', '.join(CENTERINGS)}.")
    if centering == "row":
        return unit(train - train.mean(1, keepdim=True)), unit(test - test.mean(1, keepdim=True))
    return unit(train - train.mean(0)), unit(test - train.mean(0))


def draw_shots(labels: ArrayLike, shots: int | float, seed: int = 0, split: int = 0) -> Array:
    """Indices, sorted, of a seeded draw: ``shots`` rows of each class, or a share of each class when below 1.

    A share rounds, but takes at least one row of each class. Raises DataError when a class has fewer rows than asked.
    """
    if not (shots >= 1 and shots == int(shots)) and not 0 < shots < 1:
        raise InputError(f"shots is {shots}; a whole number of at least 1, or a share between 0 and 1, is needed.")
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    generator = np.random.default_rng([seed, split])
    chosen = []
    for code, label in enumerate(classes):
        members = np.flatnonzero(codes == code)
        count = int(shots) if shots >= 1 else max(1, round(shots * len(members)))
        if count > len(members):
            raise DataError(f"{label!s} has {len(members)} training pictures, but {count} were asked for.")
        chosen.append(generator.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


def low_shot(
    train_X: ArrayLike,
    train_y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    shots: int | float,
    *,
    splits: int = 3,
    seed: int = 0,
    penalty: float = PENALTY,
    centering: str = "row",
    features: str = "",
) -> ReportRow:
    """The paper's protocol at ``shots`` labels a class (or, below 1, that share of the labels), on seeded splits.

    Args:
        features: the name of the features in the report.

    Raises:
        DataError: a class has fewer pictures than asked for.
    """
    if splits < 1:
        raise InputError(f"splits is {splits}; it must be at least 1.")
    rows, codes, queries, wanted, classes = checked(train_X, train_y, test_X, test_y)
    accuracies, chosen = [], np.zeros(0, np.int64)
    for split in range(splits):
        chosen = draw_shots(codes.numpy(), shots, seed, split)
        support, tested = prepare(rows[chosen], queries, centering)
        weight = fit_logistic(support, codes[chosen], len(classes), penalty / len(chosen))
        right = sum(right_among(tested[block] @ weight.T, wanted[block], 1) for block in blocks(len(tested)))
        accuracies.append(right / len(tested))
    return ReportRow(features, shots_name(shots), len(chosen), tuple(accuracies))


def shots_name(shots: int | float) -> str:
    """The name of a number of labels: "1 image per class", "1 % of labels"."""
    if shots < 1:
        return f"{100 * shots:g} % of labels"
    return f"{int(shots)} image{'' if shots == 1 else 's'} per class"
