"""Few-shot classifiers on frozen features, how far to trust them, and "none of these".

Four scikit-learn estimators share one preparation and one way to probabilities. Every row is centred (on the model's
feature mean when it is given, else on the mean of the classes' means, which a large class cannot drag towards itself)
and scaled to length 1, which at 1-5 examples per class matters more than the choice of classifier (SimpleShot, arXiv
1911.04623). Scores are then divided by one temperature, chosen so that rows which the classifier had not seen get
fitting probabilities.

Leave-one-out is the judge, and it is honest: a held-out row takes no part in anything, its class's weight and the
centre included. Without row i the centre moves by some -s_i, so the rows of fold i are z_j + s_i, where z are the rows
around the centre of them all. Every fold therefore follows from two Gram matrices, z z' and s z', without refitting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from vitmsn.errors import FewShotError

__all__ = [
    "CentroidClassifier",
    "KNNClassifier",
    "LeaveOneOut",
    "LogisticClassifier",
    "Rejector",
    "RidgeClassifier",
    "automatic",
    "leave_one_out",
    "nearest",
    "wilson_interval",
]

Array = NDArray[Any]
Fitted = TypeVar("Fitted", bound="_FewShotClassifier")

CALIBRATION_ROWS = 1000  # held-out rows that choose the temperature; more change its second digit, and cost n each
EXACT_REFITS = 200  # the logistic classifier has no closed form: one refit per row up to here, ten folds above
BLOCK = 2**18  # numbers in one (folds, rows) block, so that it stays in the processor's cache


# --- rows and folds ------------------------------------------------------------------------------------------------


def _unit(rows: Array) -> Array:
    """Rows scaled to length 1; a row of zeros (an example exactly at the centre) stays zero and resembles nothing."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit


def _given_centre(center: ArrayLike, X: Array) -> Array:
    value: Array = np.asarray(center, dtype=X.dtype)
    if value.shape != X.shape[1:]:
        raise FewShotError(
            f"center has shape {value.shape}, but the rows have {X.shape[1]} numbers: "
            "give the feature mean of the model that made them, or None."
        )
    if not np.isfinite(value).all():
        raise FewShotError("center holds values that are not finite: give the model's feature mean, or None.")
    return value


def _centred(X: Array, codes: Array, center: ArrayLike | None) -> tuple[Array, Array, Array]:
    """(centre (D,), rows Z around it (N, D), shifts S (N, D)): without row i the rows lie at ``Z + S[i]``."""
    if center is not None:
        middle = _given_centre(center, X)
        return middle, X - middle, np.zeros_like(X)
    counts = np.bincount(codes)
    means = np.stack([X[codes == k].mean(axis=0, dtype=np.float64) for k in range(len(counts))])
    middle = means.mean(axis=0).astype(X.dtype)
    Z = X - middle
    # A row of a class of n pulls the mean of its class by 1 / (n - 1) of its distance from it, the centre by 1 / C of
    # that. A class of one vanishes with its row.
    size, alone = counts[codes, None], counts[codes, None] == 1
    within = (X - means[codes]) / (len(counts) * np.maximum(size - 1, 1))
    return middle, Z, np.where(alone, Z / max(len(counts) - 1, 1), within).astype(X.dtype)


