"""Few-shot learning on frozen features: from labeled rows to a lesson: predictions, and how far to trust them.

    learn(X, y) -> Lesson: the classifier, its leave-one-out, "none of these", raw pixels to compare with
    lesson.answer(queries) -> predictions with calibrated probability and the nearest examples

Each part has its own file, and all are public here: the lesson (``lesson``), four scikit-learn estimators
(``classifiers``), how far to trust them (``evaluation``), when to name nothing (``rejector``), and the geometry that
they share (``geometry``).

A name is imported when it is first used: scikit-learn takes a second, which a page or a command that learns nothing
need not wait for.

Example:
    >>> from vitmsn.fewshot import KNNClassifier
    >>> knn = KNNClassifier(n_neighbors=1).fit([[1.0, 0.1], [0.9, 0.0], [0.1, 1.0]], ["cat", "cat", "dog"])
    >>> knn.predict([[0.0, 0.8]]).tolist()
    ['dog']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitmsn.fewshot.classifiers import (
        CentroidClassifier,
        FewShotClassifier,
        KNNClassifier,
        LogisticClassifier,
        RidgeClassifier,
    )
    from vitmsn.fewshot.copies import near_copies
    from vitmsn.fewshot.evaluation import (
        LearningCurve,
        LeaveOneOut,
        learning_curve,
        leave_one_out,
        lonely,
        wilson_interval,
    )
    from vitmsn.fewshot.geometry import nearest
    from vitmsn.fewshot.lesson import (
        ENOUGH,
        METHODS,
        NONE,
        NOT_SURE,
        Lesson,
        Prediction,
        automatic,
        choose_center,
        learn,
        pixel_classifier,
    )
    from vitmsn.fewshot.rejector import Rejector

__all__ = [
    "ENOUGH",
    "METHODS",
    "NONE",
    "NOT_SURE",
    "CentroidClassifier",
    "FewShotClassifier",
    "KNNClassifier",
    "LearningCurve",
    "LeaveOneOut",
    "Lesson",
    "LogisticClassifier",
    "Prediction",
    "Rejector",
    "RidgeClassifier",
    "automatic",
    "choose_center",
    "learn",
    "learning_curve",
    "leave_one_out",
    "lonely",
    "near_copies",
    "nearest",
    "pixel_classifier",
    "wilson_interval",
]

_NAMES_OF = {
    "classifiers": (
        *("CentroidClassifier", "FewShotClassifier", "KNNClassifier", "LogisticClassifier", "RidgeClassifier"),
    ),
    "copies": ("near_copies",),
    "evaluation": ("LearningCurve", "LeaveOneOut", "learning_curve", "leave_one_out", "lonely", "wilson_interval"),
    "geometry": ("nearest",),
    "lesson": (
        *("ENOUGH", "METHODS", "NONE", "NOT_SURE", "Lesson", "Prediction"),
        *("automatic", "choose_center", "learn", "pixel_classifier"),
    ),
    "rejector": ("Rejector",),
}
_HOME = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
