"""Functions that skip the queue: so many in a minute, for each visitor and each address."""

from __future__ import annotations

import pytest

from vitmsn import limits
from vitmsn.ui.rates import Rates


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setattr(limits, "VISITOR_EVENTS", 6)
    monkeypatch.setattr(limits, "ADDRESS_EVENTS", 10)
    return [100.0]


def test_a_visitor_has_a_minutes_worth_and_gets_it_back_steadily(now: list[float]) -> None:
    rates = Rates(lambda: now[0])
    assert [rates.take("a", "host") for _ in range(8)] == [True] * 6 + [False] * 2
    now[0] += 10  # a sixth of a minute, so one of six
    assert [rates.take("a", "host") for _ in range(2)] == [True, False]
    now[0] += 600
    assert [rates.take("a", "host") for _ in range(7)] == [True] * 6 + [False]


def test_made_up_sessions_of_one_address_have_one_bound_and_others_have_theirs(now: list[float]) -> None:
    rates = Rates(lambda: now[0])
    assert [rates.take(f"session{number}", "host") for number in range(12)] == [True] * 10 + [False] * 2
    assert rates.take("session0", "other host")


def test_a_refused_request_costs_nothing(now: list[float]) -> None:
    rates = Rates(lambda: now[0])
    for _ in range(50):
        rates.take("a", "host")  # 6 of the address's 10
    assert [rates.take("b", "host") for _ in range(5)] == [True] * 4 + [False]


def test_few_senders_are_remembered(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED_VISITS", 4)
    rates = Rates(lambda: now[0])
    for number in range(50):
        rates.take("a", f"host{number}")
    assert len(rates._spent) == 4