def _blocks(rows: Array, width: int) -> Iterator[Array]:
    """``rows`` cut so that a (rows, width) matrix stays small."""
    size = max(1, BLOCK // max(1, width))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _folds(Z: Array, S: Array, rows: Array) -> tuple[Array, Array]:
    """Geometry of the folds that hold out ``rows``, each around its own centre.

    Returns, for fold i and training row j, ``inverse`` (R, N) = 1 / |z_j + s_i|, zero at j = i, and ``cosine`` (R, N)
    of the held-out row with row j.
    """
    shift = S[rows]
    own = Z[rows] + shift  # (R, D) the held-out rows around the centres of their folds
    cross = shift @ Z.T  # (R, N)
    level = np.einsum("rd,rd->r", shift, shift)[:, None]
    largest = np.einsum("nd,nd->n", Z, Z) + level
    squared = largest + 2 * cross
    floor = 8 * np.finfo(Z.dtype).eps * largest  # below rounding error a row sits on the centre: it has no direction
    inverse = np.where(squared > floor, 1 / np.sqrt(np.maximum(squared, floor + np.finfo(Z.dtype).tiny)), 0)
    inverse[np.arange(len(rows)), rows] = 0
    inner = own @ Z.T + np.einsum("rd,rd->r", own, shift)[:, None]  # (R, N)
    length = np.linalg.norm(own, axis=1, keepdims=True)
    return inverse, np.divide(inner, length, out=np.zeros_like(inner), where=length > 0) * inverse


def _one_hot(codes: Array, n_classes: int, dtype: Any) -> Array:
    return np.eye(n_classes, dtype=dtype)[codes]


def nearest(
    X: ArrayLike, queries: ArrayLike, n_neighbors: int = 5, center: ArrayLike | None = None
) -> tuple[Array, Array]:
    """The examples that resemble each query most.

    X: (N, D), queries: (Q, D). Returns (cosine similarities, indices into X), both (Q, min(n_neighbors, N)), most
    similar first, after centring (``center``, or the mean of X) and scaling to length 1.
    """
    rows, wanted = np.asarray(X), np.asarray(queries)
    if rows.ndim != 2 or wanted.ndim != 2 or rows.shape[1] != wanted.shape[1] or len(rows) == 0:
        raise FewShotError(
            f"examples of shape {rows.shape} and queries of shape {wanted.shape} came: "
            "give at least one example, and rows of equal length from one model."
        )
    middle = rows.mean(axis=0) if center is None else _given_centre(center, rows)
    return _top(_unit(wanted - middle), _unit(rows - middle), n_neighbors)


def _top(queries: Array, rows: Array, k: int) -> tuple[Array, Array]:
    similarity, index = [], []
    for block in _blocks(np.arange(len(queries)), len(rows)):
        cosine = queries[block] @ rows.T
        best = _largest(cosine, k)
        index.append(best)
        similarity.append(np.take_along_axis(cosine, best, axis=1))
    width = min(k, len(rows))
    if not index:
        return np.zeros((0, width), queries.dtype), np.zeros((0, width), np.intp)
    return np.concatenate(similarity), np.concatenate(index)


def _largest(values: Array, k: int) -> Array:
    """Columns of the k largest values of each row, largest first, the earlier column first among equals."""
    k = min(k, values.shape[1])
    if k < values.shape[1]:
        columns = np.sort(np.argpartition(-values, k - 1, axis=1)[:, :k], axis=1)
    else:
        columns = np.broadcast_to(np.arange(k), values.shape)
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


# --- probabilities -------------------------------------------------------------------------------------------------


def _softmax(scores: Array) -> Array:
    """Rows of float64 probabilities; a score of -inf (a class that the fold did not have) gets exactly 0."""
    share: Array = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return share / share.sum(axis=1, keepdims=True)


def _choose_temperature(scores: Array, codes: Array) -> float:
    """The temperature of least cross-entropy for held-out ``scores`` (M, C) of rows of class ``codes`` (M,).

    The right class is asked for with probability (M + 1) / (M + 2), not 1 (Platt, 1999): a handful of rows, all right,
    are no proof of certainty. The cross-entropy is convex in 1 / T, so the sign of its slope is enough to bisect.
    """
    count, n_classes = scores.shape
    scores = scores.astype(np.float64) - scores.mean(axis=1, keepdims=True)
    target = np.full(scores.shape, 1 / (count + 2) / (n_classes - 1))
    target[np.arange(count), codes] = (count + 1) / (count + 2)
    wanted = (target * scores).sum()
    low, high = np.log(1e-3), np.log(1e3)  # of 1 / T
    for _ in range(40):
        middle = (low + high) / 2
        if (_softmax(np.exp(middle) * scores) * scores).sum() < wanted:
            low = middle
        else:
            high = middle
    return float(np.exp(-middle))


# --- the estimators ------------------------------------------------------------------------------------------------


class _FewShotClassifier(ClassifierMixin, BaseEstimator):
    """What the four share: preparation, temperature, probabilities. A subclass learns and scores rows of length 1."""

    _fallback_temperature: float  # rather unsure than too sure: nothing is known of unseen rows at one shot

    center: ArrayLike | None

    def _learn(self, U: Array, codes: Array) -> None:
        """Fit to unit rows ``U`` (N, D) of class ``codes`` (N,)."""
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
        return np.sort(np.random.default_rng(0).choice(len(codes), CALIBRATION_ROWS, replace=False))

    def _held_out_alone(self, n: int) -> bool:
        """Whether ``_held_out`` leaves out single rows of ``n``, as the definition wants."""
        return True

    def fit(self: Fitted, X: ArrayLike, y: ArrayLike) -> Fitted:
        """Learn from X (N, D), one row per example, and its labels y (N,), numbers or strings of at least two classes.

        Sets ``classes_``, ``center_`` (D,), ``norm_`` (the median length of a centred row), ``temperature_`` and
        ``held_out_scores_`` (N, C), None beyond 1000 rows, when a sample of them chose the temperature. The
        temperature is a fixed one where no class has two examples, since nothing can be held out then: 0.2 for
        centroids, 0.1 for ridge, 0.5 for logistic, 1 for kNN.
        """
        rows: Array
        rows, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=0)
        if len(rows) == 0:
            raise FewShotError("no example came: give at least one example of each of two classes.")
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise FewShotError(
                f"only one class came ({self.classes_[0]!s}, n_samples = {len(rows)}): "
                "add an example of a second class."
            )
        self.center_, Z, S = _centred(rows, codes, self.center)
        self.norm_ = float(np.median(np.linalg.norm(Z, axis=1)))
        self._learn(_unit(Z), codes)

        asked = self._calibration_rows(codes)
        scores = self._held_out(Z, S, codes, asked)
        self.held_out_scores_ = scores if len(asked) == len(rows) else None
        judged = np.bincount(codes)[codes[asked]] > 1
        self.temperature_ = self._fallback_temperature
        if judged.any():
            self.temperature_ = _choose_temperature(scores[judged], codes[asked][judged])
        return self

    def _prepared(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        rows: Array = validate_data(self, X, reset=False, dtype=self.center_.dtype)
        return _unit(rows - self.center_)

    def predict(self, X: ArrayLike) -> Array:
        """The class (Q,) of each row of X (Q, D). Always names one; "none of these" is the Rejector's word."""
        U = self._prepared(X)
        return self.classes_[self._scores(U).argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> Array:
        """Calibrated probabilities (Q, C), columns as ``classes_``."""
        U = self._prepared(X)
        return _softmax(self._scores(U) / self.temperature_)


class _LinearClassifier(_FewShotClassifier):
    """Scores that are inner products with one vector per class, ``coef_`` (C, D), and no intercept."""

    coef_: Array

    def _scores(self, U: Array) -> Array:
        return U @ self.coef_.T

    def to_linear(self) -> tuple[Array, Array]:
        """One linear layer on raw features: weight (C, D) and bias (C,), whose softmax gives probabilities.

        It names the same class as ``predict`` for every row, because without an intercept the length of a row only
        scales its logits. Its probabilities equal ``predict_proba`` for rows at the usual distance ``norm_`` from the
        centre; farther rows come out surer, nearer ones less sure.
        """
        check_is_fitted(self)
        weight = self.coef_ / (self.temperature_ * (self.norm_ or 1.0))
        return weight, -weight @ self.center_


class KNNClassifier(_FewShotClassifier):
    """The nearest examples vote, each with weight exp(cosine / temperature), as in DINO's kNN evaluation.

    n_neighbors: how many vote; all of them when there are fewer. temperature: of the vote, > 0; smaller trusts the
    nearest more. center: the model's feature mean (D,), or None for the mean of the classes' means.
    """

    _fallback_temperature = 1.0
    _unseen = 0.01  # the share of a vote that a class without a neighbour is granted, so that none is impossible

    def __init__(self, n_neighbors: int = 5, temperature: float = 0.07, center: ArrayLike | None = None):
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.center = center

    def _learn(self, U: Array, codes: Array) -> None:
        if self.n_neighbors < 1 or not self.temperature > 0:
            raise FewShotError(
                f"n_neighbors={self.n_neighbors} and temperature={self.temperature} came: "
                "n_neighbors must be at least 1 and temperature above 0."
            )
        self.rows_, self.codes_ = U, codes

    def _vote(self, similarity: Array, codes: Array, n_classes: int) -> Array:
        """Log of the smoothed share (Q, C) of each class among neighbours (Q, k)."""
        weight = np.exp((similarity - similarity[:, :1]) / self.temperature)  # the nearest comes first
        share = np.zeros((len(weight), n_classes))
        np.add.at(share, (np.arange(len(weight))[:, None], codes), weight)
        return np.log(share / share.sum(axis=1, keepdims=True) + self._unseen)

    def _scores(self, U: Array) -> Array:
        similarity, index = _top(U, self.rows_, self.n_neighbors)
        return self._vote(similarity, self.codes_[index], len(self.classes_))

    def kneighbors(self, X: ArrayLike, n_neighbors: int | None = None) -> tuple[Array, Array]:
        """(cosine similarities, training rows), both (Q, k), most similar first; k = n_neighbors unless given."""
        U = self._prepared(X)
        return _top(U, self.rows_, self.n_neighbors if n_neighbors is None else n_neighbors)

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        counts = np.bincount(codes)
        scores = []
        for block in _blocks(rows, len(Z)):
            _, cosine = _folds(Z, S, block)
            cosine[np.arange(len(block)), block] = -np.inf
            index = _largest(cosine, min(self.n_neighbors, len(Z) - 1))
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

    def _learn(self, U: Array, codes: Array) -> None:
        self.coef_ = _unit(_one_hot(codes, len(self.classes_), U.dtype).T @ U)

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        counts = np.bincount(codes)
        scores = np.empty((len(rows), len(counts)), Z.dtype)
        done = 0
        for block in _blocks(rows, len(Z)):
            inverse, cosine = _folds(Z, S, block)
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
    """Least squares on one-hot targets with an L2 penalty, all classes weighing the same; best from three examples.

    alpha: the penalty, > 0; rows have length 1, so 1 suits a handful of examples and a thousand alike. center: the
    model's feature mean (D,), or None for the mean of the classes' means.
    """

    _fallback_temperature = 0.1

    def __init__(self, alpha: float = 1.0, center: ArrayLike | None = None):
        self.alpha = alpha
        self.center = center

    def _learn(self, U: Array, codes: Array) -> None:
        if not self.alpha > 0:
            raise FewShotError(f"alpha={self.alpha} came: it must be above 0.")
        counts = np.bincount(codes)
        root = np.sqrt(len(U) / (len(counts) * counts))[codes, None].astype(U.dtype)  # (N, 1)
        A, B = root * U, root * _one_hot(codes, len(counts), U.dtype)
        if len(A) <= A.shape[1]:  # the smaller of the two equal systems
            self.coef_ = np.linalg.solve(A @ A.T + self.alpha * np.eye(len(A), dtype=A.dtype), B).T @ A
        else:
            self.coef_ = np.linalg.solve(A.T @ A + self.alpha * np.eye(A.shape[1], dtype=A.dtype), A.T @ B).T

    def _held_out(self, Z: Array, S: Array, codes: Array, rows: Array) -> Array:
        """All folds of a block are solved at once, by conjugate gradients from the solution with no row held out.

        Fold i wants ``v = (sum_j w_j u_j u_j' + alpha)^-1 u_i`` over its rows ``u_j = (z_j + s_i) / |z_j + s_i|``; its
        score for class k is then ``sum_{j in k} w_j u_j' v``.
        """
        if Z.shape[1] > len(Z):  # only inner products count, and every shift lies in the span of the rows
            basis = np.linalg.qr(Z.T)[0]
            Z, S = Z @ basis, S @ basis
        counts = np.bincount(codes)
        member = _one_hot(codes, len(counts), Z.dtype)
        U = _unit(Z)
        weight = (len(Z) / (len(counts) * counts)).astype(Z.dtype)[codes, None]
        inverse_of_all = np.linalg.inv(U.T @ (weight * U) + self.alpha * np.eye(Z.shape[1], dtype=Z.dtype))

        scores = []
        for block in _blocks(rows, len(Z)):
            shift = S[block]  # (R, D)
            inverse, _ = _folds(Z, S, block)
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

            solution = _conjugate_gradients(apply, _unit(Z[block] + shift), inverse_of_all)
            score = (weighted * project(solution)) @ member
            score[~present] = -np.inf
            scores.append(score)
        return np.concatenate(scores)


def _conjugate_gradients(apply: Any, wanted: Array, preconditioner: Array) -> Array:
    """Solve one symmetric positive system per row of ``wanted`` (R, D) to rounding error, all rows together."""
    tolerance = np.finfo(wanted.dtype).eps ** 0.75
    solution = wanted @ preconditioner
    residual = wanted - apply(solution)
    direction = conditioned = residual @ preconditioner
    energy = np.einsum("rd,rd->r", residual, conditioned)
    for _ in range(2 * wanted.shape[1] + 10):
        if np.abs(residual).max(initial=0.0) < tolerance:
            break
        applied = apply(direction)
        curvature = np.einsum("rd,rd->r", direction, applied)
        step = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)[:, None]
        solution = solution + step * direction
        residual = residual - step * applied
        conditioned = residual @ preconditioner
        before, energy = energy, np.einsum("rd,rd->r", residual, conditioned)
        ratio = np.divide(energy, before, out=np.zeros_like(energy), where=before > 0)[:, None]
        direction = conditioned + ratio * direction
    return solution


class LogisticClassifier(_LinearClassifier):
    """Multinomial logistic regression without intercept, as in MSN's low-shot protocol, all classes weighing the same.

    C: inverse of the L2 penalty, > 0. center: the model's feature mean (D,), or None for the mean of the classes'
    means. It has no closed form: held-out scores come from one refit per row up to 200 rows, from ten folds above;
    beyond 1000 rows one of the ten folds chooses the temperature.
    """

    _fallback_temperature = 0.5

    def __init__(self, C: float = 10.0, center: ArrayLike | None = None):
        self.C = C
        self.center = center

    def _solve(self, U: Array, codes: Array, start: Array | None = None) -> Array:
        """Weights (classes in codes, D) of unit rows, from ``start`` where one fits."""
        if not self.C > 0:
            raise FewShotError(f"C={self.C} came: it must be above 0.")
        model = LogisticRegression(C=self.C, fit_intercept=False, class_weight="balanced", tol=1e-5, max_iter=1000)
        two = len(np.unique(codes)) == 2
        if start is not None:
            model.set_params(warm_start=True)
            model.coef_, model.intercept_ = (
                (start[1:] - start[:1] if two else start),
                np.zeros(1 if two else len(start)),
            )
            model.classes_ = np.unique(codes)
        weight = model.fit(U, codes).coef_
        return np.concatenate([-weight / 2, weight / 2]) if two else weight

    def _learn(self, U: Array, codes: Array) -> None:
        self.coef_ = self._solve(U, codes).astype(U.dtype)

    def _held_out_alone(self, n: int) -> bool:
        return n <= EXACT_REFITS

    def _fold_of(self, codes: Array) -> Array:
        """Fold (N,) of each row: its own up to 200 rows, else one of ten, and its own for a row alone in its class.

        Neighbours in the sorted order share a class and never a fold, so no class of two or more is held out whole.
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
            middle, around, _ = _centred(Z[~out], rest, None if self.center is None else np.zeros(Z.shape[1]))
            start = self.coef_ if len(present) == len(self.classes_) else None
            weight = self._solve(_unit(around), rest, start)
            scores[np.ix_(out, present)] = _unit(Z[out] - middle) @ weight.T
        return scores[rows]


def automatic(shots: int, center: ArrayLike | None = None) -> CentroidClassifier | RidgeClassifier:
    """The classifier for ``shots`` examples in the smallest class: centroids at one or two, ridge from three on."""
    if shots < 1:
        raise FewShotError(f"shots={shots} came: every class needs at least one example.")
    return CentroidClassifier(center=center) if shots <= 2 else RidgeClassifier(center=center)


# --- how far to trust it -------------------------------------------------------------------------------------------


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval (for z = 1.96) of a share of which ``right`` of ``total`` were seen (Wilson, 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, spread = right / total, z * z / total
    middle = (p + spread / 2) / (1 + spread)
    half = z * np.sqrt(p * (1 - p) / total + spread / (4 * total)) / (1 + spread)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


@dataclass(frozen=True)
class LeaveOneOut:
    """What a classifier says of each example when it has not seen it.

    Examples alone in their class are not judged: without them the class is unknown, and no answer could be right.
    """

    classes: Array  # (C,)
    labels: Array  # (N,) as given
    predictions: Array  # (N,)
    probabilities: Array  # (N, C); the one temperature was chosen on all judged rows
    judged: Array  # (N,) bool: the example's class has another one
    confusion: Array  # (C, C) judged examples, counted: rows as labelled, columns as predicted
    exact: bool  # every example was held out alone
    method: str  # how, in words

    @property
    def right(self) -> int:
        """Judged examples named rightly."""
        return int(self.confusion.trace())

    @property
    def total(self) -> int:
        """Judged examples."""
        return int(self.judged.sum())

    @property
    def accuracy(self) -> float:
        """Share of judged examples named rightly, 0..1; NaN when none is judged."""
        return self.right / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``accuracy``; (0, 1) when none is judged."""
        return wilson_interval(self.right, self.total)

    @property
    def class_accuracy(self) -> Array:
        """Accuracy (C,) within each class; NaN for a class of one example."""
        count = self.confusion.sum(axis=1)
        return np.divide(self.confusion.diagonal(), count, out=np.full(len(count), np.nan), where=count > 0)

    def suspects(self, confidence: float = 0.6) -> Array:
        """Examples that may be mislabelled: another class at ``confidence`` or more; the surest first."""
        best = self.probabilities.max(axis=1)
        index = np.flatnonzero(self.judged & (self.predictions != self.labels) & (best >= confidence))
        return index[np.argsort(-best[index], kind="stable")]

    def sentence(self) -> str:
        """The result in one sentence with its numbers."""
        if not self.total:
            return "Each class has a single example: add a second one to judge by leaving one out."
        low, high = self.interval
        alone = int((~self.judged).sum())
        tail = f"; {alone} alone in {'its' if alone == 1 else 'their'} class not judged" if alone else ""
        return (
            f"{self.accuracy:.0%} right ({self.right} of {self.total}; 95 % interval {low:.0%} to {high:.0%}), "
            f"{self.method}{tail}."
        )


def leave_one_out(estimator: _FewShotClassifier, X: ArrayLike, y: ArrayLike) -> LeaveOneOut:
    """Judge one of this module's classifiers on its own examples, none of which it has seen when it names it.

    X: (N, D), y: (N,). The estimator is cloned, not changed. Predictions equal those of N separate refits; only a
    logistic classifier of more than 200 examples is held out in ten folds (``exact`` is then False).
    """
    if not isinstance(estimator, _FewShotClassifier):
        raise FewShotError(
            f"{type(estimator).__name__} came: leave_one_out judges KNNClassifier, CentroidClassifier, RidgeClassifier "
            "and LogisticClassifier."
        )
    fitted = clone(estimator).fit(X, y)
    labels = np.asarray(y)
    exact = fitted._held_out_alone(len(labels))
    codes = np.searchsorted(fitted.classes_, labels)
    scores = fitted.held_out_scores_
    if scores is None:
        _, Z, S = _centred(np.asarray(X, dtype=fitted.center_.dtype), codes, fitted.center)
        scores = fitted._held_out(Z, S, codes, np.arange(len(Z)))
    guess = scores.argmax(axis=1)
    judged = np.bincount(codes)[codes] > 1
    confusion = np.zeros((len(fitted.classes_),) * 2, np.int64)
    np.add.at(confusion, (codes[judged], guess[judged]), 1)
    return LeaveOneOut(
        classes=fitted.classes_,
        labels=labels,
        predictions=fitted.classes_[guess],
        probabilities=_softmax(scores / fitted.temperature_),
        judged=judged,
        confusion=confusion,
        exact=exact,
        method="each held out alone" if exact else "held out in ten folds",
    )


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
        self.center_, Z, S = _centred(rows, np.zeros(len(rows), np.intp), self.center)
        self.rows_ = _unit(Z)
        k = min(self.n_neighbors, len(rows) - 1)
        distances = []
        for block in _blocks(np.arange(len(Z)), len(Z)):
            _, cosine = _folds(Z, S, block)
            cosine[np.arange(len(block)), block] = -np.inf
            distances.append(1 - np.partition(cosine, -k, axis=1)[:, -k])
        self.distances_ = np.concatenate(distances)  # (N,) of each example to the others
        self.threshold_ = float(np.quantile(self.distances_, 1 - self.caution))
        return self

    def score(self, X: ArrayLike) -> Array:
        """Cosine distance (Q,), 0..2, of each row to its n-th nearest example: the larger, the stranger."""
        check_is_fitted(self)
        rows: Array = validate_data(self, X, reset=False, dtype=self.center_.dtype)
        similarity, _ = _top(_unit(rows - self.center_), self.rows_, self.n_neighbors)
        return 1 - similarity[:, -1]

    def reject(self, X: ArrayLike) -> Array:
        """True (Q,) for each row that is none of the classes."""
        return self.score(X) > self.threshold_
