"""How far to trust a few-shot classifier: leave-one-out, confusions, and what more examples would bring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from sklearn.base import clone

from vitmsn.errors import FewShotError
from vitmsn.fewshot.classifiers import FewShotClassifier
from vitmsn.fewshot.geometry import Array, centered, given_center, softmax, unit


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, from ``right`` of ``total`` observations (Wilson, 1927); (0, 1) without any."""
    if total == 0:
        return 0.0, 1.0
    found = binomtest(right, total).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class LeaveOneOut:
    """The prediction for each example by a classifier that has not seen it.

    Examples alone in their class are not judged: without them the class is unknown, and no answer could be right.
    Near-copies that were judged together (see ``spread``) share an answer and count as one example.
    """

    classes: Array  # (C,)
    labels: Array  # (N,) as given
    predictions: Array  # (N,)
    probabilities: Array  # (N, C); the one temperature was chosen on all judged rows
    judged: Array  # (N,) bool: the example's class has another one
    confusion: Array  # (C, C) judged examples, counted: rows as labelled, columns as predicted
    exact: bool  # every example was held out alone, or with its near-copies

    @property
    def right(self) -> int:
        """Judged examples predicted correctly."""
        return int(self.confusion.trace())

    @property
    def total(self) -> int:
        """Judged examples."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of judged examples predicted correctly, 0..1; NaN when none is judged."""
        return self.right / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``accuracy``; (0, 1) when none is judged."""
        return wilson_interval(self.right, self.total)

    @property
    def guessing(self) -> float:
        """Accuracy of guessing, 0..1: the better of a random class and always the largest one."""
        share = self.confusion.sum(axis=1).max(initial=0) / self.total if self.total else 0.0
        return float(max(share, 1 / len(self.classes)))

    @property
    def informative(self) -> bool:
        """Whether the classes' mean accuracy is above that of a guess by more than the guess's standard error."""
        share = 1 / len(self.classes)
        return bool(self.total and np.nanmean(self.class_accuracy) > share + np.sqrt(share * (1 - share) / self.total))

    @property
    def better_than_guessing(self) -> bool:
        """Whether even the lower end of ``interval`` is above the accuracy of guessing."""
        return bool(self.total and self.interval[0] > self.guessing)

    @property
    def class_accuracy(self) -> Array:
        """Accuracy (C,) within each class; NaN for a class of one example."""
        count = self.confusion.sum(axis=1)
        return np.divide(self.confusion.diagonal(), count, out=np.full(len(count), np.nan), where=count > 0)

    def suspects(self, probability: float = 0.6) -> Array:
        """Examples that may be mislabelled: another class at ``probability`` or more; the surest first."""
        best = self.probabilities.max(axis=1)
        index = np.flatnonzero(self.judged & (self.predictions != self.labels) & (best >= probability))
        return index[np.argsort(-best[index], kind="stable")]

    def spread(self, groups: Array) -> LeaveOneOut:
        """The same with a prediction for each of N examples, where this one judged groups of them: ``groups`` (N,)."""
        rows = {name: getattr(self, name)[groups] for name in ("labels", "predictions", "probabilities", "judged")}
        return replace(self, **rows)

    def sentence(self) -> str:
        """The result as text with its numbers: what was right, what to expect, and the accuracy of guessing."""
        if not self.total:
            return "Each class has a single example: add a second one to judge by leaving one out."
        low, high = self.interval
        said = f"{self.right} of {self.total} right ({percent(self.accuracy)}). "
        said += f"On new pictures expect {100 * low:.0f}\N{EN DASH}{percent(high)}; {self._guess()}"
        if not self.better_than_guessing:
            said += ", so this may be luck" if self.accuracy > self.guessing else ": this is no better"
        alone = int((~self.judged).sum())
        tail = f" {alone} alone in {'its' if alone == 1 else 'their'} class not judged." if alone else ""
        return f"{said}.{tail}{'' if self.exact else ' Held out in ten folds.'}"

    def _guess(self) -> str:
        """The accuracy of guessing, as text."""
        if self.guessing > 1 / len(self.classes) + 1e-9:
            largest = self.classes[self.confusion.sum(axis=1).argmax()]
            return f"always naming {largest} gets {percent(self.guessing)}"
        return f"guessing gets {percent(self.guessing)}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers as they are, None where nothing was judged."""
        return {
            "right": self.right,
            "total": self.total,
            "accuracy": round(self.accuracy, 6) if self.total else None,
            "interval": [round(end, 6) for end in self.interval],
            "guessing": round(self.guessing, 6),
            "better_than_guessing": self.better_than_guessing,
            "exact": self.exact,
            "confusion": self.confusion.tolist(),
        }


