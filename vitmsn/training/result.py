"""What every training run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingResult:
    """A trained model, finished or as far as it got.

    Attributes:
        out: folder of the run, with its state and log.
        model: folder of the model, in it.
        card: that of the model folder.
    """

    out: Path
    model: Path
    finished: bool
    steps: int
    total_steps: int
    card: dict[str, Any]

    @property
    def epochs(self) -> float:
        return float(self.card["epochs"])

    def to_dict(self) -> dict[str, Any]:
        data = {"out": str(self.out), "model": str(self.model), "finished": self.finished, "steps": self.steps}
        return data | self.card
