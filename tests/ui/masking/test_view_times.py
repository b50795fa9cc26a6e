"""Times of views: few forwards, what was measured lately counts together, and nothing is claimed of a busy machine."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from vitmsn.encoder import Encoder
from vitmsn.timing import Timing, timings
from vitmsn.ui.masking.view_times import BESIDE, FRESH, ROUNDS, ViewTimes
from vitmsn.ui.visits import Call

HALF = np.arange(16).reshape(4, 4) < 8


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tiny(tiny: Encoder) -> Encoder:
    """With a cache of its own: what other tests asked for would save forwards that are counted here."""
    return copy.deepcopy(tiny)


def counted(encoder: Encoder, times: ViewTimes, call: Call, kept: np.ndarray) -> list[int]:
    """Patches of each forward that a mask costs: for its answer and for the times."""
    with timings() as forwards:
        times.full(encoder, call.picture, kept)
        with timings() as own:
            encoder.embed(call.picture, keep_indices=np.flatnonzero(kept))
        times.both(encoder, call.picture, kept, own)
    return [forward.patches for forward in forwards]


def test_a_mask_costs_two_forwards_at_most_once_the_full_view_is_known(
    tiny: Encoder, call: Callable[..., Call], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitmsn.ui.masking.view_times.QUICK", float("inf"))  # however busy the machine is
    times = ViewTimes(clock)
    assert counted(tiny, times, call(), HALF)[:4] == [16] * (1 + ROUNDS), "the first one warms up"
    quarter = np.arange(16).reshape(4, 4) < 4
    assert counted(tiny, times, call(), quarter) == [4, 4], "the first of its size is not counted"
    assert counted(tiny, times, call(), quarter.T) == [4], "as many patches, another mask"
    assert counted(tiny, times, call(), quarter.T) == [], "known"
    clock.now += BESIDE + 1
    assert counted(tiny, times, call(), quarter[::-1]) == [16, 4], "both beside one another"
    clock.now += FRESH + 1
    assert counted(tiny, times, call(), np.arange(16).reshape(4, 4) < 5) == [5, 5]
    with timings() as forwards:
        times.full(tiny, call().picture, np.ones((4, 4), bool))
        times.both(tiny, call().picture, np.ones((4, 4), bool))
    assert forwards == []


def measured(
    monkeypatch: pytest.MonkeyPatch, tiny: Encoder, call: Callable[..., Call], full: list[float], masked: list[float]
) -> tuple[float, float] | None:
    """What comes of these times; the last one is of the answer's own forward, after one that warmed up."""
    left = iter([*full, masked[0]])
    monkeypatch.setattr(tiny, "time", lambda *_, **__: next(left))
    times, picture, found = ViewTimes(), call().picture, None
    for own in (99.0, *masked[1:]):
        found = times.both(tiny, picture, HALF, [Timing("tiny", own, 1, 8, (16, 16))])
    assert next(left, None) is None, "all were asked for"
    return found


def test_the_medians_of_both_are_given(
    tiny: Encoder, call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured(monkeypatch, tiny, call, [9.0, 8.0, 30.0], [4.0, 20.0, 4.5]) == (9.0, 4.5)
    assert measured(monkeypatch, tiny, call, [80.0], [50.0]) == (80.0, 50.0), "a slow model is measured once"


def test_what_a_busy_machine_measures_is_not_told(
    tiny: Encoder, call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = [9.0, 9.0, 9.0], [4.0, 8.0]
    slower = [3.0, 3.0, 3.0], [20.0, 20.0]
    too_fast = [30.0, 30.0, 30.0], [4.0, 4.0]
    for full, masked in (apart, slower, too_fast, ([80.0], [200.0])):
        assert measured(monkeypatch, tiny, call, full, masked) is None


def test_what_is_old_does_not_count(
    tiny: Encoder, call: Callable[..., Call], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, picture = ViewTimes(clock), call().picture

    def found() -> tuple[float, float] | None:
        times.full(tiny, picture, HALF)
        return times.both(tiny, picture, HALF)

    monkeypatch.setattr(tiny, "time", lambda *_, keep_indices=None, **__: 4.0 if keep_indices is None else 3.0)
    assert found() == (4.0, 3.0)
    monkeypatch.setattr(tiny, "time", lambda *_, keep_indices=None, **__: 8.0 if keep_indices is None else 6.0)
    assert found() == (4.0, 3.0)
    clock.now += FRESH + 1
    assert found() == (8.0, 6.0)
    clock.now += FRESH + 1
    assert times.both(tiny, picture, ~HALF) is None, "nothing new of the full view"


def test_another_model_starts_anew(tiny: Encoder, call: Callable[..., Call], clock: Clock) -> None:
    times = ViewTimes(clock)
    counted(tiny, times, call(), HALF)
    other = Encoder.random(tiny.config, seed=3, device="cpu")
    assert counted(other, times, call(), HALF)[:2] == [16, 16]


def test_a_full_view_is_as_fast_as_itself(tiny: Encoder, call: Callable[..., Call]) -> None:
    taken = ViewTimes().both(tiny, call().picture, np.ones((4, 4), bool))
    assert taken is not None and taken[0] == taken[1] > 0
