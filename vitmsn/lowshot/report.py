"""What was measured of one model, as rows of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ReportRow:
    """One line of a report: ``accuracy`` is the mean of ``splits``, ``spread`` their standard deviation."""

    features: str
    protocol: str
    images: int  # labelled pictures trained on
    splits: tuple[float, ...]
    top5: float | None = None

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.splits))

    @property
    def spread(self) -> float:
        return float(np.std(self.splits, ddof=1)) if len(self.splits) > 1 else 0.0


@dataclass(frozen=True)
class Report:
    """What was measured of one model, and on how much."""

    model: str
    train: int
    test: int
    classes: int
    rows: list[ReportRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the fields, and each row's accuracy and spread."""
        rows = [{**asdict(row), "accuracy": row.accuracy, "spread": row.spread} for row in self.rows]
        return {**asdict(self), "rows": rows}

    def header(self) -> tuple[str, ...]:
        return "features", "protocol", "labels", "accuracy", "spread", "top-5"

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text, accuracies in percent."""
        return [
            (
                row.features,
                row.protocol,
                str(row.images),
                f"{100 * row.accuracy:.1f}",
                f"{100 * row.spread:.1f}" if len(row.splits) > 1 else "",
                "" if row.top5 is None else f"{100 * row.top5:.1f}",
            )
            for row in self.rows
        ]
