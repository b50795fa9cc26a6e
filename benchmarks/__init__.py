"""One file per claim, each with ``rows(quick)``; ``python -m benchmarks`` prints them as one table.

A figure is a ratio of two things that were timed in turn, in one run, so that whatever else the machine does meets
both. It is the median of the ratios of neighboring rounds; the numbers in brackets are their quartiles. A wide spread
says that the machine was busy.
"""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Times = dict[str, NDArray[np.float64]]  # name -> seconds of each round


class Missing(Exception):
    """A peer that is not installed."""


def peer(name: str) -> ModuleType:
    """A package to compare with, that `make bench` installs. Raises Missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} cannot be imported ({error}); `make bench` installs it") from error


@dataclass(frozen=True)
class Figure:
    """A number that was measured several times: its median and its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> Figure:
        low, median, high = np.percentile(np.asarray(values, float), (25, 50, 75))
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """One claim: the ratio that was measured, and within which bounds it should be."""

    claim: str
    ours: str
    reference: str
    ratio: Figure
    least: float | None = None
    most: float | None = None

    @property
    def wanted(self) -> str:
        said = [f">= {self.least:g}"] if self.least is not None else []
        return ", ".join(said + ([f"<= {self.most:g}"] if self.most is not None else []))

    @property
    def verdict(self) -> str:
        if not self.wanted:
            return ""
        low, high = self.least or -np.inf, np.inf if self.most is None else self.most
        return "holds" if low <= self.ratio.median <= high else "missed"


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int, wall: bool = False, apart: bool = False) -> Times:
    """Seconds of each call in each round. The order changes every round; the first round is not counted.

    Args:
        wall: always by the clock on the wall. Otherwise, where torch has one thread, this is processor time, which
            other programs disturb less.
        apart: each call is made twice, and the second one counts. For libraries with threads of their own, which stay
            awake for a moment after a call and would take time from whichever library comes next.
    """
    clock = time.process_time if torch.get_num_threads() == 1 and not wall else time.perf_counter
    names, times = list(calls), {name: np.zeros(rounds) for name in calls}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if apart:
                calls[name]()
            start = clock()
            calls[name]()
            if turn:
                times[name][turn - 1] = clock() - start
    return times


def speedup(times: Times, ours: str, reference: str) -> Figure:
    """How many times as fast as the reference."""
    return Figure.of(times[reference] / times[ours])


def rate(times: Times, name: str, pictures: int) -> str:
    """Pictures a second, by the median."""
    return f"{pictures / float(np.median(times[name])):.3g} pictures/s"


def milliseconds(times: Times, name: str) -> str:
    return f"{1000 * float(np.median(times[name])):.3g} ms"


def alone(code: str, *arguments: object, **variables: str) -> str:
    """What a Python process of its own prints that runs ``code``; for memory, and for what must start cold.

    Args:
        variables: of its environment, beside those of this process.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, **variables, "BENCH_THREADS": str(torch.get_num_threads())}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def peak_memory() -> float:
    """Peak resident MB of this process. On Linux, ru_maxrss may be the parent's peak, where that is larger."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def table(rows: Iterable[Row]) -> str:
    """The rows as aligned text, ready for a Markdown file."""
    head = ("claim", "ours", "reference", "ratio", "wanted", "")
    lines = [(r.claim, r.ours, r.reference, str(r.ratio), r.wanted, r.verdict) for r in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *lines, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in (head, rule, *lines)
    )
