"""How long the full and the masked view take, from one forward for each new mask.

The full view is measured when a visit first needs it and again once that is old; a masked view once, after the forward
that gave its embedding. Views with as many patches take as long, whichever they are, so that what was measured of them
lately counts together.
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
QUICK = 50.0  # milliseconds


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

    def both(self, encoder: Encoder, picture: Picture, kept: np.ndarray) -> tuple[float, float]:
        """Milliseconds of the full view, and of the one that keeps ``kept`` (rows, columns) bool, measured once now.

        A view with so many patches must have had a forward before: the first one is slower.
        """
        full = self.full(encoder, picture)
        if kept.all():
            return full, full
        count = int(kept.sum())
        self._add(count, encoder.time(picture, keep_indices=np.flatnonzero(kept), repeats=1, warm_up=False))
        masked = self._known(count)
        assert masked is not None
        return full, masked

    def _add(self, patches: int, milliseconds: float) -> None:
        self._found.setdefault(patches, deque(maxlen=MOST)).append((self.clock(), milliseconds))

    def _known(self, patches: int) -> float | None:
        """The median of what was measured lately; None without any."""
        now = self.clock()
        fresh = [value for when, value in self._found.get(patches, ()) if now - when < FRESH]
        return float(np.median(fresh)) if fresh else None