def percent(share: float) -> str:
    """A share as people read it: "65 %"."""
    return f"{100 * share:.0f} %"


def leave_one_out(estimator: FewShotClassifier, X: ArrayLike, y: ArrayLike) -> LeaveOneOut:
    """Judge a classifier of ``classifiers`` on its own examples, each held out when it is predicted.

    X: (N, D), y: (N,). The estimator is cloned, not changed. Predictions equal those of N separate refits; only a
    logistic classifier of more than 200 examples is held out in ten folds (``exact`` is then False).
    """
    if not isinstance(estimator, FewShotClassifier):
        raise FewShotError(
            f"{type(estimator).__name__} came: leave_one_out judges KNNClassifier, CentroidClassifier, RidgeClassifier "
            "and LogisticClassifier."
        )
    return judge(clone(estimator).fit(X, y), X, y)


def judge(fitted: FewShotClassifier, X: ArrayLike, y: ArrayLike) -> LeaveOneOut:
    """``leave_one_out`` of a classifier that was fitted on just these X and y: what ``fit`` computed is used again."""
    labels = np.asarray(y)
    exact = fitted._held_out_alone(len(labels))
    codes = np.searchsorted(fitted.classes_, labels)
    scores = fitted.held_out_scores_
    if scores is None:
        _, Z, S = centered(np.asarray(X, dtype=fitted.center_.dtype), codes, fitted.center)
        scores = fitted._held_out(Z, S, codes, np.arange(len(Z)))
    guess = scores.argmax(axis=1)
    judged = np.bincount(codes)[codes] > 1
    confusion = np.zeros((len(fitted.classes_),) * 2, np.int64)
    np.add.at(confusion, (codes[judged], guess[judged]), 1)
    return LeaveOneOut(
        classes=fitted.classes_,
        labels=labels,
        predictions=fitted.classes_[guess],
        probabilities=softmax(scores / fitted.temperature_),
        judged=judged,
        confusion=confusion,
        exact=exact,
    )


# --- examples that stand alone -------------------------------------------------------------------------------------


def lonely(X: ArrayLike, y: ArrayLike, center: ArrayLike | None = None) -> Array:
    """Examples unlike all others of their class, the most distant first.

    Their cosine distance to the nearest example of their own class lies beyond Tukey's fence, 1.5 interquartile ranges
    above the upper quartile of all such distances; needs four examples that have another of their class.
    """
    rows, labels = np.asarray(X), np.asarray(y)
    if len(rows) == 0:
        return np.zeros(0, np.intp)
    middle = rows.mean(axis=0) if center is None else given_center(center, rows)
    U = unit(rows - middle)
    distance = np.full(len(rows), np.nan)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) > 1:
            cosine = U[own] @ U[own].T
            np.fill_diagonal(cosine, -np.inf)
            distance[own] = 1 - cosine.max(axis=1)
    known = distance[~np.isnan(distance)]
    if len(known) < 4:
        return np.zeros(0, np.intp)
    low, high = np.quantile(known, [0.25, 0.75])
    index = np.flatnonzero(distance > high + 1.5 * (high - low) + 1e-6)  # NaN is not greater than anything
    return index[np.argsort(-distance[index], kind="stable")]


# --- would more examples help? -------------------------------------------------------------------------------------

