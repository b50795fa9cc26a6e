"""What the Attention tab keeps for a visitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitmsn.image import Picture


@dataclass(frozen=True)
class Depth:
    """(layers, heads) of one picture in one model at one size."""

    key: tuple[object, ...]
    distance: np.ndarray
    entropy: np.ndarray
    patches: int

    @property
    def nbytes(self) -> int:
        return self.distance.nbytes + self.entropy.nbytes


@dataclass
class AttentionOnPage:
    ranges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the controls


@dataclass
class AttentionState:
    layers: int | None = None  # of the model that answered last
    depth: Depth | None = None
    other: Picture | None = None  # the visitor's second picture

    @property
    def nbytes(self) -> int:
        pixels = 0 if self.other is None else self.other.rgb.width * self.other.rgb.height * 3
        return pixels + (0 if self.depth is None else self.depth.nbytes)
