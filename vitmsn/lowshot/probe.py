"""A linear classifier on all training rows, with a penalty that held-out rows choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vitmsn.errors import DataError
from vitmsn.lowshot.logistic import fit_logistic, objective, spread_of
from vitmsn.lowshot.rows import Array, Progress, blocks, checked, right_among

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # on standardized features and the mean loss
HELD_OUT = 0.05  # share of the training rows that chooses the penalty


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on raw features: ``logits = X @ weight.T + bias``.

    Attributes:
        top1, top5: accuracy on the test rows.
        weight, bias, classes: (C, D), (C,) float32, (C,).
        penalty: the one that was chosen, on standardized features and the mean loss.
        held_out: indices (H,) of the training rows that were held out to choose it.
        held_out_logits: (H, C) of those rows, by the classifier that had not seen them: a temperature and thresholds
            are chosen on these. The final weights come from all rows.
    """

    top1: float
    top5: float
    weight: Array
    bias: Array
    classes: Array
    penalty: float
    held_out: Array
    held_out_logits: Array


def linear_probe(
    train_X: ArrayLike,
    train_y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> LinearProbe:
    """Multinomial logistic regression on all training rows, standardized.

    The penalty of least cross-entropy on a held-out 5 % of the training rows is chosen, from strong to weak and each
    from the solution before, until it gets worse; then all rows are fitted.
    """
    rows, codes, queries, wanted, classes = checked(train_X, train_y, test_X, test_y)
    if len(rows) < 2 or len(classes) < 2:
        raise DataError(f"{len(rows)} rows of {len(classes)} class came; a linear probe needs two classes.")
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    deviation[deviation <= 1e-6 * mean.abs()] = 1  # a constant feature varies by rounding only
    ones = torch.ones(len(rows), 1)
    standard = torch.cat([(rows - mean).div_(deviation), ones], 1)

    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    held_out, kept = order.tensor_split([max(1, round(HELD_OUT * len(rows)))])
    X, y, spread = standard[kept], codes[kept], spread_of(standard)

    def fit(X: Tensor, y: Tensor, penalty: float, start: Tensor | None, iterations: int, tolerance: float) -> Tensor:
        return fit_logistic(
            X, y, len(classes), penalty, intercept=True, start=start, spread=spread,
            iterations=iterations, tolerance=tolerance,
        )  # fmt: skip

    best: tuple[float, float, Tensor] | None = None
    weight = None
    for number, penalty in enumerate(PENALTIES):
        if progress is not None:
            progress("linear probe", number, len(PENALTIES) + 1)
        weight = fit(X, y, penalty, weight, 60, 1e-5)
        loss, _ = objective(weight, standard[held_out], codes[held_out], 0.0, True)
        if best is not None and loss > best[0]:
            break
        best = loss, penalty, weight
    assert best is not None
    _, penalty, weight = best
    logits = standard[held_out] @ weight.T
    weight = fit(standard, codes, penalty, weight, 100, 1e-6)
    raw_weight = weight[:, :-1] / deviation
    raw_bias = weight[:, -1] - raw_weight @ mean
    answers = torch.cat([torch.addmm(raw_bias, queries[block], raw_weight.T) for block in blocks(len(queries))])
    if progress is not None:
        progress("linear probe", len(PENALTIES) + 1, len(PENALTIES) + 1)
    return LinearProbe(
        top1=right_among(answers, wanted, 1) / len(queries),
        top5=right_among(answers, wanted, 5) / len(queries),
        weight=raw_weight.numpy(),
        bias=raw_bias.numpy(),
        classes=classes,
        penalty=penalty,
        held_out=held_out.numpy(),
        held_out_logits=logits.numpy(),
    )
