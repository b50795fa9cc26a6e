"""Rows of features and their labels, checked: what every protocol starts from.

Letters: N training rows, M test rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vitmsn.errors import DataError, InputError

Array = NDArray[Any]
Progress = Callable[[str, int, int], object]  # (what, done, total)

BLOCK = 4096  # rows of one matrix product


def checked(
    train_X: ArrayLike, train_y: ArrayLike, test_X: ArrayLike, test_y: ArrayLike
) -> tuple[Tensor, Tensor, Tensor, Tensor, Array]:
    """Rows (N, D), codes (N,), queries (M, D), wanted codes (M,), and the classes (C,) that codes are places in.

    Raises:
        InputError: shapes that do not belong together, or values that are not finite.
        DataError: a class of the test rows that no training row has.
    """
    rows, labels = _checked_part(train_X, train_y, "training")
    queries, wanted = _checked_part(test_X, test_y, "test")
    if rows.shape[1] != queries.shape[1]:
        raise InputError(
            f"Training rows have {rows.shape[1]} features and test rows {queries.shape[1]}; take both from one model."
        )
    classes, codes, wanted_codes = codes_of(labels, wanted)
    return rows, codes, queries, wanted_codes, classes


def _checked_part(X: ArrayLike, y: ArrayLike, which: str) -> tuple[Tensor, Array]:
    rows, labels = np.asarray(X, np.float32), np.asarray(y)
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or not len(rows):
        raise InputError(
            f"The {which} rows are {rows.shape} and their labels {labels.shape}; (rows, features) and (rows,) are "
            "needed, with at least one row."
        )
    if not np.isfinite(rows).all():
        raise InputError(f"The {which} rows hold values that are not finite; look at the model that made them.")
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy()), labels


def codes_of(train_y: Array, test_y: Array) -> tuple[Array, Tensor, Tensor]:
    """(classes (C,), training codes (N,), test codes (M,)); every test label must have been trained on."""
    classes, train = np.unique(train_y, return_inverse=True)
    strange = np.setdiff1d(test_y, classes)
    if len(strange):
        names = ", ".join(str(label) for label in strange[:5])
        raise DataError(
            f"The test pictures have classes that no training picture has ({names}); give examples of each."
        )
    return classes, torch.from_numpy(train), torch.from_numpy(np.searchsorted(classes, test_y))


def unit(rows: Tensor) -> Tensor:
    """Each row scaled to length 1."""
    return torch.nn.functional.normalize(rows, dim=1)


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover 0 to ``count`` in order, at most ``size`` long."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def right_among(logits: Tensor, wanted: Tensor, k: int) -> int:
    """How many of ``wanted`` (M,) are among the k largest logits (M, C) of their row."""
    return int((logits.topk(min(k, logits.shape[1]), dim=1).indices == wanted.unsqueeze(1)).sum())
