"""From labeled rows to a lesson: the classifier, how far to trust it, and its predictions."""

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
from vitmsn.fewshot.copies import group_means, near_copies
from vitmsn.fewshot.evaluation import LearningCurve, LeaveOneOut, judge, learning_curve, lonely, percent
from vitmsn.fewshot.geometry import Array, nearest, unit
from vitmsn.fewshot.rejector import Rejector

ENOUGH = 3  # examples in the smallest class from which leave-one-out and "none of these" are meaningful
METHODS = ("auto", "knn", "centroid", "ridge", "logistic", "pixels")
NOT_SURE, NONE = "not sure", "none of these"  # why a prediction has no label
SURE = 0.2  # share of the way from guessing to certain: below it a prediction is a guess
ALIKE = 0.95  # mean cosine between examples, around the feature mean, above which the model hardly separates them


def automatic(shots: int, center: ArrayLike | None = None) -> CentroidClassifier | RidgeClassifier:
    """The classifier for ``shots`` examples in the smallest class: centroids at one or two, ridge from three on."""
    if shots < 1:
        raise FewShotError(f"shots={shots} came: every class needs at least one example.")
    return CentroidClassifier(center=center) if shots <= 2 else RidgeClassifier(center=center)


def choose_center(shots: int, feature_mean: ArrayLike | None) -> ArrayLike | None:
    """What to center on: the model's feature mean while there are few examples, then (None) the examples' own means.

    Pictures of one kind (digits, textures) lie together far from the mean of all pictures: around that mean they all
    look alike, and a penalty that keeps weights small hides what tells them apart.
    """
    return feature_mean if shots < ENOUGH else None


def pixel_classifier(dim: int) -> KNNClassifier:
    """The baseline on raw pixels (rows of length ``dim``): the nearest pictures by plain cosine, nothing learned."""
    return KNNClassifier(n_neighbors=5, temperature=0.01, center=np.zeros(dim))


@dataclass(frozen=True)
class Prediction:
    """The prediction for one query. ``label`` is None where no class is named; ``closest`` is the most probable one.

    ``neighbors``: the most similar examples, as (index among the lesson's rows, cosine similarity), best first.
    """

    label: str | None
    closest: str
    probability: float  # of `closest`, calibrated, 0..1
    probabilities: Array  # (C,)
    neighbors: tuple[tuple[int, float], ...]
    reason: str = ""  # why `label` is None: NOT_SURE or NONE
    distance: float | None = None  # to the nearest example, as the rejector measures it, 0..2; None without a rejector
    limit: float | None = None  # the distance from which on it is "none of these"

    def sentence(self) -> str:
        """The prediction as text."""
        if self.reason == NONE:
            return f"None of these: {self.far()}. Closest match: {self.closest}."
        if self.label is None:
            return f"Not sure. Closest match: {self.closest} ({percent(self.probability)})."
        return f"{self.label} ({percent(self.probability)})."

    def far(self) -> str:
        """The distance to the examples, as text."""
        return f"distance {self.distance:.2f} to the nearest example, limit {self.limit:.2f}"

    def to_dict(self, lesson: Lesson) -> dict[str, Any]:
        """For JSON, with the names of the examples that ``lesson`` was given."""
        near = [(lesson.examples[index], value) for index, value in self.neighbors] if lesson.examples else []
        return {
            "label": self.label,
            "reason": self.reason,
            "closest": self.closest,
            "probability": round(self.probability, 6),
            "distance": None if self.distance is None else round(self.distance, 6),
            "limit": None if self.limit is None else round(self.limit, 6),
            "probabilities": {
                label: round(float(share), 6) for label, share in zip(lesson.classes, self.probabilities, strict=True)
            },
            "neighbors": [{"file": e.name, "label": e.label, "similarity": round(value, 6)} for e, value in near],
            "sentence": self.sentence(),
        }


