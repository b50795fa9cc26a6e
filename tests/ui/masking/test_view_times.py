"""Times of views: few forwards, and what was measured lately counts together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitmsn.encoder import Encoder
from vitmsn.timing import timings
from vitmsn.ui.masking.view_times import FRESH, ROUNDS, ViewTimes
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


def test_a_mask_costs_one_forward_once_the_full_view_is_known(
    tiny: Encoder, call: Callable[..., Call], clock: Clock
) -> None:
    times = ViewTimes(clock)
    assert counted(tiny, times, call(), HALF) == [16] * (1 + ROUNDS) + [8], "the first one warms up"
    assert counted(tiny, times, call(), HALF) == [8]
    assert counted(tiny, times, call(), HALF.T) == [8], "as many patches, another mask"
    clock.now += FRESH + 1
    assert counted(tiny, times, call(), HALF) == [16] * ROUNDS + [8]
    assert counted(tiny, times, call(), np.ones((4, 4), bool)) == []


def test_the_median_of_what_is_fresh_is_given(
    tiny: Encoder, call: Callable[..., Call], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, coming = ViewTimes(clock), iter([8.0, 9.0, 10.0, 4.0, 1.0, 1.0, 6.0, 6.0, 6.0, 2.0])
    monkeypatch.setattr(tiny, "time", lambda *_, **__: next(coming))
    assert times.both(tiny, call().picture, HALF) == (9.0, 4.0)
    assert times.both(tiny, call().picture, HALF) == (9.0, 2.5)
    assert times.both(tiny, call().picture, HALF) == (9.0, 1.0)
    clock.now += FRESH + 1
    assert times.both(tiny, call().picture, HALF) == (6.0, 2.0)


def test_another_model_starts_anew(tiny: Encoder, call: Callable[..., Call], clock: Clock) -> None:
    times = ViewTimes(clock)
    counted(tiny, times, call(), HALF)
    other = Encoder.random(tiny.config, seed=3, device="cpu")
    assert counted(other, times, call(), HALF)[:2] == [16, 16]


def test_a_full_view_is_as_fast_as_itself(tiny: Encoder, call: Callable[..., Call]) -> None:
    full, masked = ViewTimes().both(tiny, call().picture, np.ones((4, 4), bool))
    assert full == masked > 0
