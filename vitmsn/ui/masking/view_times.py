"""How long the full and the masked view take, mostly from the forwards that are run for the answers anyway.

A mask that moves costs its own forward and at most one more: of the same view where that many patches are new, since
the first forward of a size prepares its products; else of the full view, every few seconds. Views with as many patches
take as long, whichever they are, so what was measured of them lately counts together, as a median. Where the shortest
two differ much, or the one view cannot be that much faster or slower than the other, nothing is claimed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.timing import Timing

FRESH = 120.0  # seconds for which a measurement counts
BESIDE = 10.0  # seconds after which the full view is measured again beside a masked one
MOST = 5  # measurements of as many patches that count together
ROUNDS = 3  # forwards of a full view that is quick, the first time
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

    def full(self, encoder: Encoder, picture: Picture, kept: np.ndarray | None = None) -> float:
        """Milliseconds of the full view: measured once, then what is known; measured again beside a view that keeps
        ``kept`` (rows, columns) bool, where that is to be compared with something newer."""
        if self._model != encoder.fingerprint:
            self._model, self._found = encoder.fingerprint, {}
        patches = int(np.prod(encoder.grid()))
        if patches not in self._found:
            first = encoder.time(picture, repeats=1)
            self._add(patches, first)
            for _ in range(ROUNDS - 1 if first < QUICK else 0):
                self._add(patches, encoder.time(picture, repeats=1, warm_up=False))
        elif kept is not None and self._is_due(kept):
            self._add(patches, encoder.time(picture, repeats=1, warm_up=False))
        return float(np.median([value for _, value in self._found[patches]]))

    def both(
        self, encoder: Encoder, picture: Picture, kept: np.ndarray, forwards: Sequence[Timing] = ()
    ) -> tuple[float, float] | None:
        """Medians of milliseconds of the full view, and of the one that keeps ``kept`` (rows, columns) bool; None where
        what was measured is not to be believed, or not enough yet.

        :meth:`full` comes before. ``forwards``: those that were run for the answer.
        """
        known = self.full(encoder, picture)
        if kept.all():
            return known, known
        count, keep = int(kept.sum()), np.flatnonzero(kept)
        own = [forward.milliseconds for forward in forwards if (forward.pictures, forward.patches) == (1, count)]
        new = count not in self._found
        for one in own[new:]:  # the first of its size prepares its products
            self._add(count, one)
        if not self._fresh(count):
            self._add(count, encoder.time(picture, keep_indices=keep, repeats=1, warm_up=new and not own))
        full, masked = self._fresh(kept.size), self._fresh(count)
        if not full:
            return None
        steady = all(times[1:2] <= [AGREE * times[0]] for times in (full, masked))
        found = float(np.median(full)), float(np.median(masked))
        likely = NOISE <= found[0] / found[1] <= MOST_SAVED * (1 + kept.size) / (1 + count)
        return found if steady and likely else None

    def _add(self, patches: int, milliseconds: float) -> None:
        self._found.setdefault(patches, deque(maxlen=MOST)).append((self.clock(), milliseconds))

    def _is_due(self, kept: np.ndarray) -> bool:
        """Whether the full view was last measured too long ago to be compared with one more view like this."""
        count = int(kept.sum())
        return count < kept.size and count in self._found and self.clock() - self._found[kept.size][-1][0] > BESIDE

    def _fresh(self, patches: int) -> list[float]:
        """What was measured lately, the shortest first."""
        now = self.clock()
        return sorted(value for when, value in self._found.get(patches, ()) if now - when < FRESH)
