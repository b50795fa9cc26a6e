"""The first page is there within five seconds of the start of the process.

    python -m benchmarks first_page            half a minute on two cores

`python -m vitmsn serve` with the embedded model, until the whole page has come over HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks import Figure, Row
from benchmarks.classify_request import served

WANTED = 5.0  # seconds


def rows(quick: bool = False) -> Iterator[Row]:
    seconds = np.array([_start() for _ in range(1 + (2 if quick else 6))][1:])  # the first one reads from disk
    said = f"{np.median(seconds):.2f} s"
    yield Row("first page after the start of the process, over 5 s", said, "5 s", Figure.of(seconds / WANTED), most=1.0)


def _start() -> float:
    begun = time.perf_counter()
    with served():
        return time.perf_counter() - begun
