"""How often one sender may ask for functions that skip the queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from cachetools import LRUCache

from vitmsn import limits


class Rates:
    """A minute's worth of requests for each visitor and each address, given back steadily (token buckets)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: LRUCache[Hashable, tuple[float, float]] = LRUCache(limits.REMEMBERED_VISITS)  # -> (spent, when)

    def take(self, session: str, address: str) -> bool:
        """Count one request; False when its visitor or its address has no more."""
        now = self._clock()
        asked = (((address, session), limits.VISITOR_EVENTS), (address, limits.ADDRESS_EVENTS))
        spent = {sender: self._still_spent(sender, most, now) for sender, most in asked}
        if any(spent[sender] + 1 > most for sender, most in asked):
            return False
        self._spent.update({sender: (count + 1, now) for sender, count in spent.items()})
        return True

    def _still_spent(self, sender: Hashable, most: int, now: float) -> float:
        """What is still spent of a minute's worth."""
        spent, when = self._spent.get(sender, (0.0, now))
        return max(0.0, spent - (now - when) * most / 60)
