"""From labelled rows to a lesson: the classifier, how far to trust it, and what it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vitmsn.errors import FewShotError
from vitmsn.fewshot.classifiers import (
    CentroidClassifier,
    FewShotClassifier,
    KNNClassifier,
    LogisticClassifier,
    RidgeClassifier,
)
from vitmsn.fewshot.evaluation import LearningCurve, LeaveOneOut, judge, learning_curve, lonely
from vitmsn.fewshot.geometry import Array, nearest, unit
from vitmsn.fewshot.rejector import Rejector

ENOUGH = 3  # examples in the smallest class, from which leave-one-out and "none of these" mean something
METHODS = ("auto", "knn", "centroid", "ridge", "logistic", "pixels")
ALIKE = 0.95  # mean cosine between examples, around the feature mean, from which the model hardly tells them apart


def automatic(shots: int, center: ArrayLike | None = None) -> CentroidClassifier | RidgeClassifier:
    """The classifier for ``shots`` examples in the smallest class: centroids at one or two, ridge from three on."""
    if shots < 1:
        raise FewShotError(f"shots={shots} came: every class needs at least one example.")
    return CentroidClassifier(center=center) if shots <= 2 else RidgeClassifier(center=center)


def centre(shots: int, feature_mean: ArrayLike | None) -> ArrayLike | None:
    """What to centre on: the model's feature mean while there are few examples, then (None) the examples' own means.

    Pictures of one kind (digits, textures) lie together far from the mean of all pictures: around that mean they all
    look alike, and a penalty that keeps weights small hides what tells them apart.
    """
    return feature_mean if shots < ENOUGH else None


def pixel_classifier(dim: int) -> KNNClassifier:
    """The baseline on raw pixels (rows of length ``dim``): the nearest pictures by plain cosine, nothing learned."""
    return KNNClassifier(n_neighbors=5, temperature=0.01, center=np.zeros(dim))


@dataclass(frozen=True)
class Prediction:
    """What is said of one query. ``label`` is None for "none of these"; ``closest`` is the most probable class even so.

    ``neighbours``: the most similar examples, as (index among the lesson's rows, cosine similarity), best first.
    """

    label: str | None
    closest: str
    confidence: float  # of `closest`, calibrated, 0..1
    probabilities: Array  # (C,)
    neighbours: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Lesson:
    """A classifier, how it did on examples it had not seen, and when it says "none of these"."""

    method: str  # the classifier's name in METHODS, never "auto"
    classifier: FewShotClassifier
    judged: LeaveOneOut
    rejector: Rejector | None  # None with fewer than ENOUGH examples in a class
    rows: Array  # (N, D) what it learned from: embeddings, or pixels where `method` is "pixels"
    labels: Array  # (N,)
    counts: dict[str, int]  # examples of each class, in the order of their first
    pixels: LeaveOneOut | None  # the baseline's judgement, None without pixels
    reason: str  # why this method, in a few words; "" where it was asked for
    examples: tuple[Any, ...] = ()  # what the rows are of, where it was given

    @property
    def shots(self) -> int:
        """Examples in the smallest class."""
        return min(self.counts.values())

    @property
    def few(self) -> list[str]:
        """Classes with too few examples to judge by."""
        return [label for label, count in self.counts.items() if count < ENOUGH]

    @property
    def classes(self) -> list[str]:
        """Columns of the probabilities."""
        return [str(label) for label in self.classifier.classes_]

    @property
    def linear(self) -> bool:
        """Whether it can leave as a checkpoint: a linear classifier on the model's embeddings."""
        return self.method in ("centroid", "ridge", "logistic")

    def answer(self, X: ArrayLike, pixels: ArrayLike | None = None, n_neighbors: int = 3) -> list[Prediction]:
        """Embeddings (Q, D) of the same model -> one prediction each.

        pixels: raw pixels (Q, P) of the same pictures, needed (and then used instead) where ``method`` is "pixels".
        """
        if self.method == "pixels" and pixels is None:
            raise FewShotError("raw pixels were learned and none came: give the queries' pixels, or another method.")
        rows = np.asarray(pixels if self.method == "pixels" else X)
        if not len(rows):
            return []
        probabilities = self.classifier.predict_proba(rows)
        rejected = self.rejector.reject(rows) if self.rejector else np.zeros(len(rows), bool)
        similarity, index = nearest(self.rows, rows, n_neighbors, center=self.classifier.center_)
        classes, answers = self.classes, []
        for row, refused, near, values in zip(probabilities, rejected, index, similarity, strict=True):
            best = int(row.argmax())
            pairs = tuple((int(i), float(value)) for i, value in zip(near, values, strict=True))
            label = None if refused else classes[best]
            answers.append(Prediction(label, classes[best], float(row[best]), row, pairs))
        return answers

    def curve(self, seed: int = 0) -> LearningCurve:
        """Accuracy over the number of examples: whether more will help."""
        return learning_curve(self.classifier, self.rows, self.labels, seed)

    def lonely(self) -> Array:
        """Rows unlike all others of their class, the loneliest first."""
        return lonely(self.rows, self.labels, center=self.classifier.center_)


def learn(
    X: ArrayLike,
    y: ArrayLike,
    method: str = "auto",
    *,
    feature_mean: ArrayLike | None = None,
    k: int = 5,
    temperature: float = 0.07,
    caution: float = 0.05,
    pixels: ArrayLike | None = None,
    examples: Sequence[Any] = (),
) -> Lesson:
    """Fit and judge a classifier on embeddings X (N, D) with labels y (N,).

    method: one of ``METHODS``. "auto" takes centroids at one or two examples in the smallest class and ridge above; and
    raw pixels, where they were given and do better: by leave-one-out, or, while there is too little to judge by,
    because the model finds all examples alike. feature_mean: the model's, or None; see ``centre``. k, temperature: of
    "knn". caution: share of the examples that "none of these" may cost. pixels: raw pixels (N, P) of the same pictures,
    as a baseline. examples: what the rows are of. Raises FewShotError for fewer than two classes and for what is not
    offered.
    """
    rows, labels = np.asarray(X), np.asarray(y)
    if method not in METHODS:
        raise FewShotError(f"There is no method {str(method)[:32]!r}; choose one of {', '.join(METHODS)}.")
    if len(rows) != len(labels) or (pixels is not None and len(np.asarray(pixels)) != len(rows)):
        raise FewShotError(f"{len(rows)} rows came with {len(labels)} labels: give one label, and pixels, for each.")
    counts = {str(name): int(count) for name, count in Counter(labels.tolist()).items()}
    if len(counts) < 2:
        came = "one class" if counts else "no class"
        raise FewShotError(f"Pictures of {came} came; give pictures of at least two.")
    if method == "pixels" and pixels is None:
        raise FewShotError("The method is pixels and none came: give the pictures' raw pixels, or choose another one.")
    shots, reason = min(counts.values()), ""
    middle = centre(shots, feature_mean)
    classifier: FewShotClassifier | None = None
    baseline = on_pixels = judged = None
    if pixels is not None:
        raw = np.asarray(pixels, np.float32)
        baseline = pixel_classifier(raw.shape[1]).fit(raw, labels)
        on_pixels = judge(baseline, raw, labels)
    if method != "pixels":
        classifier = _estimator(method, shots, middle, k, temperature).fit(rows, labels)
        judged = judge(classifier, rows, labels)
    if method == "auto" and judged is not None:
        method = "centroid" if isinstance(classifier, CentroidClassifier) else "ridge"
        reason = f"{shots} {'example' if shots == 1 else 'examples'} in the smallest class"
        if on_pixels is not None and (better := _better_on_pixels(on_pixels, judged, shots, rows, feature_mean)):
            method, reason = "pixels", better
    if method == "pixels":
        classifier, judged, rows, feature_mean = baseline, on_pixels, raw, np.zeros(raw.shape[1], np.float32)
    assert classifier is not None and judged is not None
    return Lesson(
        method=method,
        classifier=classifier,
        judged=judged,
        # strangers lie elsewhere on the map of all pictures, which the examples' own mean does not know
        rejector=Rejector(caution, center=feature_mean).fit(rows) if shots >= ENOUGH else None,
        rows=rows,
        labels=labels,
        counts=counts,
        pixels=on_pixels,
        reason=reason,
        examples=tuple(examples),
    )


def _estimator(method: str, shots: int, center: ArrayLike | None, k: int, temperature: float) -> FewShotClassifier:
    if method == "auto":
        return automatic(shots, center=center)
    if method == "knn":
        return KNNClassifier(n_neighbors=k, temperature=temperature, center=center)
    kinds = {"centroid": CentroidClassifier, "ridge": RidgeClassifier, "logistic": LogisticClassifier}
    return kinds[method](center=center)


def _better_on_pixels(
    pixels: LeaveOneOut, model: LeaveOneOut, shots: int, rows: Array, feature_mean: ArrayLike | None
) -> str:
    """Why raw pixels should be learned instead of the model's embeddings, in words; "" where they should not.

    With enough examples they must be right more often than chance explains, by a paired sign test at one sigma.
    """
    if shots >= ENOUGH:
        won, lost = ((one.predictions == one.labels) & one.judged for one in (pixels, model))
        if won.sum() - lost.sum() > np.sqrt((won != lost).sum()):
            return f"raw pixels were right for {pixels.right} of {pixels.total} examples, the model for {model.right}"
        return ""
    similarity = _alike(rows, feature_mean)
    return f"the model finds all examples alike (mean similarity {similarity:.2f})" if similarity > ALIKE else ""


def _alike(rows: Array, feature_mean: ArrayLike | None) -> float:
    """Mean cosine (-1..1) between different examples around the feature mean; 0 without one."""
    if feature_mean is None or len(rows) < 2:
        return 0.0
    total = unit(rows - np.asarray(feature_mean, rows.dtype)).sum(axis=0)
    return float((total @ total - len(rows)) / (len(rows) * (len(rows) - 1)))