POINTS = (1, 2, 3, 5, 8, 12, 20, 32, 50, 80, 128)  # examples of each class on a learning curve
ENOUGH = 0.97  # accuracy from which there is little left to gain
LEARNED = 0.75  # largest share of a class to learn from: the others are queries
DRAWS = 20  # of each number, fewer where there are many examples


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy on the other examples after learning from so many of each class, the mean of seeded draws."""

    classes: Array  # (C,)
    shots: tuple[int, ...]  # (P,) examples of each class; of a small class three in four at most
    accuracy: Array  # (P,) 0..1, all classes weighted equally
    error: Array  # (P,) standard error of its mean over the draws
    class_accuracy: Array  # (P, C)

    @property
    def rise(self) -> float:
        """Gain in accuracy by the last doubling of the examples (or the nearest step to one), in 0..1."""
        return float(self.accuracy[-1] - self.accuracy[self._half])

    @property
    def _half(self) -> int:
        return int(np.argmin([abs(np.log(2 * shots / self.shots[-1])) for shots in self.shots[:-1]]))

    @property
    def helps(self) -> bool:
        """Whether more examples should help: the last doubling gained over two points, beyond chance, below 97 %."""
        doubt = float(np.hypot(self.error[-1], self.error[self._half]))
        return bool(self.accuracy[-1] < ENOUGH and self.rise > max(0.02, 2 * doubt))

    @property
    def neediest(self) -> str:
        """The class that gained most by the last doubling; among equals the one with the lowest accuracy."""
        gain = self.class_accuracy[-1] - self.class_accuracy[self._half]
        return str(self.classes[np.lexsort((self.class_accuracy[-1], -gain.round(3)))[0]])

    def sentence(self) -> str:
        """Whether more examples will help, in one sentence with its numbers."""
        half, last = self.shots[self._half], self.shots[-1]
        before, now = percent(self.accuracy[self._half]), percent(self.accuracy[-1])
        said = f"From {half} to {last} examples of each class"
        if self.helps:
            return f"{said} it went from {before} to {now} right: more examples will help, most of {self.neediest}."
        if self.accuracy[-1] >= ENOUGH:
            return f"With {last} examples of each class {now} are right: there is little left to gain."
        if self.rise > 0.02:
            return f"{said} it went from {before} to {now} right, which may be chance: add some and ask again."
        stayed = f"it stayed at {now} right" if before == now else f"it did not rise: {before}, then {now} right"
        return f"{said} {stayed}. More examples like these will change little; different ones might help."


def learning_curve(estimator: FewShotClassifier, X: ArrayLike, y: ArrayLike, seed: int = 0) -> LearningCurve:
    """Accuracy over the number of examples of each class: learn from some, test on all others, several times.

    X: (N, D), y: (N,). Classes of one example are left out; the minimum is two classes, of two and three examples.
    """
    rows, labels = np.asarray(X), np.asarray(y)
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes, minlength=len(classes))
    keep = np.flatnonzero(counts > 1)
    if len(keep) < 2 or counts[keep].max() < 3:
        raise FewShotError(
            f"the largest class has {counts.max(initial=0)} examples: a learning curve needs three of one class and "
            "two of another."
        )
    room = np.minimum(np.ceil(LEARNED * counts).astype(int), counts - 1)  # (C,) learned of each class at most
    most = int(room.max())
    shots = (*(point for point in POINTS if point < most), min(most, POINTS[-1]))
    draws = int(np.clip(3000 // len(rows), 3, DRAWS))
    found = np.zeros((len(shots), draws, len(keep)))
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(len(rows))
        place = np.empty(len(rows), np.intp)  # of each row within its class, in this draw's order
        for code in keep:
            own = order[codes[order] == code]
            place[own] = np.arange(len(own))
        for number, point in enumerate(shots):
            learned = (place < np.minimum(point, room[codes])) & (counts[codes] > 1)
            asked = ~learned & (counts[codes] > 1)
            fitted = clone(estimator)
            fitted._fit(rows[learned], labels[learned])
            right = fitted.predict(rows[asked]) == labels[asked]
            total = np.bincount(codes[asked], minlength=len(classes))[keep]
            found[number, draw] = np.bincount(codes[asked], weights=right, minlength=len(classes))[keep] / total
    mean = found.mean(axis=2)
    return LearningCurve(
        classes=classes[keep],
        shots=shots,
        accuracy=mean.mean(axis=1),
        error=mean.std(axis=1, ddof=1) / np.sqrt(draws),
        class_accuracy=found.mean(axis=1),
    )
