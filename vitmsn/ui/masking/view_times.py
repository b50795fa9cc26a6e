"""How long the full and the masked view take, from a few forwards for each new mask.

Both are measured in turns, after the forward that gave the masked view's embedding; a slow model's full view only once
that is old. Views with as many patches take as long, whichever they are, so what was measured of them lately counts
together. Other work of the machine only makes a forward longer, so the shortest is nearest to the truth. Where the
shortest two differ much, or the one view cannot be that much faster or slower than the other, nothing is claimed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vitmsn.encoder import Encoder
from vitmsn.image import Picture

FRESH = 30.0  # seconds for which a measurement counts
MOST = 5  # measurements of as many patches that count together
ROUNDS = 3  # forwards of a full view that is quick
TURNS = 2  # of both views, where the full one is quick
QUICK = 50.0  # milliseconds
AGREE = 1.4  # the shortest two forwards differ by less, or the machine is too busy to measure
NOISE = 0.95  # fewer patches never take longer; what is left of that after measuring
MOST_SAVED = 2.0  # times the share of tokens: attention saves more than its share, but no view saves more than this


@dataclass
class ViewTimes:
    """What was measured of one model: for each number of patches (when, milliseconds)."""

    clock: Callable[[], float] = time.monotonic
    _model: str = ""  # its fingerprint
    _found: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)

    def full(self, encoder: Encoder, picture: Picture) -> float:
        """Milliseconds of the full view: measured now, or lately."""
        if self._model != encoder.fingerprint:
            self._model, self._found = encoder.fingerprint, {}
        patches = int(np.prod(encoder.grid()))
        known = self._known(patches)
        if known is None:
            first = encoder.time(picture, repeats=1, warm_up=not self._found)
            self._add(patches, first)
            for _ in range(ROUNDS - 1 if first < QUICK else 0):
                self._add(patches, encoder.time(picture, repeats=1, warm_up=False))
            known = self._known(patches)
            assert known is not None
        return known

    def both(self, encoder: Encoder, picture: Picture, kept: np.ndarray) -> tuple[float, float] | None:
        """Milliseconds of the full view, and of the one that keeps ``kept`` (rows, columns) bool; None where what was
        measured is not to be believed.

        A view with so many patches must have had a forward before: the first one is slower.
        """
        known = self.full(encoder, picture)
        if kept.all():
            return known, known
        count, keep = int(kept.sum()), np.flatnonzero(kept)
        for _ in range(TURNS if known < QUICK else 1):
            if known < QUICK:
                self._add(kept.size, encoder.time(picture, repeats=1, warm_up=False))
            self._add(count, encoder.time(picture, keep_indices=keep, repeats=1, warm_up=False))
        full, masked = self._fresh(kept.size), self._fresh(count)
        tokens = (1 + kept.size) / (1 + count)
        steady = all(times[1:2] <= [AGREE * times[0]] for times in (full, masked))
        likely = NOISE <= full[0] / masked[0] <= MOST_SAVED * tokens
        return (full[0], masked[0]) if steady and likely else None

    def _add(self, patches: int, milliseconds: float) -> None:
        self._found.setdefault(patches, deque(maxlen=MOST)).append((self.clock(), milliseconds))

    def _known(self, patches: int) -> float | None:
        """The median of what was measured lately; None without any."""
        fresh = self._fresh(patches)
        return float(np.median(fresh)) if fresh else None

    def _fresh(self, patches: int) -> list[float]:
        """What was measured lately, the shortest first."""
        now = self.clock()
        return sorted(value for when, value in self._found.get(patches, ()) if now - when < FRESH)
