"""A map of 2,000 points by UMAP after the warm-up, against the library called as its documentation does.

    python -m benchmarks umap_map              a minute on two cores

Without the warm-up, numba compiles for some ten seconds; the app does that when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import Figure, Row, in_turn, milliseconds, peer, speedup
from benchmarks.fewshot_refit import examples
from vitmsn import projection

POINTS = 2000
WANTED = 6.0  # seconds


def rows(quick: bool = False) -> Iterator[Row]:
    library = peer("umap")
    X, _ = examples(POINTS)
    projection.warm_up()
    calls = {
        "ours": lambda: projection.umap(X),
        "theirs": lambda: library.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(X),
    }
    times = in_turn(calls, 1 if quick else 5)
    claim = f"UMAP of {POINTS:,} points after the warm-up"
    said = (milliseconds(times, name) for name in calls)
    yield Row(f"{claim}: over umap-learn's own call", *said, speedup(times, "ours", "theirs"), 1.0)
    ours = f"{float(np.median(times['ours'])):.2g} s"
    yield Row(f"{claim}: over {WANTED:g} s", ours, f"{WANTED:g} s", Figure.of(WANTED / times["ours"]), 1.0)
