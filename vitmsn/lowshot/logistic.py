"""Multinomial logistic regression over all rows, by L-BFGS."""

from __future__ import annotations

import torch
from torch import Tensor

from vitmsn.lowshot.rows import blocks


def objective(weight: Tensor, X: Tensor, codes: Tensor, penalty: float, intercept: bool) -> tuple[float, Tensor]:
    """Mean cross-entropy + penalty / 2 * |weight|^2 and its gradient (C, D); an intercept's column is not penalized."""
    gradient, total = torch.zeros_like(weight), 0.0
    for block in blocks(len(X)):
        logits = X[block] @ weight.T  # (b, C)
        log_sum = logits.logsumexp(1, keepdim=True)
        total += float((log_sum - logits.gather(1, codes[block, None])).sum(dtype=torch.float64))
        residual = logits.sub_(log_sum).exp_()
        residual[torch.arange(len(residual)), codes[block]] -= 1
        gradient.addmm_(residual.T, X[block])
    shrunk = weight.clone()
    if intercept:
        shrunk[:, -1] = 0
    return total / len(X) + penalty / 2 * float(shrunk.square().sum()), gradient.div_(len(X)).add_(
        shrunk, alpha=penalty
    )


def fit_logistic(
    X: Tensor, codes: Tensor, n_classes: int, penalty: float, *, intercept: bool = False, start: Tensor | None = None,
    spread: tuple[Tensor, Tensor] | None = None, iterations: int = 300, tolerance: float = 1e-7,
) -> Tensor:  # fmt: skip
    """Weights (C, D) of a multinomial logistic regression, by L-BFGS over all rows.

    Features are correlated, which slows L-BFGS down. Given their ``spread`` (see :func:`spread_of`) it optimizes in
    coordinates ``weight = moved @ root`` in which the curvature, some covariance / C + penalty, is round. The optimum
    is the same.

    intercept: the last column of ``X`` is ones, and its weights are not penalized.
    """
    moved = torch.zeros(n_classes, X.shape[1]) if start is None else start.clone()
    root = None
    if spread is not None:
        curvature, vectors = spread[0] / n_classes + penalty, spread[1]
        root = (vectors * curvature.rsqrt() @ vectors.T).float()
        moved = (moved.double() @ (vectors * curvature.sqrt() @ vectors.T)).float()
    solver = torch.optim.LBFGS(
        [moved], max_iter=iterations, max_eval=2 * iterations, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-9, tolerance_change=tolerance,
    )  # fmt: skip

    def closure() -> float:
        loss, gradient = objective(moved if root is None else moved @ root, X, codes, penalty, intercept)
        moved.grad = gradient if root is None else gradient @ root
        return loss

    solver.step(closure)
    return moved if root is None else moved @ root


def spread_of(X: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,) and eigenvectors (D, D) of the second moments of rows, float64."""
    values, vectors = torch.linalg.eigh((X.T @ X).double() / len(X))
    return values.clamp_min(1e-7 * values.max()), vectors
