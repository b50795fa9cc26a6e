"""Few-shot classifiers on frozen features: four scikit-learn estimators with one interface.

They share preprocessing (``geometry``) and calibration; a subclass learns and scores rows of length 1. Each computes
its scores for held-out rows, in closed form where there is one.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vitmsn.errors import FewShotError
from vitmsn.fewshot.geometry import (
    Array,
    blocks,
    centered,
    choose_temperature,
    conjugate_gradients,
    fold_geometry,
    fold_lengths,
    largest_columns,
    one_hot,
    ridge_without_rows,
    softmax,
    top,
    unit,
    weighted_center,
    weighted_median,
)

Fitted = TypeVar("Fitted", bound="FewShotClassifier")

CALIBRATION_ROWS = 1000  # held-out rows that choose the temperature; more change its second digit, and cost n each
CALIBRATION_PAIRS = 2_000_000  # of such a row with all rows: from 2000 rows on, fewer are held out, but EXACT_REFITS
EXACT_REFITS = 200  # the logistic classifier has no closed form: one refit per row up to here, ten folds above


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Base of the four: preprocessing, temperature, probabilities. A subclass learns and scores rows of length 1."""

    _fallback_temperature: float  # unsure rather than too sure: at one shot no row can be held out

    center: ArrayLike | None
    _start: Array | None = None  # coefficients that an iterative solver begins with, in refits

    def _learn(self, U: Array, codes: Array, weight: Array | None = None) -> None:
        """Fit to unit rows ``U`` (N, D) of class ``codes`` (N,), of which row i counts ``weight[i]`` > 0 times."""
        raise NotImplementedError

    def _scores(self, U: Array) -> Array:
        """Scores (Q, C) of unit rows; the largest names the class."""
        raise NotImplementedError

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        """Scores (R, C) of ``rows`` by classifiers that did not see them; -inf where a fold lacks the class."""
        raise NotImplementedError

    def _calibration_rows(self, codes: Array) -> Array:
        """Which rows choose the temperature."""
        if len(codes) <= CALIBRATION_ROWS:
            return np.arange(len(codes))
        many = np.clip(CALIBRATION_PAIRS // len(codes), EXACT_REFITS, CALIBRATION_ROWS)
        return np.sort(np.random.default_rng(0).choice(len(codes), many, replace=False))

    def _held_out_alone(self, n: int) -> bool:
        """Whether ``_held_out`` holds out single rows of ``n``, as leave-one-out is defined."""
        return True

    def fit(self: Fitted, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Fitted:
        """Learn from X (N, D), one row per example, and its labels y (N,), numbers or strings of at least two classes.

        sample_weight: (N,) how often each row counts, from 0; 2 is the row twice, 0 the row left out, and one copy of
        a row is held out at a time. With it, ``held_out_scores_`` is None, and at most 200 rows choose the temperature.

        Sets ``classes_``, ``center_`` (D,), ``norm_`` (the median length of a centered row), ``temperature_`` and
        ``held_out_scores_`` (N, C), None beyond 1000 rows, when a sample of them chose the temperature. The
        temperature is a fixed one where no class has two examples, since nothing can be held out then: 0.2 for
        centroids, 0.1 for ridge, 0.5 for logistic, 1 for kNN.
        """
        if sample_weight is not None:
            return self._fit_weighted(X, y, sample_weight)
        Z, S, codes = self._fit(X, y)
        asked = self._calibration_rows(codes)
        scores = self._held_out(Z, S, codes, asked)
        self.held_out_scores_ = scores if len(asked) == len(codes) else None
        judged = np.bincount(codes)[codes[asked]] > 1
        if judged.any():
            self.temperature_ = choose_temperature(scores[judged], codes[asked][judged])
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array, Array]:
        """All of ``fit`` but the temperature, the fixed one here: enough for ``predict``. Returns Z, S, codes."""
        rows, labels = self._checked(X, y)
        codes = self._coded(labels)
        self.center_, Z, S = centered(rows, codes, self.center)
        self.norm_ = float(np.median(np.linalg.norm(Z, axis=1)))
        self._learn(unit(Z), codes)
        self.temperature_ = self._fallback_temperature
        return Z, S, codes

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """(rows, labels) that can be learned from."""
        rows, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=0)
        if len(rows) == 0:
            raise FewShotError("no example came: give at least one example of each of two classes.")
        if labels.dtype.kind not in "USbiu":  # words and whole numbers are classes, however few examples each has
            check_classification_targets(labels)
        return rows, labels

    def _coded(self, labels: Array) -> Array:
        """Sets ``classes_``, and gives each label's place in them."""
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise FewShotError(
                f"only one class came ({self.classes_[0]!s}, n_samples = {len(labels)}): "
                "add an example of a second class."
            )
        return codes

    def _fit_weighted(self: Fitted, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike) -> Fitted:
        rows, labels = self._checked(X, y)
        weight = _weights(sample_weight, len(rows))
        rows, labels, weight = rows[weight > 0], labels[weight > 0], weight[weight > 0]
        if len(rows) == 0:
            raise FewShotError("every sample_weight is zero: give examples of two classes a weight above 0.")
        codes = self._coded(labels)
        self._learn_weighted(rows, codes, weight)
        self.held_out_scores_ = None
        one = np.minimum(weight, 1)  # what is held out of each row
        judged = np.flatnonzero(np.bincount(codes, weight)[codes] > one)
        if len(judged) > EXACT_REFITS:
            judged = np.sort(np.random.default_rng(0).choice(judged, EXACT_REFITS, replace=False))
        if len(judged):
            scores = np.stack([self._score_without(int(i), one[i], rows, codes, weight) for i in judged])
            self.temperature_ = choose_temperature(scores, codes[judged], weight[judged])
        return self

    def _learn_weighted(self, rows: Array, codes: Array, weight: Array) -> None:
        self.center_ = weighted_center(rows, codes, weight, self.center)
        Z = rows - self.center_
        self.norm_ = weighted_median(np.linalg.norm(Z, axis=1), weight)
        self._learn(unit(Z), codes, weight.astype(rows.dtype))
        self.temperature_ = self._fallback_temperature

    def _score_without(self, i: int, part: float, rows: Array, codes: Array, weight: Array) -> Array:
        """Scores (C,) of row ``i`` by a refit in which it counts ``part`` less; its class must keep a row."""
        left = weight.copy()
        left[i] -= part
        stays = left > 0
        present, rest = np.unique(codes[stays], return_inverse=True)
        other = clone(self)
        other.classes_ = self.classes_[present]
        other._start = getattr(self, "coef_", None) if len(present) == len(self.classes_) else None
        other._learn_weighted(rows[stays], rest, left[stays])
        scores = np.full(len(self.classes_), -np.inf)
        scores[present] = other._scores(unit(rows[i : i + 1] - other.center_))[0]
        return scores

    def _prepared(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        rows: Array = validate_data(self, X, reset=False, dtype=self.center_.dtype)
        return unit(rows - self.center_)

    def predict(self, X: ArrayLike) -> Array:
        """The class (Q,) of each row of X (Q, D). It always gives one; "none of these" comes from the Rejector."""
        U = self._prepared(X)
        return self.classes_[self._scores(U).argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> Array:
        """Calibrated probabilities (Q, C), columns as ``classes_``."""
        U = self._prepared(X)
        return softmax(self._scores(U) / self.temperature_)

    def decision_function(self, X: ArrayLike) -> Array:
        """The logarithms (Q, C) of ``predict_proba`` up to a number per row; for two classes those of the second over
        the first (Q,), above 0 where ``predict`` gives the second."""
        logits = self._scores(self._prepared(X)) / self.temperature_
        difference: Array = logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits
        return difference


def _weights(given: ArrayLike, n: int) -> Array:
    """A ``sample_weight`` as (N,) float64, checked."""
    weight = np.asarray(given, dtype=np.float64)
    if weight.shape != (n,) or not np.isfinite(weight).all() or (weight < 0).any():
        raise FewShotError(
            f"sample_weight has the shape {weight.shape}, or a number that is negative or not finite: give {n} numbers "
            "from 0, one for each row."
        )
    return weight


class _LinearClassifier(FewShotClassifier):
    """Scores that are inner products with one vector per class, ``coef_`` (C, D), and no intercept."""

    coef_: Array

    def _scores(self, U: Array) -> Array:
        return U @ self.coef_.T

    def to_linear(self) -> tuple[Array, Array]:
        """One linear layer on raw features: weight (C, D) and bias (C,), whose softmax gives probabilities.

        It names the same class as ``predict`` for every row, because without an intercept the length of a row only
        scales its logits. Its probabilities equal ``predict_proba`` for rows at the usual distance ``norm_`` from the
        center; farther rows come out surer, nearer ones less sure.
        """
        check_is_fitted(self)
        weight = self.coef_ / (self.temperature_ * (self.norm_ or 1.0))
        return weight, -weight @ self.center_


class KNNClassifier(FewShotClassifier):
    """The nearest examples vote, each with weight exp(cosine / temperature), as in DINO's kNN evaluation.

    n_neighbors: how many vote; all of them when there are fewer. temperature: of the vote, > 0; smaller trusts the
    nearest more. center: the model's feature mean (D,), or None for the mean of the classes' means.
    """

    _fallback_temperature = 1.0
    _unseen = 0.01  # share of a vote for a class without a neighbor, so that no probability is 0

    def __init__(self, n_neighbors: int = 5, temperature: float = 0.07, center: ArrayLike | None = None):
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.center = center

    def _learn(self, U: Array, codes: Array, weight: Array | None = None) -> None:
        if self.n_neighbors < 1 or not self.temperature > 0:
            raise FewShotError(
                f"n_neighbors={self.n_neighbors} and temperature={self.temperature} came: "
                "n_neighbors must be at least 1 and temperature above 0."
            )
        self.rows_, self.codes_, self.weights_ = U, codes, weight

    def _vote(self, similarity: Array, codes: Array, n_classes: int, count: Array | float = 1) -> Array:
        """Log of the smoothed share (Q, C) of each class among neighbors (Q, k), ``count`` times each."""
        weight = count * np.exp((similarity - similarity[:, :1]) / self.temperature)  # the nearest comes first
        share = np.zeros((len(weight), n_classes))
        np.add.at(share, (np.arange(len(weight))[:, None], codes), weight)
        return np.log(share / share.sum(axis=1, keepdims=True) + self._unseen)

    def _scores(self, U: Array) -> Array:
        if self.weights_ is None:
            similarity, index = top(U, self.rows_, self.n_neighbors)
            return self._vote(similarity, self.codes_[index], len(self.classes_))
        similarity, index = top(U, self.rows_, len(self.rows_))
        weight = self.weights_[index]
        before = np.cumsum(weight, axis=1) - weight  # n_neighbors copies vote, the nearest first
        counted = np.clip(self.n_neighbors - before, 0, weight)
        return self._vote(similarity, self.codes_[index], len(self.classes_), counted)

    def kneighbors(self, X: ArrayLike, n_neighbors: int | None = None) -> tuple[Array, Array]:
        """(cosine similarities, training rows), both (Q, k), most similar first; k = n_neighbors unless given."""
        U = self._prepared(X)
        return top(U, self.rows_, self.n_neighbors if n_neighbors is None else n_neighbors)

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        counts = np.bincount(codes)
        scores = []
        for block in blocks(rows, len(Z)):
            _, cosine = fold_geometry(Z, S, block)
            cosine[np.arange(len(block)), block] = -np.inf
            index = largest_columns(cosine, min(self.n_neighbors, len(Z) - 1))
            vote = self._vote(np.take_along_axis(cosine, index, axis=1), codes[index], len(counts))
            vote[(counts[codes[block]] == 1)[:, None] & (np.arange(len(counts)) == codes[block, None])] = -np.inf
            scores.append(vote)
        return np.concatenate(scores)


class CentroidClassifier(_LinearClassifier):
    """The class whose mean direction is nearest: one vector per class, nothing to tune; best at one or two examples.

    center: the model's feature mean (D,), or None for the mean of the classes' means.
    """

    _fallback_temperature = 0.2

    def __init__(self, center: ArrayLike | None = None):
        self.center = center

    def _learn(self, U: Array, codes: Array, weight: Array | None = None) -> None:
        counted = U if weight is None else weight[:, None] * U
        self.coef_ = unit(one_hot(codes, len(self.classes_), U.dtype).T @ counted)

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        counts = np.bincount(codes)
        scores = np.empty((len(rows), len(counts)), Z.dtype)
        done = 0
        for block in blocks(rows, len(Z)):
            inverse, cosine = fold_geometry(Z, S, block)
            for k in range(len(counts)):
                member = codes == k
                weight = inverse[:, member]
                mean = weight @ Z[member] + weight.sum(axis=1, keepdims=True) * S[block]  # (R, D), not yet length 1
                length = np.linalg.norm(mean, axis=1)
                total = cosine[:, member].sum(axis=1)
                score = np.divide(total, length, out=np.zeros_like(total), where=length > 0)
                score[(codes[block] == k) & (counts[k] == 1)] = -np.inf
                scores[done : done + len(block), k] = score
            done += len(block)
        return scores


class RidgeClassifier(_LinearClassifier):
    """Least squares on one-hot targets with an L2 penalty, all classes weighted equally; best from three examples.

    alpha: the penalty, > 0; rows have length 1, so 1 suits a handful of examples and a thousand alike. center: the
    model's feature mean (D,), or None for the mean of the classes' means.
    """

    _fallback_temperature = 0.1

    def __init__(self, alpha: float = 1.0, center: ArrayLike | None = None):
        self.alpha = alpha
        self.center = center

    def _learn(self, U: Array, codes: Array, weight: Array | None = None) -> None:
        if not self.alpha > 0:
            raise FewShotError(f"alpha={self.alpha} came: it must be above 0.")
        counts = np.bincount(codes, weight)
        root = np.sqrt(counts.sum() / (len(counts) * counts))[codes, None].astype(U.dtype)  # (N, 1)
        if weight is not None:
            root = root * np.sqrt(weight)[:, None]
        A, B = root * U, root * one_hot(codes, len(counts), U.dtype)
        if len(A) <= A.shape[1]:  # the smaller of the two equal systems
            self.coef_ = np.linalg.solve(A @ A.T + self.alpha * np.eye(len(A), dtype=A.dtype), B).T @ A
        else:
            self.coef_ = np.linalg.solve(A.T @ A + self.alpha * np.eye(A.shape[1], dtype=A.dtype), A.T @ B).T

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        """Around a given center in closed form, else by conjugate gradients from the solution with no row held out.

        Fold i wants ``v = (sum_j w_j u_j u_j' + alpha)^-1 u_i`` over its rows ``u_j = (z_j + s_i) / |z_j + s_i|``; its
        score for class k is then ``sum_{j in k} w_j u_j' v``.
        """
        if Z.shape[1] > len(Z):  # only inner products count, and every shift lies in the span of the rows
            basis = np.linalg.qr(Z.T)[0]
            Z, S = Z @ basis, S @ basis
        if not S.any():
            return ridge_without_rows(unit(Z), codes, rows, self.alpha)
        counts = np.bincount(codes)
        member = one_hot(codes, len(counts), Z.dtype)
        U = unit(Z)
        weight = (len(Z) / (len(counts) * counts)).astype(Z.dtype)[codes, None]
        inverse_of_all = np.linalg.inv(U.T @ (weight * U) + self.alpha * np.eye(Z.shape[1], dtype=Z.dtype))

        scores = []
        for block in blocks(rows, len(Z)):
            shift = S[block]  # (R, D)
            inverse = fold_lengths(Z, S, block)
            left = counts - member[block]  # (R, C) examples per class in each fold
            present = left > 0
            balance = np.zeros_like(left)
            np.divide((len(Z) - 1) / present.sum(axis=1, keepdims=True), left, out=balance, where=present)
            weighted = inverse * balance[:, codes].astype(Z.dtype)  # w_j / |z_j + s_i|
            squared = weighted * inverse

            def project(v: Array, shift: Array = shift) -> Array:  # (R, D) -> (R, N): (z_j + s_i)' v
                return v @ Z.T + np.einsum("rd,rd->r", v, shift)[:, None]

            def apply(v: Array, shift: Array = shift, squared: Array = squared) -> Array:
                q = squared * project(v)
                return q @ Z + q.sum(axis=1, keepdims=True) * shift + self.alpha * v

            solution = conjugate_gradients(apply, unit(Z[block] + shift), inverse_of_all)
            score = (weighted * project(solution)) @ member
            score[~present] = -np.inf
            scores.append(score)
        return np.concatenate(scores)


class LogisticClassifier(_LinearClassifier):
    """Multinomial logistic regression without intercept, as in MSN's low-shot protocol, all classes weighted equally.

    C: inverse of the L2 penalty, > 0. center: the model's feature mean (D,), or None for the mean of the classes'
    means. It has no closed form: held-out scores come from one refit per row up to 200 rows, from ten folds above;
    beyond 1000 rows one of the ten folds chooses the temperature.
    """

    _fallback_temperature = 0.5

    def __init__(self, C: float = 10.0, center: ArrayLike | None = None):
        self.C = C
        self.center = center

    def _solve(self, U: Array, codes: Array, start: Array | None = None, weight: Array | None = None) -> Array:
        """Weights (classes in codes, D) of unit rows, from ``start`` where one fits."""
        if not self.C > 0:
            raise FewShotError(f"C={self.C} came: it must be above 0.")
        model = LogisticRegression(C=self.C, fit_intercept=False, class_weight="balanced", tol=1e-5, max_iter=1000)
        two = len(np.unique(codes)) == 2
        if start is not None:
            model.set_params(warm_start=True)
            model.coef_ = start[1:] - start[:1] if two else start
            model.intercept_ = np.zeros(len(model.coef_))
            model.classes_ = np.unique(codes)
        if weight is not None:
            counts = np.bincount(codes, weight)
            model.set_params(class_weight=None)
            weight = weight * (counts.sum() / (len(counts) * counts))[codes]
        found = model.fit(U, codes, sample_weight=weight).coef_
        return np.concatenate([-found / 2, found / 2]) if two else found

    def _learn(self, U: Array, codes: Array, weight: Array | None = None) -> None:
        self.coef_ = self._solve(U, codes, self._start, weight).astype(U.dtype)

    def _held_out_alone(self, n: int) -> bool:
        return n <= EXACT_REFITS

    def _fold_of(self, codes: Array) -> Array:
        """Fold (N,) of each row: its own up to 200 rows, else one of ten; the only row of a class has its own.

        Neighbors in the sorted order share a class and never a fold, so no class of two or more is held out whole.
        """
        n = len(codes)
        if self._held_out_alone(n):
            return np.arange(n)
        order = np.lexsort((np.random.default_rng(0).permutation(n), codes))
        fold = np.empty(n, np.intp)
        fold[order] = np.arange(n) % 10
        alone = np.bincount(codes)[codes] == 1
        fold[alone] = 10 + np.arange(alone.sum())
        return fold

    def _calibration_rows(self, codes: Array) -> Array:
        if len(codes) <= CALIBRATION_ROWS:
            return np.arange(len(codes))
        return np.flatnonzero(self._fold_of(codes) == 0)

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        fold = self._fold_of(codes)
        scores = np.full((len(Z), len(self.classes_)), -np.inf, Z.dtype)
        for f in np.unique(fold[rows]):
            out = fold == f
            present, rest = np.unique(codes[~out], return_inverse=True)
            if len(present) < 2:  # a pair of single examples: the other class is all that is left
                scores[np.ix_(out, present)] = 0
                continue
            middle, around, _ = centered(Z[~out], rest, None if self.center is None else np.zeros(Z.shape[1]))
            start = self.coef_ if len(present) == len(self.classes_) else None
            weight = self._solve(unit(around), rest, start)
            scores[np.ix_(out, present)] = unit(Z[out] - middle) @ weight.T
        return scores[rows]
