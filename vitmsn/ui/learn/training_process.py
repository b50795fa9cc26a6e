"""Live training for the page: one process at a time for the whole server, and a queue of visitors who wait for it.

The process runs this package's own command line. Its output comes line by line over a pipe and stays in memory. It ends
when its recipe is done, its time is up, its visitor stops it or leaves, or the server ends. If the server is killed,
the pipe closes, and the process ends when it writes its next line.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui.locale import tr
from vitmsn.ui.visits import Visit

log = logging.getLogger("vitmsn.ui")

PATIENCE = 30  # seconds without a poll from its page until a run ends, or its place in the queue is lost
LEFT = 10  # the same for a page that was closed: it may only be loaded again
EVERY = 18  # training steps between frames: about two seconds
STARTING = 60  # seconds on top of the training time, for starting Python on a busy machine
LETTERS = "ABCD"  # of the runs that a visitor keeps, to compare
LAST_WORDS = 2000  # bytes of a failed process's output that go to the log


def command(switches: Switches) -> list[str]:
    """The command line of a run; without --out it writes nothing to disk."""
    training = [sys.executable, "-m", "vitmsn", "pretrain", "shapes", "--watch", "--log-every", str(EVERY)]
    bounds = ["--threads", "1", "--limit-minutes", f"{limits.LIVE_SECONDS / 60:g}"]  # leave the other core to the page
    return [*training, *bounds, "--device", "cpu", *switches.arguments()]


@dataclass(frozen=True)
class Switches:
    """The settings of a run that a visitor may change."""

    masking: bool = True
    sinkhorn: bool = True
    me_max: bool = True

    def words(self) -> str:
        """What is off, in words: "no Sinkhorn, no me-max"."""
        off = {tr("no masking"): self.masking, tr("no Sinkhorn"): self.sinkhorn, tr("no me-max"): self.me_max}
        return ", ".join(name for name, wanted in off.items() if not wanted) or tr("everything on")

    def without(self) -> str:
        """The same inside a sentence: " without Sinkhorn and me-max", "" for everything on."""
        on = {tr("masking"): self.masking, "Sinkhorn": self.sinkhorn, "me-max": self.me_max}
        *first, last = [name for name, wanted in on.items() if not wanted] or [""]
        off = tr("{first} and {last}", first=", ".join(first), last=last) if first else last
        return tr(" without {off}", off=off) if off else ""

    def arguments(self) -> list[str]:
        on = {"mask_ratio": self.masking, "sinkhorn_iterations": self.sinkhorn, "me_max_weight": self.me_max}
        off = [f"{name}=0" for name, wanted in on.items() if not wanted]
        return ["--set", *off] if off else []


@dataclass
class Run:
    """One training process and its output so far."""

    switches: Switches
    visit: Visit
    told: list[dict[str, Any]] = field(default_factory=list)  # a first line about the run, then frames
    ended: str = ""  # "" while it runs, then "finished", "time", "stopped", "left" or "failed"
    error: str = ""  # the last output of a failed process
    seen: float = field(default_factory=time.monotonic)  # when its page last asked for news
    began: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    letter: str = ""  # its name among the visitor's runs

    @property
    def nbytes(self) -> int:
        return 24_000 * len(self.told)  # a frame has 160 points, each a list of two numbers

    @property
    def about(self) -> dict[str, Any] | None:
        return self.told[0] if self.told else None

    @property
    def frames(self) -> list[dict[str, Any]]:
        return self.told[1:]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, by the process's own clock."""
        return float(self.frames[-1]["seconds"]) if self.frames else 0.0

    @property
    def seconds_left(self) -> float:
        """Estimated from the pace so far, and never more than the time limit."""
        bound = limits.LIVE_SECONDS - self.seconds
        step = self.frames[-1]["step"] if self.frames else 0
        if not step or not self.about:
            return bound
        return max(0.0, min(bound, self.seconds / step * (self.about["steps"] - step)))


@dataclass
class TrainingState:
    """What is kept for a visitor: their runs, and which of them they look at.

    Attributes:
        run: the last one that began, or None while the next one waits.
        kept: the runs to compare, oldest first, at most one for each of LETTERS.
        opened: the letter of the run that the page shows; "" is the last one.
    """

    run: Run | None = None
    kept: list[Run] = field(default_factory=list)
    opened: str = ""

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in list(self.kept))

    @property
    def shown(self) -> Run | None:
        """The run that the page shows: the one that was opened, or the last; None before any."""
        return next((run for run in self.kept[::-1] if self.opened in ("", run.letter)), None)

    def keep(self, run: Run) -> None:
        """A run begins: it gets a free letter, or that of the oldest; runs without a frame give theirs up."""
        self.kept = [known for known in self.kept if known.frames][-(len(LETTERS) - 1) :]
        taken = {known.letter for known in self.kept}
        run.letter = next(letter for letter in LETTERS if letter not in taken)
        self.kept.append(run)
        self.run, self.opened = run, ""


