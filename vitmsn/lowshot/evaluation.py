"""All protocols on one model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitmsn.data import DataSet
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.lowshot.features import FEATURES, extract
from vitmsn.lowshot.few_labels import low_shot, shots_name
from vitmsn.lowshot.neighbors import knn_accuracy
from vitmsn.lowshot.probe import linear_probe
from vitmsn.lowshot.report import Report, ReportRow
from vitmsn.lowshot.rows import Array, Progress, codes_of


def evaluate(
    encoder: Encoder,
    train: DataSet,
    test: DataSet,
    *,
    features: Sequence[str] = ("post-layernorm",),
    shots: Sequence[int | float] = (1, 2, 5, 0.01),
    splits: int = 3,
    seed: int = 0,
    k: int = 20,
    knn: bool = True,
    probe: bool = True,
    centering: str = "row",
    progress: Progress | None = None,
) -> Report:
    """All protocols on one model; pictures are decoded and encoded once for each kind of features.

    Args:
        train, test: labelled data sets; their classes are matched by name.
        shots: labels per class, or a share of them below 1. More than the smallest class has is left out, and noted.
    """
    codes_of(_names(train, train.labels[train.labels >= 0]), _names(test, test.labels[test.labels >= 0]))  # fail early
    report = None
    for name in features:
        train_X, train_labels, train_skipped = extract(encoder, train, name, progress)
        test_X, test_labels, test_skipped = extract(encoder, test, name, progress)
        train_y, test_y = _names(train, train_labels), _names(test, test_labels)
        if report is None:
            classes, counts = np.unique(train_y, return_counts=True)
            fewest, smallest = int(counts.min()), str(classes[counts.argmin()])
            report = Report(encoder.name, len(train_y), len(test_y), len(classes))
            report.notes.extend(f"left out {reason}" for reason in (*train_skipped, *test_skipped))
            report.notes.extend(
                f"left out {shots_name(number)}: {smallest} has {fewest} pictures"
                for number in shots
                if number > fewest
            )
            possible = [number for number in shots if number <= fewest]
        data = train_X, train_y, test_X, test_y
        for number, wanted in enumerate(possible, start=1):
            row = low_shot(*data, wanted, splits=splits, seed=seed, centering=centering, features=name)
            report.rows.append(row)
            if progress is not None:
                progress("low-shot", number, len(possible))
        if knn:
            report.rows.append(ReportRow(name, f"kNN, k = {k}", len(train_y), (knn_accuracy(*data, k=k),)))
        if probe:
            fitted = linear_probe(*data, seed=seed, progress=progress)
            report.rows.append(ReportRow(name, "linear, all labels", len(train_y), (fitted.top1,), fitted.top5))
    if report is None:
        raise InputError(f"No features were asked for; choose some of {', '.join(FEATURES)}.")
    return report


def _names(dataset: DataSet, labels: Array) -> Array:
    """Places -> names, so that two data sets with their own order of classes agree."""
    return np.array(dataset.classes)[labels] if len(labels) else np.zeros(0, dtype=str)