@dataclass(frozen=True)
class Lesson:
    """A classifier, how it did on examples it had not seen, and when it says "none of these".

    Near-copies, as the frames of a burst, are learned as one example, their mean: they share a number in ``groups``.
    """

    method: str  # the classifier's name in METHODS, never "auto"
    classifier: FewShotClassifier
    judged: LeaveOneOut  # for each of the N rows; near-copies are held out together and counted once
    rejector: Rejector | None  # None with fewer than ENOUGH pictures in a class
    rows: Array  # (N, D) what it learned from: embeddings, or pixels where `method` is "pixels"
    labels: Array  # (N,)
    groups: Array  # (N,) from 0: near-copies share a number
    counts: dict[str, int]  # pictures of each class, in the order of their first
    pixels: LeaveOneOut | None  # the baseline's judgement, None without pixels
    reason: str  # why this method, in a few words; "" where it was asked for
    examples: tuple[Any, ...] = ()  # what the rows are of, where it was given

    @property
    def different(self) -> dict[str, int]:
        """Examples of each class, near-copies counted once."""
        first = np.unique(self.groups, return_index=True)[1]
        found = Counter(self.labels[first].tolist())
        return {label: found[self._raw(label)] for label in self.counts}

    def _raw(self, label: str) -> Any:
        return next(one for one in self.classifier.classes_.tolist() if str(one) == label)

    @property
    def shots(self) -> int:
        """Examples in the smallest class, near-copies counted once."""
        return min(self.different.values())

    @property
    def few(self) -> list[str]:
        """Classes with too few examples to judge by."""
        return [label for label, count in self.different.items() if count < ENOUGH]

    @property
    def classes(self) -> list[str]:
        """Columns of the probabilities."""
        return [str(label) for label in self.classifier.classes_]

    @property
    def sure_from(self) -> float:
        """The probability from which a prediction is more than a guess: a fifth of the way from guessing to certain,
        and farther with few examples, whose probabilities are rough: 1 / sqrt(their number). It is 1 where
        leave-one-out does no better than guessing: then no prediction is.
        """
        guessing = 1 / len(self.classes)
        if not self.few and not self.judged.informative:
            return 1.0
        return guessing + (1 - guessing) * max(SURE, 1 / float(np.sqrt(self.groups.max() + 1)))

    @property
    def scale(self) -> str:
        """What the similarities of ``Prediction.neighbors`` are, in words."""
        if self.method == "pixels":
            return "cosine of raw pixels; pictures alike in brightness come near 1"
        if self.classifier.center is None:
            return "cosine around the mean of the classes; 1 is the same, 0 unrelated"
        return "cosine around the model's mean of all pictures; 1 is the same, 0 unrelated"

    def sentence(self) -> str:
        """Accuracy on held-out examples, as text; with too few examples it says so."""
        if self.few:
            names = ", ".join(self.few[:3]) + (f" and {len(self.few) - 3} more" if len(self.few) > 3 else "")
            return f"Fewer than {ENOUGH} different examples per class ({names}): too few to judge."
        return self.judged.sentence()

    def near_copies(self) -> str:
        """A note on near-copies and what to do about them; "" where there are none."""
        said = []
        alone = np.bincount(self.groups)[self.groups] == 1
        for label, count in self.counts.items():
            own = self.labels == self._raw(label)
            copies, groups = int((own & ~alone).sum()), len(np.unique(self.groups[own & ~alone]))
            if copies:
                of = "the" if copies == count else f"{copies} of the"
                said.append(
                    (copies, f"{of} {count} pictures of {label} are near-copies of one another and count as {groups}")
                )
        if not said:
            return ""
        said.sort(key=lambda one: -one[0])
        more = f", and so in {len(said) - 3} more classes" if len(said) > 3 else ""
        text = "; ".join(words for _, words in said[:3]) + more
        advice = "; take pictures that differ more" if 2 * (~alone).sum() >= len(self.groups) else ""
        return f"{text[0].upper()}{text[1:]}{advice}."

    def to_dict(self) -> dict[str, Any]:
        """For JSON: method, classes with their counts and accuracy, leave-one-out, notes."""
        shares = [None if np.isnan(share) else round(share, 6) for share in self.judged.class_accuracy.tolist()]
        different = self.different
        return {
            "method": self.method,
            "why": self.reason,
            "classes": [
                {"label": label, "examples": self.counts[label], "different": different[label], "accuracy": share}
                for label, share in zip(self.classes, shares, strict=True)
            ],
            "leave_one_out": {**self.judged.to_dict(), "sentence": self.sentence()},
            "near_copies": self.near_copies(),
            "sure_from": round(self.sure_from, 6),
        }

    @property
    def linear(self) -> bool:
        """Whether it can be saved as a checkpoint: a linear classifier on the model's embeddings."""
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
        distance = self.rejector.score(rows) if self.rejector else None
        similarity, index = nearest(self.rows, rows, n_neighbors, center=self.classifier.center_)
        return [
            self._said(row, None if distance is None else float(distance[i]), index[i], similarity[i])
            for i, row in enumerate(probabilities)
        ]

    def _said(self, probabilities: Array, distance: float | None, index: Array, similarity: Array) -> Prediction:
        best = int(probabilities.argmax())
        closest, probability = self.classes[best], float(probabilities[best])
        limit = self.rejector.threshold_ if self.rejector else None
        reason = NOT_SURE if probability < self.sure_from else ""
        if distance is not None and limit is not None and distance > limit:
            reason = NONE
        return Prediction(
            label=None if reason else closest,
            closest=closest,
            probability=probability,
            probabilities=probabilities,
            neighbors=tuple((int(i), float(value)) for i, value in zip(index, similarity, strict=True)),
            reason=reason,
            distance=distance,
            limit=limit,
        )

    def curve(self, seed: int = 0) -> LearningCurve:
        """Accuracy over the number of different examples: whether more will help."""
        return learning_curve(self.classifier, *self._different(), seed)

    def lonely(self) -> Array:
        """Rows unlike all others of their class, the most distant first; of near-copies the first."""
        first = np.unique(self.groups, return_index=True)[1]
        return first[lonely(*self._different(), center=self.classifier.center_)]

    def _different(self) -> tuple[Array, Array]:
        """(rows, labels) with the mean of near-copies in their place."""
        first = np.unique(self.groups, return_index=True)[1]
        return group_means(self.rows, self.groups), self.labels[first]


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

    method: one of ``METHODS``. "auto" takes centroids at one or two examples in the smallest class and ridge above;
    and raw pixels, where they were given and do better: by leave-one-out, or, while there is too little to judge by,
    because the model finds all examples alike. feature_mean: the model's, or None; see ``choose_center``. k and
    temperature: of "knn". caution: share of the examples that "none of these" may cost. pixels: raw pixels (N, P) of
    the same pictures, as a baseline, and to tell near-copies by, which are learned as one. examples: what the rows
    are of. Raises FewShotError for fewer than two classes and for what is not offered.

    Example:
        >>> lesson = learn([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], ["cat", "cat", "dog", "dog"])
        >>> lesson.method, lesson.answer([[0.2, 1.0]])[0].closest
        ('centroid', 'dog')
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
    raw = None if pixels is None else np.asarray(pixels, np.float32)
    groups = near_copies(rows, labels, feature_mean, raw)
    first = np.unique(groups, return_index=True)[1]
    X_of, y_of = group_means(rows, groups), labels[first]  # what is learned: one row for each group of near-copies
    shots, reason = min(Counter(y_of.tolist()).values()), ""
    middle = choose_center(shots, feature_mean)
    classifier: FewShotClassifier | None = None
    baseline = on_pixels = judged = None
    if raw is not None:
        pixels_of = group_means(raw, groups)
        baseline = pixel_classifier(raw.shape[1]).fit(pixels_of, y_of)
        on_pixels = judge(baseline, pixels_of, y_of)
    if method != "pixels":
        classifier = _estimator(method, shots, middle, k, temperature).fit(X_of, y_of)
        judged = judge(classifier, X_of, y_of)
    if method == "auto" and judged is not None:
        method = "centroid" if isinstance(classifier, CentroidClassifier) else "ridge"
        reason = f"{shots} {'example' if shots == 1 else 'examples'} in the smallest class"
        if len(first) < len(rows):
            reason += ", near-copies counted once"
        if on_pixels is not None and (better := _better_on_pixels(on_pixels, judged, shots, X_of, feature_mean)):
            method, reason = "pixels", better
    if method == "pixels":
        assert raw is not None
        classifier, judged, rows, feature_mean = baseline, on_pixels, raw, np.zeros(raw.shape[1], np.float32)
    assert classifier is not None and judged is not None
    rejector = None
    if min(counts.values()) >= ENOUGH:
        # unknown pictures are told apart around the mean of all pictures, not around the examples' own
        rejector = Rejector(caution, center=feature_mean).fit(rows, labels, groups)
    return Lesson(
        method=method,
        classifier=classifier,
        judged=judged.spread(groups),
        rejector=rejector,
        rows=rows,
        labels=labels,
        groups=groups,
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
    """The reason to learn raw pixels instead of the model's embeddings; "" where there is none.

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
