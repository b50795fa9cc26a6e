"""The MSN loss (arXiv 2204.07141, section 3) as pure functions, in float32 and in log space.

Letters: B pictures of the whole batch, V anchor views of each, P prototypes. Log space because a sharpened target,
p^(1/T) with T = 0.25, underflows as a plain power.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitmsn.errors import InputError


@dataclass(frozen=True)
class LossParts:
    """Scalars, in nats: ``total = cross_entropy - me_max_weight * mean_entropy + entropy_weight * anchor_entropy``."""

    total: Tensor
    cross_entropy: Tensor  # of the anchors' assignment against the target's, equation 2
    mean_entropy: Tensor  # of the mean anchor assignment; me-max keeps it high, at most log P
    anchor_entropy: Tensor  # mean entropy of single anchors; the optional last term of the original code


def msn_loss(anchors: Tensor, targets: Tensor, me_max_weight: float = 1.0, entropy_weight: float = 0.0) -> LossParts:
    """Match every anchor view to its picture's target, and spread the mean assignment over the prototypes.

    Args:
        anchors: (V, B, P) log-probabilities.
        targets: (B, P) probabilities, already sharpened (and balanced by Sinkhorn where wanted); constants here.
    """
    if anchors.ndim != 3 or anchors.shape[1:] != targets.shape:
        raise InputError(
            f"anchors are {tuple(anchors.shape)} and targets {tuple(targets.shape)}; (views, pictures, prototypes) and "
            "(pictures, prototypes) are needed."
        )
    anchors, targets = anchors.float(), targets.detach().float()
    cross_entropy = -(targets * anchors).sum(-1).mean()
    log_mean = torch.logsumexp(anchors.flatten(0, 1), dim=0) - _log(anchors.shape[0] * anchors.shape[1], anchors)
    mean_entropy = -(log_mean.exp() * log_mean).sum()
    anchor_entropy = -(anchors.exp() * anchors).sum(-1).mean()
    total = cross_entropy - me_max_weight * mean_entropy
    if entropy_weight:
        total = total + entropy_weight * anchor_entropy
    return LossParts(total, cross_entropy, mean_entropy, anchor_entropy)


def sharpen(log_probabilities: Tensor, exponent: float) -> Tensor:
    """p^(1/T) renormalized, for T = ``exponent``: (B, P) log-probabilities -> (B, P) probabilities (section 3)."""
    return torch.softmax(log_probabilities.float() / exponent, dim=-1)


def sinkhorn(probabilities: Tensor, iterations: int = 3) -> Tensor:
    """Balance assignments so that every prototype receives the same share of the batch (Sinkhorn-Knopp).

    Args:
        probabilities: (B, P), rows sum to 1.

    Returns:
        (B, P); rows sum to 1 exactly, columns to B / P the more closely the more iterations.
    """
    # columns then rows, as the original does; the floor avoids dividing by zero for an unused prototype
    balanced = probabilities.float()
    for _ in range(iterations):
        balanced = balanced / balanced.sum(0, keepdim=True).clamp_min(1e-8)
        balanced = balanced / balanced.sum(1, keepdim=True).clamp_min(1e-8)
    return balanced


def _log(count: int, like: Tensor) -> Tensor:
    return torch.log(torch.tensor(float(count), device=like.device))
