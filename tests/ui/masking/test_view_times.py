"""Times of views: few forwards, what was measured lately counts together, and nothing is claimed of a busy machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitmsn.encoder import Encoder
from vitmsn.timing import timings
from vitmsn.ui.masking.view_times import FRESH, ROUNDS, TURNS, ViewTimes
from vitmsn.ui.visits import Call

HALF = np.arange(16).reshape(4, 4) < 8


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def counted(encoder: Encoder, times: ViewTimes, call: Call, kept: np.ndarray) -> list[int]:
    """Patches of each forward of one measurement."""
    with timings() as forwards:
        times.both(encoder, call.picture, kept)
    return [forward.patches for forward in forwards]


def test_a_mask_costs_few_forwards_once_the_full_view_is_known(
    tiny: Encoder, call: Callable[..., Call], clock: Clock
) -> None:
    times, turns = ViewTimes(clock), [16, 8] * TURNS
    assert counted(tiny, times, call(), HALF) == [16] * (1 + ROUNDS) + turns, "the first one warms up"
    assert counted(tiny, times, call(), HALF) == turns
    assert counted(tiny, times, call(), HALF.T) == turns, "as many patches, another mask"
    clock.now += FRESH + 1
    assert counted(tiny, times, call(), HALF) == [16] * ROUNDS + turns
    assert counted(tiny, times, call(), np.ones((4, 4), bool)) == []


def measured(
    monkeypatch: pytest.MonkeyPatch, tiny: Encoder, call: Callable[..., Call], *coming: float
) -> tuple[float, float] | None:
    """What comes of these times, the first of them of the full view alone."""
    left = iter(coming)
    monkeypatch.setattr(tiny, "time", lambda *_, **__: next(left))
    found = ViewTimes().both(tiny, call().picture, HALF)
    assert next(left, None) is None, "all were asked for"
    return found


def test_the_shortest_of_both_is_given(
    tiny: Encoder, call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured(monkeypatch, tiny, call, 30.0, 9.0, 8.0, 8.5, 4.0, 20.0, 4.5) == (8.0, 4.0)
    assert measured(monkeypatch, tiny, call, 80.0, 50.0) == (80.0, 50.0), "a slow model is measured once"


def test_what_a_busy_machine_measures_is_not_told(
    tiny: Encoder, call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = (9.0, 9.0, 9.0, 9.0, 4.0, 9.0, 8.0)
    slower = (3.0, 3.0, 3.0, 3.0, 20.0, 3.0, 20.0)
    too_fast = (30.0, 30.0, 30.0, 30.0, 4.0, 30.0, 4.0)
    for times in (apart, slower, too_fast, (80.0, 200.0)):
        assert measured(monkeypatch, tiny, call, *times) is None


def test_what_is_old_does_not_count(
    tiny: Encoder, call: Callable[..., Call], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = ViewTimes(clock)
    monkeypatch.setattr(tiny, "time", lambda *_, keep_indices=None, **__: 4.0 if keep_indices is None else 3.0)
    assert times.both(tiny, call().picture, HALF) == (4.0, 3.0)
    monkeypatch.setattr(tiny, "time", lambda *_, keep_indices=None, **__: 8.0 if keep_indices is None else 6.0)
    assert times.both(tiny, call().picture, HALF) == (4.0, 3.0)
    clock.now += FRESH + 1
    assert times.both(tiny, call().picture, HALF) == (8.0, 6.0)


def test_another_model_starts_anew(tiny: Encoder, call: Callable[..., Call], clock: Clock) -> None:
    times = ViewTimes(clock)
    counted(tiny, times, call(), HALF)
    other = Encoder.random(tiny.config, seed=3, device="cpu")
    assert counted(other, times, call(), HALF)[:2] == [16, 16]


def test_a_full_view_is_as_fast_as_itself(tiny: Encoder, call: Callable[..., Call]) -> None:
    taken = ViewTimes().both(tiny, call().picture, np.ones((4, 4), bool))
    assert taken is not None and taken[0] == taken[1] > 0
