"""Schedules as pure functions of a step: for the rate a warm-up, then a cosine or a line; for decay a cosine."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: int, start: float, peak: float, end: float) -> float:
    """The learning rate at ``step`` of ``steps``: a line from ``start`` to ``peak``, then half a cosine to ``end``."""
    if step < warmup:
        return start + (peak - start) * step / warmup
    return cosine(step - warmup, max(1, steps - warmup), peak, end)


def warmup_linear(step: int, steps: int, warmup: int, start: float, peak: float, end: float) -> float:
    """The learning rate at ``step`` of ``steps``: a line from ``start`` to ``peak``, then a line to ``end``.

    For a budget that is known, a line to nearly nothing learns most (Bergsma et al., arXiv 2502.15938).
    """
    if step < warmup:
        return start + (peak - start) * step / warmup
    return linear(step - warmup, max(1, steps - warmup), peak, end)


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 0 to ``end`` at ``steps``, and ``end`` after it."""
    progress = min(1.0, step / max(1, steps))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def linear(step: int, steps: int, start: float, end: float) -> float:
    """A line from ``start`` at step 0 to ``end`` at ``steps``."""
    return start + (end - start) * min(1.0, step / max(1, steps))
