"""Clouds of rows, and the classifiers that learn them."""

from __future__ import annotations

import numpy as np

from vitmsn.fewshot import CentroidClassifier, KNNClassifier, LogisticClassifier, RidgeClassifier

ALL = [KNNClassifier, CentroidClassifier, RidgeClassifier, LogisticClassifier]


def blobs(sizes, dim=20, spread=0.8, seed=0, dtype=np.float64):
    """Clouds around random points, away from the origin, with class sizes ``sizes``."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.normal(size=(len(sizes), dim))[y] * spread + rng.normal(size=(len(y), dim)) + 3).astype(dtype), y
