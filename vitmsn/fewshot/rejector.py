"""Rejector for "none of these": it stands beside the classifier, whose `predict` always names a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from vitmsn.errors import FewShotError
from vitmsn.fewshot.copies import near_copies
from vitmsn.fewshot.geometry import Array, blocks, centered, class_distances, fold_geometry, top, unit

TOWARDS = 0.3  # share of the way from the examples' own distances to those of other classes that is accepted


class Rejector(BaseEstimator):
    """Rejector for "none of these": a row is rejected when it is too far from every example.

    Two distances set the limit. The first is how far each example is from the others, without its near-copies, because
    a burst of one thing does not show how much that thing varies. The second is how far the classes are apart: a row
    nearer than ``TOWARDS`` of the way from the first to the second is accepted, however alike the examples are. Where
    classes overlap, the first distance decides alone.

    caution: share of the examples, 0..1, that may be rejected when held out; the larger, the sooner a row is rejected.
    n_neighbors: the distance is that to the n-th nearest example. center: the model's feature mean (D,), or None for
    the mean of the classes' means. A kNN distance beside a simple classifier is the strongest inductive open-set
    detector at few shots (arXiv 2206.09236).
    """

    def __init__(self, caution: float = 0.05, n_neighbors: int = 1, center: ArrayLike | None = None):
        self.caution = caution
        self.n_neighbors = n_neighbors
        self.center = center

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, groups: ArrayLike | None = None) -> Rejector:
        """Learn from the examples X (N, D), at least two, of classes y (N,); without y, of one class.

        groups: (N,) numbers that near-copies share, found by ``near_copies`` unless given. Sets ``threshold_`` (a
        cosine distance) and ``distances_`` (G,): of each group of near-copies to the other examples, where its class
        has another group.
        """
        if not 0 <= self.caution <= 1 or self.n_neighbors < 1:
            raise FewShotError(
                f"caution={self.caution} and n_neighbors={self.n_neighbors} came: "
                "caution must lie in 0..1 and n_neighbors be at least 1."
            )
        rows: Array = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=0)
        if len(rows) < 2:
            raise FewShotError(f"n_samples={len(rows)} came: 'none of these' needs at least 2 examples to compare.")
        labels = np.zeros(len(rows), np.intp) if y is None else np.asarray(y)
        codes = np.unique(labels, return_inverse=True)[1]
        group = near_copies(rows, labels, self.center) if groups is None else np.asarray(groups)
        self.center_, Z, S = centered(rows, codes, self.center)
        self.rows_ = unit(Z)
        _, first, group, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
        distance = np.empty(len(rows))
        for block in blocks(np.arange(len(Z)), len(Z)):
            _, cosine = fold_geometry(Z, S, block)
            cosine[group[block][:, None] == group] = -np.inf
            k = min(self.n_neighbors, len(rows))
            best = np.partition(cosine, -k, axis=1)[:, -k:]
            distance[block] = 1 - np.where(np.isfinite(best), best, np.inf).min(axis=1)  # the k-th, or the last
        several = np.bincount(codes[first])[codes[first]] > 1  # (G,) groups whose class has another one
        own = np.bincount(group, distance)[several] / size[several]
        apart = float(np.median(np.bincount(group, class_distances(self.rows_, codes)) / size))
        self.distances_ = own
        usual = float(np.quantile(own, 1 - self.caution)) if len(own) else 0.0
        self.threshold_ = usual + max(0.0, apart - usual) * TOWARDS * (1 - self.caution)
        return self

    def score(self, X: ArrayLike) -> Array:
        """Cosine distance (Q,), 0..2, of each row to its n-th nearest example."""
        check_is_fitted(self)
        rows: Array = validate_data(self, X, reset=False, dtype=self.center_.dtype)
        similarity, _ = top(unit(rows - self.center_), self.rows_, self.n_neighbors)
        return 1 - similarity[:, -1]

    def reject(self, X: ArrayLike) -> Array:
        """True (Q,) for each row that is none of the classes."""
        return self.score(X) > self.threshold_
