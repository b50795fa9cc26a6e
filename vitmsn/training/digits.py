"""Handwritten digits, from scikit-learn, for the preset that learns in a minute: lessons, tests, a first run.

1,797 digits of 8 x 8 pixels (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0), read at run time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn.errors import InputError

NAME = "scikit-learn's digits"
HELD_OUT = 360  # digits, a fifth of them, always the same


def load(side: int = 16) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pictures (N, 3, side, side) uint8, ink bright on black, and labels (N,) int64: to train on, and held out.

    Raises:
        InputError: a side below 8, the size of the digits.
    """
    if side < 8:
        raise InputError(f"The digits would be {side} pixels wide; they have 8 x 8 pixels; give at least 8.")
    from sklearn.datasets import load_digits

    data = load_digits()
    ink = torch.from_numpy(data.images).float()[:, None] / 16  # (N, 1, 8, 8)
    gray = F.interpolate(ink, size=(side, side), mode="bilinear", align_corners=False)
    pictures = (255 * gray).round().byte().expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(data.target.astype(np.int64))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    asked, known = order[:HELD_OUT], order[HELD_OUT:]
    return (pictures[known], labels[known]), (pictures[asked], labels[asked])
