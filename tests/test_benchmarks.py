"""How the benchmarks measure and tell; what they measure is not repeated here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from types import ModuleType

import numpy as np
import pytest

import benchmarks
from benchmarks import Figure, Missing, Row, __main__
from tests.support.app import ROOT


def test_things_are_timed_in_turn_and_the_first_round_does_not_count() -> None:
    called: list[str] = []
    calls = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    times = benchmarks.in_turn(calls, 3, wall=True)
    assert called == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert all((found > 0).all() for found in times.values())


def test_libraries_with_threads_of_their_own_are_timed_by_a_second_call(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(benchmarks.time, "perf_counter", lambda: called.append("clock") or len(called))
    calls = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    assert benchmarks.in_turn(calls, 1, wall=True, apart=True)["a"].tolist() == [2]
    assert "".join(called) == "aclocka" + "bclockb" + "bclockbclock" + "aclockaclock"


def test_on_one_thread_processor_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"process_time": count(0, 5), "perf_counter": count(0, 7)}
    for name, ticks in clocks.items():
        monkeypatch.setattr(benchmarks.time, name, ticks.__next__)
    for threads, wall, seconds in ((1, False, 5), (1, True, 7), (2, False, 7)):
        monkeypatch.setattr(benchmarks.torch, "get_num_threads", lambda threads=threads: threads)
        assert benchmarks.in_turn({"a": int}, 2, wall)["a"].tolist() == [seconds, seconds]


def test_a_figure_is_the_median_of_ratios_round_by_round() -> None:
    times = {"ours": np.array([1.0, 2.0, 4.0]), "theirs": np.array([2.0, 2.0, 2.0])}
    found = benchmarks.speedup(times, "ours", "theirs")
    assert (found.low, found.median, found.high) == (0.75, 1.0, 1.5)
    assert str(found) == "1.00 (0.75-1.50)"
    assert benchmarks.rate(times, "ours", 10) == "5 pictures/s"
    assert benchmarks.milliseconds(times, "theirs") == "2e+03 ms"


@pytest.mark.parametrize(
    ("least", "most", "wanted", "verdict"),
    [
        (1.0, None, ">= 1", "missed"),
        (0.9, None, ">= 0.9", "holds"),
        (None, 1.1, "<= 1.1", "holds"),
        (0.5, 0.9, ">= 0.5, <= 0.9", "missed"),
        (None, None, "", ""),
    ],
)
def test_a_claim_holds_within_its_bounds(least: float | None, most: float | None, wanted: str, verdict: str) -> None:
    row = Row("claim", "ours", "theirs", Figure(0.95, 0.9, 1.0), least, most)
    assert (row.wanted, row.verdict) == (wanted, verdict)


def test_the_table_is_markdown() -> None:
    lines = benchmarks.table([Row("one", "1", "2", Figure(2, 1, 3), 1.0)]).splitlines()
    assert lines[2] == "| one   | 1    | 2         | 2.00 (1.00-3.00) | >= 1   | holds |"
    assert {len(line) for line in lines} == {len(lines[0])}


def test_every_claim_has_a_file_with_rows() -> None:
    assert len(set(__main__.CLAIMS)) == len(__main__.CLAIMS)
    for name in __main__.CLAIMS:
        text = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        assert "def rows(quick: bool = False) -> Iterator[Row]:" in text, name
        assert f"python -m benchmarks {name}" in text or f"python -m benchmarks.{name}" in text, name


def test_a_peer_that_is_not_installed_is_said_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def there(quick: bool) -> Iterator[Row]:
        assert quick
        yield Row("one", "1", "2", Figure(2, 1, 3), 1.0)

    def lacking(quick: bool) -> Iterator[Row]:
        yield from (Row(str(benchmarks.peer("no_such_package")), "", "", Figure(1, 1, 1)) for _ in range(1))

    for name, rows in (("there", there), ("lacking", lacking)):
        module = ModuleType(name)
        module.rows = rows  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(__main__, "CLAIMS", ("lacking", "there"))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick"])
    __main__.main()
    said = capsys.readouterr().out
    assert "| one " in said and "Left out: lacking: no_such_package cannot be imported" in said
    with pytest.raises(Missing, match="make bench"):
        benchmarks.peer("no_such_package")


def test_an_unknown_claim_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "there is no claim 'speed'" in capsys.readouterr().err
