"""One file per claim, each with ``rows()``; ``python -m benchmarks`` runs them all into one table.

Times are the best of several rounds. Every candidate runs in each round, so other load on the machine affects all
alike. A claim is a ratio of such times, never a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One claim: how many times better than ``reference`` this package is, and how many times it should be."""

    claim: str
    ours: str
    reference: str
    ratio: float
    wanted: float

    @property
    def verdict(self) -> str:
        return "holds" if self.ratio >= self.wanted else "missed"


def best_of(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best time of each call in seconds. The order changes every round; the first round is not measured.

    On one thread this is processor time, which other programs hardly affect; on several it is wall time.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(calls, float("inf"))
    names = list(calls)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            calls[name]()
            if turn:
                best[name] = min(best[name], clock() - start)
    return best


def table(rows: Iterable[Row]) -> str:
    """The rows as aligned text, ready for a Markdown file."""
    head = ("claim", "ours", "reference", "ratio", "wanted", "")
    lines = [(r.claim, r.ours, r.reference, f"{r.ratio:.2f}", f">= {r.wanted:g}", r.verdict) for r in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *lines, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in (head, rule, *lines)
    )
