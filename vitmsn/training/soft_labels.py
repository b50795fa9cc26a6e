"""Soft labels: which of the data's classes a picture could be, as a larger model's features tell.

    rows = cross_fitted(features, labels, classes=200)
    np.save("soft.npy", rows)                       # then: vitmsn distil --soft-labels soft.npy

A teacher's own classes are rarely those of the data, and small pictures look strange to it. A linear layer on its
features, fitted to the labels, tells more than the teacher's answers do. Each picture is judged by a layer that was
fitted without it (cross-fitting): one that had seen its label would only repeat that.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vitmsn.errors import DataError
from vitmsn.training.calibration import calibrate


def cross_fitted(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: int,
    *,
    folds: int = 5,
    penalty: float = 1e-2,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Probabilities of the classes for each picture, by logistic regressions that did not see its label.

    Args:
        features: (N, D) of any scale; each dimension is standardized.
        labels: (N,) from 0 to ``classes`` - 1, or -1: such a picture is judged by a layer fitted to all labels.
        folds: parts of the labeled pictures; each is judged by a layer that was fitted to the others.
        penalty: on the weights' squares, beside the mean loss of a picture.

    Returns:
        (N, classes), rows summing to 1, at the temperature that suits the labels best.

    Raises:
        DataError: labels that do not fit, or a class with fewer pictures than folds.
    """
    most = labels.max(initial=-1)
    if len(labels) != len(features) or most >= classes:
        raise DataError(
            f"{len(features)} rows of features came with {len(labels)} labels up to {most}, for {classes} classes."
        )
    known = labels >= 0
    counts = np.bincount(labels[known], minlength=classes)
    if counts.min() < folds:
        raise DataError(
            f"Class {counts.argmin()} has {counts.min()} labeled pictures; each of the {folds} folds needs one of "
            "every class: give more pictures, or fewer folds."
        )
    rows = np.asarray(features, np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (penalty * known.sum()), max_iter=1000, tol=1e-3))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    found = np.empty((len(rows), classes), np.float32)
    found[known] = cross_val_predict(model, rows[known], labels[known], cv=parts, method="predict_proba")
    if not known.all():
        found[~known] = model.fit(rows[known], labels[known]).predict_proba(rows[~known])
    logits = torch.from_numpy(found).clamp_min(1e-30).log()
    temperature = calibrate(logits[known], torch.from_numpy(labels[known].astype(np.int64)))
    return (logits / temperature).softmax(1).numpy()
