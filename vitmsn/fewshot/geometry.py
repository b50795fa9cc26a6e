"""Shared by the few-shot classifiers: centered rows, leave-one-out folds, scores to probabilities.

Every row is centered (on the model's feature mean when it is given, else on the mean of the classes' means, which a
large class cannot drag towards itself) and scaled to length 1, which at 1-5 examples per class matters more than the
choice of classifier (SimpleShot, arXiv 1911.04623). Scores are divided by one temperature, chosen so that held-out rows
get calibrated probabilities.

A held-out row is not used for anything, the center included. Without row i the center moves by some -s_i, so the rows
of fold i are z_j + s_i, where z are the rows around the center of them all. Every fold therefore follows from two Gram
matrices, z z' and s z', without refitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.optimize import brentq
from sklearn.preprocessing import normalize

from vitmsn.errors import FewShotError

Array = NDArray[Any]

BLOCK = 2**18  # numbers in one (folds, rows) block, so that it stays in the processor's cache


# --- rows and folds ------------------------------------------------------------------------------------------------


def unit(rows: Array) -> Array:
    """Rows scaled to length 1; a row of zeros (an example exactly at the center) stays zero."""
    scaled: Array = normalize(rows) if len(rows) else rows
    return scaled


def given_center(center: ArrayLike, X: Array) -> Array:
    value: Array = np.asarray(center, dtype=X.dtype)
    if value.shape != X.shape[1:]:
        raise FewShotError(
            f"center has shape {value.shape}, but the rows have {X.shape[1]} numbers: "
            "give the feature mean of the model that made them, or None."
        )
    if not np.isfinite(value).all():
        raise FewShotError("center holds values that are not finite: give the model's feature mean, or None.")
    return value


def centered(X: Array, codes: Array, center: ArrayLike | None) -> tuple[Array, Array, Array]:
    """(center (D,), rows Z around it (N, D), shifts S (N, D)): without row i the rows lie at ``Z + S[i]``."""
    if center is not None:
        middle = given_center(center, X)
        return middle, X - middle, np.zeros_like(X)
    counts = np.bincount(codes)
    means = np.stack([X[codes == k].mean(axis=0, dtype=np.float64) for k in range(len(counts))])
    middle = means.mean(axis=0).astype(X.dtype)
    Z = X - middle
    # A row of a class of n pulls the mean of its class by 1 / (n - 1) of its distance from it, the center by 1 / C of
    # that. A class of one vanishes with its row.
    size, alone = counts[codes, None], counts[codes, None] == 1
    within = (X - means[codes]) / (len(counts) * np.maximum(size - 1, 1))
    return middle, Z, np.where(alone, Z / max(len(counts) - 1, 1), within).astype(X.dtype)


def weighted_center(X: Array, codes: Array, weight: Array, center: ArrayLike | None) -> Array:
    """The center (D,) of ``centered`` where row i counts ``weight[i]`` > 0 times."""
    if center is not None:
        return given_center(center, X)
    means = [np.average(X[codes == k], axis=0, weights=weight[codes == k]) for k in range(codes.max() + 1)]
    middle: Array = np.mean(means, axis=0, dtype=np.float64).astype(X.dtype)
    return middle


def weighted_median(values: Array, weight: Array) -> float:
    """The median of ``values`` (N,) where value i stands there ``weight[i]`` > 0 times."""
    order = np.argsort(values, kind="stable")
    below, half = np.cumsum(weight[order]), weight.sum() / 2
    low, high = np.searchsorted(below, half, "left"), np.searchsorted(below, half, "right")
    last = len(values) - 1
    return float(values[order[min(low, last)]] + values[order[min(high, last)]]) / 2


def blocks(rows: Array, width: int) -> Iterator[Array]:
    """``rows`` cut so that a (rows, width) matrix stays small."""
    size = max(1, BLOCK // max(1, width))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def fold_lengths(Z: Array, S: Array, rows: Array) -> Array:
    """1 / |z_j + s_i| (R, N) of training row j in fold i, which holds out ``rows[i]``; zero at j = i."""
    shift = S[rows]
    largest = np.einsum("nd,nd->n", Z, Z) + np.einsum("rd,rd->r", shift, shift)[:, None]
    squared = largest + 2 * (shift @ Z.T) if shift.any() else largest  # (R, N); a center that was given never moves
    floor = 8 * np.finfo(Z.dtype).eps * largest  # below rounding error a row sits on the center: it has no direction
    inverse: Array = np.where(squared > floor, 1 / np.sqrt(np.maximum(squared, floor + np.finfo(Z.dtype).tiny)), 0)
    inverse[np.arange(len(rows)), rows] = 0
    return inverse


def fold_geometry(Z: Array, S: Array, rows: Array) -> tuple[Array, Array]:
    """Geometry of the folds that hold out ``rows``, each around its own center.

    Returns ``fold_lengths`` and ``cosine`` (R, N) of the held-out row with training row j.
    """
    inverse = fold_lengths(Z, S, rows)
    shift = S[rows]
    own = Z[rows] + shift  # (R, D) the held-out rows around the centers of their folds
    inner = own @ Z.T
    if shift.any():
        inner += np.einsum("rd,rd->r", own, shift)[:, None]
    length = np.linalg.norm(own, axis=1, keepdims=True)
    return inverse, np.divide(inner, length, out=np.zeros_like(inner), where=length > 0) * inverse


def one_hot(codes: Array, n_classes: int, dtype: Any) -> Array:
    return np.eye(n_classes, dtype=dtype)[codes]


def nearest(
    X: ArrayLike, queries: ArrayLike, n_neighbors: int = 5, center: ArrayLike | None = None
) -> tuple[Array, Array]:
    """The examples that resemble each query most.

    X: (N, D), queries: (Q, D). Returns (cosine similarities, indices into X), both (Q, min(n_neighbors, N)), most
    similar first, after centering (``center``, or the mean of X) and scaling to length 1.
    """
    rows, wanted = np.asarray(X), np.asarray(queries)
    if rows.ndim != 2 or wanted.ndim != 2 or rows.shape[1] != wanted.shape[1] or len(rows) == 0:
        raise FewShotError(
            f"examples of shape {rows.shape} and queries of shape {wanted.shape} came: "
            "give at least one example, and rows of equal length from one model."
        )
    middle = rows.mean(axis=0) if center is None else given_center(center, rows)
    return top(unit(wanted - middle), unit(rows - middle), n_neighbors)


def top(queries: Array, rows: Array, k: int) -> tuple[Array, Array]:
    similarity, index = [], []
    for block in blocks(np.arange(len(queries)), len(rows)):
        cosine = queries[block] @ rows.T
        best = largest_columns(cosine, k)
        index.append(best)
        similarity.append(np.take_along_axis(cosine, best, axis=1))
    width = min(k, len(rows))
    if not index:
        return np.zeros((0, width), queries.dtype), np.zeros((0, width), np.intp)
    return np.concatenate(similarity), np.concatenate(index)


def largest_columns(values: Array, k: int) -> Array:
    """Columns of the k largest values of each row, largest first, the earlier column first among equals."""
    k = min(k, values.shape[1])
    if k < values.shape[1]:
        columns = np.sort(np.argpartition(-values, k - 1, axis=1)[:, :k], axis=1)
    else:
        columns = np.broadcast_to(np.arange(k), values.shape)
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def class_distances(U: Array, codes: Array) -> Array:
    """Cosine distance (N,) of each unit row to the nearest row of another class; 1, as for unrelated rows, without one.

    At most 1: rows in opposite directions count as unrelated.
    """
    nearest_other = np.ones(len(U))
    if codes.any():
        for block in blocks(np.arange(len(U)), len(U)):
            distance = 1 - U[block] @ U.T
            distance[codes[block][:, None] == codes] = 1
            nearest_other[block] = distance.min(axis=1)
    return np.clip(nearest_other, 0, 1)


# --- equations ----------------------------------------------------------------------------------------------------


def conjugate_gradients(apply: Callable[[Array], Array], wanted: Array, preconditioner: Array) -> Array:
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


def ridge_without_rows(U: Array, codes: Array, rows: Array, alpha: float) -> Array:
    """Scores (R, C) of ``rows`` by ridge regressions that did not see them, of unit rows ``U`` (N, D) around a center
    that does not move with a row; -inf where a fold lacks the class.

    The folds of one class share all but their row: ``B = sum_j w_j u_j u_j' + alpha`` is factored once for the
    class, and without row i the solution is ``B^-1 u_i / (1 - w_i u_i' B^-1 u_i)`` (Sherman and Morrison).

    All of it by numpy: scipy has threads of its own, and where its solver takes turns with numpy's products, the
    threads of one spin beside the work of the other.
    """
    exact = U.astype(np.float64)
    counts = np.bincount(codes)
    n, classes, penalty = len(U), len(counts), alpha * np.eye(U.shape[1])
    sums = one_hot(codes, classes, np.float64).T @ exact  # (C, D)
    balanced = exact.T @ (exact / counts[codes, None])  # of all rows, each class counting one
    scores = np.empty((len(rows), classes))
    for k in np.unique(codes[rows]):
        asked = np.flatnonzero(codes[rows] == k)
        own = exact[rows[asked]]
        left = counts.copy()
        left[k] -= 1
        present = left > 0
        whole, each = (n - 1) / present.sum(), np.zeros(classes)
        each[present] = whole / left[present]  # the weight of a row of each class
        members = exact[codes == k]
        correction = whole / left[k] - whole / counts[k] if left[k] else 0.0
        factor = whole * balanced + correction * (members.T @ members) + penalty
        solution = np.linalg.solve(factor, own.T).T
        mine = each[k] if left[k] else whole  # what the row that is held out weighs in the factor
        solution /= (1 - mine * np.einsum("rd,rd->r", own, solution))[:, None]
        score = each * (solution @ sums.T)
        score[:, k] -= each[k] * np.einsum("rd,rd->r", own, solution)
        score[:, ~present] = -np.inf
        scores[asked] = score
    held_out: Array = scores.astype(U.dtype)
    return held_out


# --- probabilities -------------------------------------------------------------------------------------------------


def softmax(scores: Array) -> Array:
    """Rows of float64 probabilities; a score of -inf (a class that the fold did not have) gets exactly 0."""
    shares: Array = special.softmax(scores.astype(np.float64), axis=1)
    return shares


def choose_temperature(scores: Array, codes: Array, weight: Array | None = None) -> float:
    """The temperature of least cross-entropy for held-out ``scores`` (M, C) of rows of class ``codes`` (M,), of which
    row i counts ``weight[i]`` times, once by default.

    The target probability of the right class is (M + 1) / (M + 2), not 1 (Platt, 1999): a few correct rows do not prove
    certainty. The cross-entropy is convex in 1 / T, so its slope has one root.
    """
    rows, n_classes = scores.shape
    scores = scores.astype(np.float64) - scores.mean(axis=1, keepdims=True)
    count = rows if weight is None else float(weight.sum())
    target = np.full(scores.shape, 1 / (count + 2) / (n_classes - 1))
    target[np.arange(rows), codes] = (count + 1) / (count + 2)
    counted = scores if weight is None else weight[:, None] * scores
    wanted = (target * counted).sum()

    def slope(log_inverse: float) -> float:
        return float((softmax(np.exp(log_inverse) * scores) * counted).sum() - wanted)

    low, high = np.log(1e-3), np.log(1e3)  # of 1 / T
    if slope(low) >= 0 or slope(high) <= 0:  # beyond the ends
        return float(np.exp(-low if slope(low) >= 0 else -high))
    return float(np.exp(-brentq(slope, low, high)))
