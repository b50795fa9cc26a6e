"""Learning anew when examples change: the classifier of few-shot, at 10,000 examples, and the whole lesson at 2,000.

    python -m benchmarks fewshot_refit         half a minute on two cores

Rows of the embedded model's width in 20 classes that overlap. The first claim is beside scikit-learn's way to the same,
a logistic regression with probabilities calibrated on held-out rows; the others are beside a time: 300 ms, within which
an answer seems to come at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression

from benchmarks import Figure, Row, in_turn, milliseconds, speedup
from vitmsn import fewshot

CLASSES, WIDTH = 20, 192
AT_ONCE = 0.3  # seconds


def examples(count: int, classes: int = CLASSES, width: int = WIDTH) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(rows (count, width), classes (count,)), around a mean that all have in common."""
    draw = np.random.default_rng(0)
    middle = draw.normal(size=width) + 0.5 * draw.normal(size=(classes, width))
    y = np.arange(count) % classes
    return (middle[y] + draw.normal(size=(count, width))).astype(np.float32), y


def rows(quick: bool = False) -> Iterator[Row]:
    rounds = 3 if quick else 10
    X, y = examples(10_000)
    mean = X.mean(axis=0)
    calls = {
        "ridge": lambda: fewshot.RidgeClassifier().fit(X, y),
        "centered": lambda: fewshot.RidgeClassifier(center=mean).fit(X, y),
        "logistic": lambda: CalibratedClassifierCV(LogisticRegression(max_iter=1000), cv=5).fit(X, y),
    }
    times = in_turn(calls, rounds)
    claim = f"few-shot refit, 10,000 examples in {CLASSES} classes"
    said = (milliseconds(times, name) for name in ("ridge", "logistic"))
    yield Row(f"{claim}: over scikit-learn's calibrated logistic", *said, speedup(times, "ridge", "logistic"), 1.0)
    for name in ("ridge", "centered"):
        yield _within(f"{claim}: {name}, over 300 ms", times[name], 1.0)
    some = slice(None, 2000)
    times = in_turn({"lesson": lambda: fewshot.learn(X[some], y[some], feature_mean=mean)}, rounds)
    claim = f"the whole lesson, judged and with its limit, 2,000 examples in {CLASSES} classes, over 300 ms"
    yield _within(claim, times["lesson"], None)


def _within(claim: str, seconds: NDArray[np.float64], least: float | None) -> Row:
    ours = f"{1000 * float(np.median(seconds)):.3g} ms"
    return Row(claim, ours, f"{1000 * AT_ONCE:.0f} ms", Figure.of(AT_ONCE / seconds), least)
