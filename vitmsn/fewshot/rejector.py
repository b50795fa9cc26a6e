"""The word "none of these": a rejector beside the classifier, whose `predict` always names a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from vitmsn.errors import FewShotError
from vitmsn.fewshot.geometry import Array, blocks, centred, fold_geometry, top, unit


class Rejector(BaseEstimator):
    """The word "none of these": a row is rejected when it is farther from the examples than they are from each other.

    caution: share of the examples, 0..1, that would be rejected had they not been seen; 0 rejects only what is farther
    than every one of them. n_neighbors: the distance is that to the n-th nearest example. center: the model's feature
    mean (D,), or None for the mean of the examples. A kNN distance beside a simple classifier is the strongest
    inductive open-set detector at few shots (arXiv 2206.09236).
    """

    def __init__(self, caution: float = 0.05, n_neighbors: int = 1, center: ArrayLike | None = None):
        self.caution = caution
        self.n_neighbors = n_neighbors
        self.center = center

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Rejector:
        """Learn from the examples X (N, D), at least two; y is not used. Sets ``threshold_`` (a cosine distance)."""
        if not 0 <= self.caution <= 1 or self.n_neighbors < 1:
            raise FewShotError(
                f"caution={self.caution} and n_neighbors={self.n_neighbors} came: "
                "caution must lie in 0..1 and n_neighbors be at least 1."
            )
        rows: Array = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=0)
        if len(rows) < 2:
            raise FewShotError(f"n_samples={len(rows)} came: 'none of these' needs at least 2 examples to compare.")
        self.center_, Z, S = centred(rows, np.zeros(len(rows), np.intp), self.center)
        self.rows_ = unit(Z)
        k = min(self.n_neighbors, len(rows) - 1)
        distances = []
        for block in blocks(np.arange(len(Z)), len(Z)):
            _, cosine = fold_geometry(Z, S, block)
            cosine[np.arange(len(block)), block] = -np.inf
            distances.append(1 - np.partition(cosine, -k, axis=1)[:, -k])
        self.distances_ = np.concatenate(distances)  # (N,) of each example to the others
        self.threshold_ = float(np.quantile(self.distances_, 1 - self.caution))
        return self

    def score(self, X: ArrayLike) -> Array:
        """Cosine distance (Q,), 0..2, of each row to its n-th nearest example: the larger, the stranger."""
        check_is_fitted(self)
        rows: Array = validate_data(self, X, reset=False, dtype=self.center_.dtype)
        similarity, _ = top(unit(rows - self.center_), self.rows_, self.n_neighbors)
        return 1 - similarity[:, -1]

    def reject(self, X: ArrayLike) -> Array:
        """True (Q,) for each row that is none of the classes."""
        return self.score(X) > self.threshold_
