"""The Few-shot tab's controls: how to learn, and how careful to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vitmsn import limits
from vitmsn.ui.shared.checks import choice, real, whole
from vitmsn.ui.shared.workspace import METHODS


class LessonSettings(NamedTuple):
    """The settings of a classifier, in the order of `Workspace.lesson`."""

    method: str
    k: int
    caution: float  # share of the examples that may be rejected as "none of these"
    temperature: float


@dataclass(frozen=True)
class FewShotControls:
    method: str = "auto"
    k: float = 5
    caution: float = 5  # percent
    temperature: float = 0.07

    def checked(self) -> LessonSettings:
        """The same controls, checked; InputError names a value out of range."""
        return LessonSettings(
            choice(self.method, "method", METHODS),
            whole(self.k, "k", 1, limits.MAX_K),
            real(self.caution, "The share", 0, 100, " %") / 100,
            real(self.temperature, "temperature", 0.01, 1),
        )


DEFAULTS = FewShotControls()