class Desk:
    """The queue for live training: one process at a time, first come, first served."""

    def __init__(self, command: Callable[[Switches], Sequence[str]] = command) -> None:
        self._command = command
        self._lock = threading.RLock()
        self._now: Run | None = None
        self._line: OrderedDict[str, tuple[Visit, Switches, float]] = OrderedDict()  # by the ticket of the visit
        atexit.register(self.close)

    def ask(self, visit: Visit, switches: Switches) -> None:
        """Start a run for this visitor, or put them at the end of the queue. Their earlier run is replaced."""
        with self._lock:
            mine = visit.state(TrainingState).run
            if isinstance(mine, Run) and not mine.ended:
                self._end(mine, "stopped")
            if len(self._line) >= limits.LIVE_WAITING and visit.ticket not in self._line:
                raise InputError(
                    tr(
                        "{many} visitors already wait for the one place to train; try again in some minutes.",
                        many=len(self._line),
                    )
                )
            visit.state(TrainingState).run = None
            self._line[visit.ticket] = visit, switches, time.monotonic()
            self._advance()

    def look(self, visit: Visit) -> Run | None:
        """This visitor's run, if there is one. Each call keeps it alive."""
        with self._lock:
            if visit.ticket in self._line:
                _, switches, _ = self._line[visit.ticket]
                self._line[visit.ticket] = visit, switches, time.monotonic()
            self._advance()
            mine = visit.state(TrainingState).run
            if isinstance(mine, Run):
                mine.seen = time.monotonic()
                return mine
            return None

    def waiting(self, visit: Visit) -> tuple[int, float] | None:
        """(how many come first, the running one included; seconds until then at most), or None if not waiting."""
        with self._lock:
            if visit.ticket not in self._line:
                return None
            ahead = list(self._line).index(visit.ticket)
            left = self._now.seconds_left if self._now else 0.0
            return ahead + (self._now is not None), left + ahead * limits.LIVE_SECONDS

    def switches(self, visit: Visit) -> Switches | None:
        """Those of the run that this visitor waits for, or else looks at; None for neither."""
        with self._lock:
            if visit.ticket in self._line:
                return self._line[visit.ticket][1]
            shown = visit.state(TrainingState).shown
            return shown.switches if shown is not None else None

    def busy(self) -> bool:
        """Whether a run is going on."""
        with self._lock:
            return self._now is not None

    def stop(self, visit: Visit) -> None:
        """End this visitor's run, or take them out of the queue."""
        with self._lock:
            self._line.pop(visit.ticket, None)
            if self._now is not None and self._now.visit is visit:
                self._end(self._now, "stopped")

    def close(self) -> None:
        """The server shuts down: end the process too."""
        with self._lock:
            self._line.clear()
            if self._now is not None:
                self._end(self._now, "left")

    # ------------------------------------------------------------------------------------------------------- inside

    def _advance(self) -> None:
        """If nothing runs, start the first in the queue whose page is still open."""
        now = time.monotonic()
        for ticket, (visit, _, seen) in list(self._line.items()):
            if now - seen > (LEFT if visit.left else PATIENCE):
                del self._line[ticket]
        if self._now is None and self._line:
            _, (visit, switches, _) = self._line.popitem(last=False)
            self._now = Run(switches, visit)
            visit.state(TrainingState).keep(self._now)
            threading.Thread(target=self._follow, args=(self._now,), name="live training", daemon=True).start()

    def _follow(self, run: Run) -> None:
        """In a thread: start the process, read its output, and end it when its time is up or its page is gone."""
        with tempfile.TemporaryFile() as complaints:
            try:
                with self._lock:
                    if run.ended:
                        return
                    run.process = subprocess.Popen(
                        self._command(run.switches),
                        cwd=Path(__file__).parents[3],  # the folder of the package
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=complaints,
                    )
                hearing = threading.Thread(target=_hear, args=(run,), daemon=True)
                hearing.start()
                while hearing.is_alive():
                    hearing.join(0.2)
                    now = time.monotonic()
                    if now - run.seen > (LEFT if run.visit.left else PATIENCE):
                        self._end(run, "left")
                    elif now - run.began > limits.LIVE_SECONDS + STARTING:
                        self._end(run, "time")
                code = run.process.wait()
                if not run.ended and code:
                    complaints.seek(max(0, complaints.tell() - LAST_WORDS))
                    run.error = complaints.read().decode(errors="replace").strip()
            except OSError as error:
                run.error = str(error)
            finally:
                self._done(run)

    def _done(self, run: Run) -> None:
        with self._lock:
            if not run.ended:
                whole = bool(run.frames) and run.about is not None and run.frames[-1]["step"] >= run.about["steps"]
                run.ended = "failed" if run.error else "finished" if whole else "time"
            if run.error:
                log.error("the live training ended by itself: %s", run.error)
            if self._now is run:
                self._now = None
            self._advance()

    def _end(self, run: Run, why: str) -> None:
        with self._lock:
            run.ended = run.ended or why
            if run.process is not None:
                run.process.kill()  # safe to kill: it holds no file and no lock
            if self._now is run and run.process is None:
                self._now = None
                self._advance()


def _hear(run: Run) -> None:
    """Read the process's output, line by line, until it ends."""
    assert run.process is not None and run.process.stdout is not None
    with run.process.stdout as lines:
        for line in lines:
            with contextlib.suppress(ValueError):  # half a line, from a process that was ended
                run.told.append(json.loads(line))
