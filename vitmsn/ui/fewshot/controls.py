"""What the Few-shot tab's controls say: how to learn, and how careful to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui.shared.checks import whole
from vitmsn.ui.shared.workspace import METHODS


class LessonSettings(NamedTuple):
    """What a classifier is learned with, in the order of `Studio.lesson`."""

    method: str
    k: int
    caution: float  # share of the examples that may be turned away
    temperature: float


@dataclass(frozen=True)
class FewShotControls:
    method: str = "auto"
    k: float = 5
    caution: float = 5  # percent
    temperature: float = 0.07

    def checked(self) -> LessonSettings:
        """With every value in its range; InputError names one that is not."""
        if self.method not in METHODS:
            raise InputError(f"There is no method {str(self.method)[:32]!r}; choose one of {', '.join(METHODS)}.")
        number = isinstance(self.caution, (int, float)) and math.isfinite(self.caution)
        if not number or not 0 <= self.caution <= 100:
            raise InputError(f"The share is {self.caution!r}; it must be from 0 to 100 %.")
        if not isinstance(self.temperature, (int, float)) or not 0.01 <= self.temperature <= 1:
            raise InputError(f"The temperature is {self.temperature!r}; it must be from 0.01 to 1.")
        k = whole(self.k, "k", 1, limits.MAX_K)
        return LessonSettings(self.method, k, self.caution / 100, float(self.temperature))


DEFAULTS = FewShotControls()
