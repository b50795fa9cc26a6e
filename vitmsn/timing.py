"""How long forwards took, told to whoever asks: a timing is never left on an encoder that several threads share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One forward: the model's name, how long it took, over how many patches of how large an input."""

    model: str
    milliseconds: float
    pictures: int
    patches: int
    size: tuple[int, int]


_RECORDINGS: ContextVar[tuple[list[Timing], ...]] = ContextVar("recordings", default=())


@contextmanager
def timings() -> Iterator[list[Timing]]:
    """Record the forwards of this block, in order; not those of other threads, and not results from the cache.

    with timings() as forwards:
        encoder.embed("cat.jpg")
    print(forwards[-1].milliseconds)
    """
    forwards: list[Timing] = []
    token = _RECORDINGS.set((*_RECORDINGS.get(), forwards))
    try:
        yield forwards
    finally:
        _RECORDINGS.reset(token)


def record(timing: Timing) -> None:
    """Add a forward to each recording that this thread is in."""
    for forwards in _RECORDINGS.get():
        forwards.append(timing)
