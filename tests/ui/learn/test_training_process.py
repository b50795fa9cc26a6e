"""The desk: one process at a time, a queue behind it, and every way a run ends. A short script replaces training."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.app import PATIENCE
from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui.learn import training_process
from vitmsn.ui.learn.training_process import Desk, Run, Switches, TrainingState
from vitmsn.ui.visits import Visit

ROOT = Path(__file__).resolve().parents[3]
TELL = "import json, time\ntell = lambda **line: print(json.dumps(line), flush=True)\ntell(steps=4, prototypes=8)\n"
FRAMES = "for step in range(5): tell(step=step, seconds=step / 10)\n"
FOREVER = "tell(step=0, seconds=0)\nfor step in range(1, 600): time.sleep(0.1); tell(step=1, seconds=0.1 * step)\n"


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until other threads and processes have done it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


@pytest.fixture
def desk() -> Iterator[Callable[[str], Desk]]:
    """`desk(script)`: a desk whose process runs that script."""
    made: list[Desk] = []

    def make(script: str) -> Desk:
        made.append(Desk(lambda switches: [sys.executable, "-c", TELL + script, *switches.arguments()]))
        return made[-1]

    yield make
    for one in made:
        one.close()
        until(lambda one=one: not one.busy())


def visitor(name: str) -> Visit:
    return Visit(name, "model")


def run_of(visit: Visit) -> Run:
    run = visit.state(TrainingState).run
    assert isinstance(run, Run)
    return run


def gone(run: Run) -> bool:
    return run.process is not None and run.process.poll() is not None


def test_the_process_runs_the_package_command_line_and_writes_nothing() -> None:
    words = training_process.command(Switches(masking=False, me_max=False))
    assert words[:5] == [sys.executable, "-m", "vitmsn", "pretrain", "shapes"] and "--watch" in words
    assert "--out" not in words and float(words[words.index("--limit-minutes") + 1]) * 60 == limits.LIVE_SECONDS
    assert words[-3:] == ["--set", "mask_ratio=0", "me_max_weight=0"]
    assert "--set" not in training_process.command(Switches())


def test_a_run_reports_its_settings_and_then_frames(desk: Callable[[str], Desk]) -> None:
    one, visit = desk(FRAMES), visitor("a")
    assert one.look(visit) is None and not one.busy()
    one.ask(visit, Switches())
    until(lambda: run_of(visit).ended)
    run = one.look(visit)
    assert run is run_of(visit) and run.ended == "finished" and run.about == {"steps": 4, "prototypes": 8}
    assert [frame["step"] for frame in run.frames] == [0, 1, 2, 3, 4] and run.seconds == 0.4
    assert run.nbytes > 0 and not one.busy() and gone(run)


def test_one_run_at_a_time_and_the_next_starts_by_itself(
    desk: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, first, second, third = desk(FOREVER), visitor("a"), visitor("b"), visitor("c")
    for visit in (first, second, third):
        one.ask(visit, Switches())
    until(lambda: run_of(first).frames)
    assert one.look(second) is None and one.busy()
    ahead, seconds = one.waiting(second) or (0, 0.0)
    assert ahead == 1 and 0 < seconds <= limits.LIVE_SECONDS
    further = one.waiting(third)
    assert further is not None and further[0] == 2 and further[1] > seconds
    assert one.waiting(first) is None

    one.stop(first)
    until(lambda: second.state(TrainingState).run is not None)
    assert run_of(first).ended == "stopped" and gone(run_of(first)) and one.waiting(second) is None
    third.left = True  # a visitor who left the page loses their place
    monkeypatch.setattr(training_process, "LEFT", -1)
    one.stop(second)
    until(lambda: not one.busy())
    assert third.state(TrainingState).run is None and one.waiting(third) is None


def test_stopping_before_the_process_starts_frees_the_desk_at_once(
    desk: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, first, second, third = desk(FOREVER), visitor("a"), visitor("b"), visitor("c")
    with monkeypatch.context() as patch:
        patch.setattr(training_process.threading.Thread, "start", lambda thread: None)  # nothing begins
        for visit in (first, second, third):
            one.ask(visit, Switches())
        assert run_of(first).process is None
        second.left = True
        patch.setattr(training_process, "LEFT", -1)
        one.stop(first)
        assert run_of(first).ended == "stopped" and second.state(TrainingState).run is None
        assert run_of(third).ended == "" and one.waiting(second) is None
        one.stop(third)
        assert not one.busy()


def test_a_second_press_starts_over(desk: Callable[[str], Desk]) -> None:
    one, visit = desk(FOREVER), visitor("a")
    one.ask(visit, Switches())
    until(lambda: run_of(visit).frames)
    first = run_of(visit)
    one.ask(visit, Switches(sinkhorn=False))
    until(lambda: visit.state(TrainingState).run is not None and run_of(visit) is not first)
    assert first.ended == "stopped" and run_of(visit).switches == Switches(sinkhorn=False)


def test_a_run_ends_soon_after_its_visitor_left(desk: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_process, "LEFT", 0.5)
    one, visit = desk(FOREVER), visitor("a")
    one.ask(visit, Switches())
    until(lambda: run_of(visit).frames)
    run = run_of(visit)
    visit.left = True
    until(lambda: gone(run) and not one.busy())
    assert run.ended == "left"


def test_a_page_that_is_loaded_again_keeps_its_run_and_its_place(desk: Callable[[str], Desk]) -> None:
    one, first, second = desk(FOREVER), visitor("a"), visitor("b")
    for visit in (first, second):
        one.ask(visit, Switches(masking=visit is first))
    until(lambda: run_of(first).frames)
    assert one.switches(first) == Switches() and one.switches(second) == Switches(masking=False)
    assert one.switches(visitor("c")) is None
    for visit in (first, second):
        visit.left, visit.key = True, visit.key + " again"
    one.look(second)
    frames = len(run_of(first).frames)
    until(lambda: len(run_of(first).frames) > frames + 3)
    for visit in (first, second):
        visit.left = False
    assert one.look(first) is run_of(first) and not run_of(first).ended and one.waiting(second) is not None


def test_a_run_ends_when_its_page_stops_polling(desk: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_process, "PATIENCE", 0.5)
    one, visit = desk(FOREVER), visitor("a")
    one.ask(visit, Switches())
    run = run_of(visit)
    until(lambda: not one.busy())
    assert run.ended == "left" and gone(run)


def test_a_run_has_a_time_limit(desk: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_process, "STARTING", 0)
    monkeypatch.setattr(limits, "LIVE_SECONDS", 1)
    one, visit = desk(FOREVER), visitor("a")
    one.ask(visit, Switches())
    until(lambda: not one.busy())
    assert run_of(visit).ended == "time" and gone(run_of(visit))


def test_a_failed_run_is_logged_and_the_next_one_starts(
    desk: Callable[[str], Desk], caplog: pytest.LogCaptureFixture
) -> None:
    one, first = desk("raise SystemExit('no shapes here')"), visitor("a")
    with caplog.at_level(logging.ERROR, "vitmsn.ui"):
        one.ask(first, Switches())
        until(lambda: not one.busy())
    assert run_of(first).ended == "failed" and "no shapes here" in caplog.text
    one.ask(first, Switches())
    until(lambda: first.state(TrainingState).run is not None and run_of(first).ended == "failed")


def test_four_runs_are_kept_and_the_oldest_gives_its_letter(desk: Callable[[str], Desk]) -> None:
    one, visit = desk(FRAMES), visitor("a")
    kept = visit.state(TrainingState)
    for _ in range(5):
        one.ask(visit, Switches())
        until(lambda: not one.busy())
    assert [run.letter for run in kept.kept] == ["B", "C", "D", "A"] and kept.run is kept.kept[-1]
    assert kept.nbytes == sum(run.nbytes for run in kept.kept) > 0
    assert kept.shown is kept.run
    kept.opened = "C"
    assert kept.shown is kept.kept[1]
    one.ask(visit, Switches())
    until(lambda: not one.busy())
    assert kept.opened == "" and [run.letter for run in kept.kept] == ["C", "D", "A", "B"]


def test_a_run_without_a_frame_gives_its_letter_up(desk: Callable[[str], Desk]) -> None:
    one, visit = desk("raise SystemExit(1)"), visitor("a")
    for _ in range(2):
        one.ask(visit, Switches())
        until(lambda: not one.busy())
    assert [run.letter for run in visit.state(TrainingState).kept] == ["A"]


def test_what_is_off_is_said_in_words() -> None:
    assert Switches().words() == "everything on"
    assert Switches(masking=False, me_max=False).words() == "no masking, no me-max"


def test_the_queue_is_bounded(desk: Callable[[str], Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIVE_WAITING", 1)
    one = desk(FOREVER)
    for name in "ab":
        one.ask(visitor(name), Switches())
    with pytest.raises(InputError, match="1 visitors already wait"):
        one.ask(visitor("c"), Switches())


def test_the_process_ends_with_the_server_even_if_the_server_is_killed(tmp_path: Path) -> None:
    server = (
        "import sys, time\nfrom vitmsn.ui.learn.training_process import Desk, Switches, TrainingState\n"
        "from vitmsn.ui.visits import Visit\n"
        f"script = {TELL + FOREVER!r}\n"
        "visit = Visit('a', 'm')\ndesk = Desk(lambda switches: [sys.executable, '-c', script])\n"
        "desk.ask(visit, Switches())\n"
        "while not visit.state(TrainingState).run or not visit.state(TrainingState).run.frames: time.sleep(0.01)\n"
        "print(visit.state(TrainingState).run.process.pid, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", server], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    for served, end in zip(servers, ("in peace", "killed"), strict=True):
        assert served.stdin is not None and served.stdout is not None
        pid = int(served.stdout.readline())
        if end == "killed":
            served.send_signal(signal.SIGKILL)
        served.stdin.close()  # the orphan reads to the end of its pipe, and ends
        served.wait()
        until(lambda pid=pid: not _alive(pid))
        served.stdout.close()
    assert not list(tmp_path.iterdir())  # nothing is left behind


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
