"""A run to watch while it learns: numbers, kNN accuracy and a map of held-out pictures, every few steps.

What it yields is plain data, one JSON line each on the command line: the page's live training reads them there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn.errors import InputError
from vitmsn.lowshot import knn_accuracy
from vitmsn.training.trainer import Trainer, embed

MAPPED = 160  # held-out pictures on the map


def watch(
    trainer: Trainer,
    labels: Tensor,
    queries: Tensor,
    wanted: Tensor,
    *,
    every: int = 10,
    limit_seconds: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Train to the recipe's end, or until ``limit_seconds`` have passed, and yield frames on the way.

    Args:
        trainer: at its first step, with pictures in memory.
        labels: (N,) of the trainer's pictures; nothing is trained on them.
        queries: (M, 3, height, width) uint8 held-out pictures, and ``wanted`` (M,) their labels.
        every: steps between two frames.

    Raises:
        InputError: pictures that are left on disk, or that have no label.

    Yields:
        First ``{"pictures", "held_out", "steps", "prototypes", "raw", "labels"}``: what is trained, kNN accuracy of raw
        pixels, and the labels of the pictures mapped. Then frames: what ``train_step`` tells (none before the first
        step), ``step``, ``seconds``, ``knn`` (of the target network: 20 neighbors among all training pictures),
        ``spread`` (of the unit projections of the pictures mapped: mean squared distance to their mean, 1 at most, 0
        when all are alike) and ``xy``, a point of their main plane for each.
    """
    pictures = trainer.pictures
    if not isinstance(pictures, Tensor):
        raise InputError("Only a run with its pictures in memory can be watched; leave --stream out.")
    if int(labels.min()) < 0 or int(wanted.min()) < 0:
        raise InputError("Watching measures with labels and some pictures have none; label all, or leave --watch out.")
    pixels, asked = (part.flatten(1).numpy() for part in (pictures, queries))
    mapped = min(MAPPED, len(queries))
    yield {
        "pictures": len(pictures),
        "held_out": len(queries),
        "steps": trainer.steps,
        "prototypes": trainer.recipe.prototypes,
        "raw": round(knn_accuracy(pixels, labels, asked, wanted), 4),
        "labels": wanted[:mapped].tolist(),
    }
    before: np.ndarray | None = None
    row: dict[str, float] = {}
    began = time.monotonic()
    while True:
        seconds = time.monotonic() - began
        over = trainer.step >= trainer.steps or (limit_seconds is not None and seconds > limit_seconds)
        if trainer.step % every == 0 or over:
            X, Q = (embed(trainer.target_model, part, torch.arange(len(part))) for part in (pictures, queries))
            projected = projections(trainer, Q[:mapped])
            before = aligned(plane(projected), before)
            yield {
                **{name: float(f"{value:.5g}") for name, value in row.items()},
                "step": trainer.step,
                "seconds": round(time.monotonic() - began, 2),
                "knn": round(knn_accuracy(X.numpy(), labels, Q.numpy(), wanted), 4),
                "spread": round(float(projected.var(0).sum()), 4),
                "xy": [[round(float(value), 2) for value in point] for point in before],
            }
        if over:
            return
        row = trainer.train_step()


@torch.no_grad()
def projections(trainer: Trainer, cls: Tensor) -> np.ndarray:
    """Embeddings (N, D) of the target network -> unit vectors (N, output), as they are compared with prototypes."""
    head = trainer.target_head
    training = head.training
    head.eval()  # one picture's projection must not depend on the others'
    projected: np.ndarray = F.normalize(head(cls.to(trainer.device)), dim=1).cpu().numpy()
    head.train(training)
    return projected


def plane(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) -> their two principal coordinates (N, 2), unscaled: rows that are all alike give one point."""
    around = (rows - rows.mean(0)).astype(np.float64)
    _, vectors = np.linalg.eigh(around.T @ around)
    points: np.ndarray = around @ vectors[:, :-3:-1]
    return points


def aligned(points: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """The same map turned and mirrored to be closest to the one before (orthogonal Procrustes), so that it does not
    flicker: an eigenvector has no fixed sign, and two may swap."""
    if before is None:
        return points
    left, _, right = np.linalg.svd(points.T @ before)
    turned: np.ndarray = points @ (left @ right)
    return turned
