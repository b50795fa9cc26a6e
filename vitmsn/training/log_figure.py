"""A run's log as one figure of several panels."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitmsn.draw import class_style
from vitmsn.errors import DataError
from vitmsn.files import replacing

# title, unit of the y axis, {column of the log: its name}
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Loss", "nats", {"loss": "loss"}),
    ("Its parts", "nats", {
        "cross_entropy": "cross-entropy",
        "divergence": "KL to the teacher",
        "mean_entropy": "entropy of the mean",
        "anchor_entropy": "mean entropy",
    }),
    ("Does it learn?", "share of held-out pictures", {
        "knn": "kNN", "accuracy": "class", "agreement": "as the teacher",
    }),
    ("Prototypes in use", "of a batch's targets", {"prototypes_in_use": "in use"}),
    ("Feature rank", "effective dimensions", {"feature_rank": "rank"}),
    ("Speed", "pictures / s", {"pictures_per_second": "pictures / s"}),
    ("Cost of a step", "ms", {
        f"{part}_ms": part for part in ("views", "target", "anchors", "loss", "backward", "update")
    }),
    ("Gradient norm", "before clipping", {"gradient_norm": "norm"}),
    ("Learning rate", "", {"rate": "rate"}),
)  # fmt: skip


def figure(log: Path, file: Path) -> None:
    """Draw a run's ``log.csv`` to a picture ``file`` (PNG), in one piece.

    Raises:
        DataError: the log has no rows.
    """
    with log.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows:
        raise DataError(f"{log} has no rows yet; wait until the run has logged once.")
    sheet = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    for axes, (title, unit, columns) in zip(sheet.subplots(3, 3).flat, PANELS, strict=True):
        _panel(axes, rows, columns)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        if unit != "nats":
            axes.set_ylim(bottom=0)  # shares, counts and costs: half as high is half as much
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as fresh:
        sheet.savefig(fresh, format="png")


def figure_updater(out: Path, steps: int, seconds: float = 60.0) -> Callable[[dict[str, float]], None]:
    """A function for each row of a run's log: draws ``out / "log.png"``, every ``seconds`` at most and at the end."""
    drawn = time.monotonic()

    def draw(row: dict[str, float]) -> None:
        nonlocal drawn
        if time.monotonic() - drawn > seconds or row["step"] == steps:
            figure(out / "log.csv", out / "log.png")
            drawn = time.monotonic()

    return draw


def _panel(axes: Axes, rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> None:
    drawn = 0
    for index, (column, name) in enumerate(columns.items()):
        points = [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
        if points:
            tone, letter = class_style(index)
            label = f"{letter} {name}" if len(columns) > 1 else name
            axes.plot(*zip(*points, strict=True), color=tone, marker="o" if len(points) < 30 else "", label=label)
            drawn += 1
    if len(columns) > 1 and drawn:
        axes.legend(fontsize=8, frameon=False)
    if not drawn:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
