"""Schedules at their corners and between."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vitmsn.training.schedule import cosine, linear, warmup_cosine, warmup_linear


def test_linear_warmup_then_cosine_decay() -> None:
    rates = [warmup_cosine(step, 100, 20, 0.1, 1.0, 0.2) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.55)
    assert rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.6)  # half way down, half the height
    assert rates[100] == pytest.approx(0.2)
    assert all(a < b for a, b in pairwise(rates[:21]))
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_no_warmup_starts_at_the_peak() -> None:
    assert warmup_cosine(0, 10, 0, 0.0, 1.0, 0.0) == pytest.approx(1.0)


def test_cosine_rises_too_and_stays_at_its_end() -> None:
    assert cosine(0, 10, 0.04, 0.4) == pytest.approx(0.04)
    assert cosine(5, 10, 0.04, 0.4) == pytest.approx(0.22)
    assert cosine(99, 10, 0.04, 0.4) == pytest.approx(0.4)


def test_linear() -> None:
    assert [linear(step, 4, 0.0, 1.0) for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]


def test_linear_warmup_then_linear_decay() -> None:
    rates = [warmup_linear(step, 100, 20, 0.0, 1.0, 0.2) for step in (0, 10, 20, 60, 100)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2])
