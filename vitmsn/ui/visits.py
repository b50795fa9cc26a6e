"""Visits: what the app keeps for each visitor, for a short time; and the `Call` that every tab function gets.

Nothing here is written to disk. A visit is stored here under Gradio's session hash, because Gradio's ``gr.State`` is
copied on every use, is evicted without notice, and cannot be counted in bytes.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import gradio as gr

from vitmsn import image, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, ViTMSNError
from vitmsn.image import Picture
from vitmsn.timing import Timing, timings
from vitmsn.ui.locale import later, tr, tr_number
from vitmsn.ui.models import EMBEDDED, RANDOM, Download, Models
from vitmsn.ui.shared.html import of_megabytes, time_left

State = TypeVar("State")
DELETED, MOVED = "deleted", "moved"  # what happened to a visit that is no longer here
OWN = "own"  # in the address: the visitor's own picture or set, which no link contains
INACTIVE = later("Your pictures were deleted because this page was inactive; add them again to continue.")
PICTURES = later("pictures")  # what most jobs count
ELSEWHERE = later("This visit goes on in another window. Load this page again to continue it here.")


class Stopped(ViTMSNError):
    """The visitor stopped this job, or has left."""


@dataclass
class Visit:
    """One visitor's page: their picture, their model, and what each tab keeps for them under its own name."""

    key: str
    model: str
    tab: str = "classify"
    picture: Picture | None = None
    example: str = ""  # the name of the example that `picture` is, "" for the visitor's own
    own: Picture | None = None  # the visitor's last own picture, also while an example is shown
    link: dict[str, str] = field(default_factory=dict)  # the query of the address that the page was opened with
    kept: dict[type[Any], Any] = field(default_factory=dict)  # what tabs keep, see `state`
    page: dict[type[Any], Any] = field(default_factory=dict)  # what the open page shows, see `on_page`
    shown: dict[str, Hashable] = field(default_factory=dict)  # tab name -> stamp of the answer that it shows
    seen: float = 0.0
    begun: bool = False  # a picture was chosen, dropped or cleared, so the page shows this visit's
    again: bool = False  # an earlier visit of this page was deleted, with what the page still shows
    moved: bool = False  # an earlier visit of this page goes on in another one
    greeting: str = ""  # what the first tab that is filled says
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)  # a reloaded page shows it
    left: bool = False  # the page was closed; it may come back (a phone that slept)
    stopped: float = 0.0  # when the visitor last pressed Stop
    wanted: str = ""  # the model that was last chosen, also while it is opened
    forwards: dict[str, Timing] = field(default_factory=dict)  # tab -> its last forward; none: answers from the cache
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def state(self, kind: type[State]) -> State:
        """This visitor's instance of a tab's dataclass, made on first use.

        Its `nbytes`, if it has one, counts toward the visit's.
        """
        with self.lock:
            return cast(State, self.kept.setdefault(kind, kind()))

    def on_page(self, kind: type[State]) -> State:
        """The same for what the open page shows: a page that is loaded again shows nothing yet and gets a new one."""
        with self.lock:
            return cast(State, self.page.setdefault(kind, kind()))

    @property
    def nbytes(self) -> int:
        """Bytes that this visit keeps in memory. Examples are shared, so they cost nothing."""
        pixels = self.own.rgb.width * self.own.rgb.height * 3 if self.own else 0
        return pixels + sum(int(getattr(value, "nbytes", 0)) for value in list(self.kept.values()))


class Visitors:
    """All visits. The least recently seen are deleted when there are too many, or too many bytes, or after a time."""

    def __init__(self, default_model: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default_model
        self._clock = clock
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._tickets: dict[str, str] = {}  # the ticket of each visit -> its key
        self._forgotten: OrderedDict[str, str] = OrderedDict()  # key -> fate; the last limits.REMEMBERED_VISITS
        self._read: dict[Path, float] = {}  # uploads that were read -> wall time when they were
        self._lock = threading.Lock()

    def of(self, key: str | None) -> Visit:
        """The visit of a session hash, made when it is new; a call without one gets a visit that is not stored."""
        now = self._clock()
        if not key:
            return Visit("", self._default, seen=now)
        with self._lock:
            visit = self._visits.get(key)
            if visit is None:
                past = self._forgotten.get(key, "")
                visit = Visit(key, self._default, again=past == DELETED, moved=past == MOVED)
                self._visits[key], self._tickets[visit.ticket] = visit, key
            visit.seen, visit.left = now, False
            self._visits.move_to_end(key)
        return visit

    def resume(self, key: str, ticket: str) -> Visit:
        """The visit whose ticket a page shows when it is loaded again; the visit of `key` if there is none.

        A ticket cannot be guessed and is deleted with its visit. One page has a visit: the one before loses it, and
        its running job stops.
        """
        visit = self.of(key)
        with self._lock:
            before = self._tickets.get(ticket)
            if not key or before is None:
                return visit
            if before != key:
                self._tickets.pop(visit.ticket, None)
                visit = self._visits[key] = self._visits.pop(before)
                self._visits.move_to_end(key)
                visit.key, self._tickets[ticket] = key, key
                self._remember(before, MOVED)
            visit.seen, visit.left, visit.stopped = self._clock(), False, time.monotonic()
        return visit

    def leave(self, key: str | None) -> None:
        """The page was closed: delete its pictures after `limits.LEAVE_SECONDS`, unless it comes back."""
        with self._lock:
            visit = self._visits.get(key or "")
            if visit:
                visit.left, visit.seen = True, self._clock()

    def close(self) -> None:
        """The server ends: stop each running job at its next step."""
        with self._lock:
            for visit in self._visits.values():
                visit.left = True

    def forget(self, key: str | None) -> None:
        """Delete everything of one visitor now."""
        with self._lock:
            self._drop(key or "")

    def _drop(self, key: str) -> None:
        visit = self._visits.pop(key, None)
        if visit:
            self._tickets.pop(visit.ticket, None)
            self._remember(key, DELETED)
            visit.left = True  # a running job of this visit ends at its next step
            visit.picture = visit.own = None
            visit.kept.clear()
            visit.page.clear()

    def _remember(self, key: str, what: str) -> None:
        self._forgotten[key] = what
        if len(self._forgotten) > limits.REMEMBERED_VISITS:
            self._forgotten.popitem(last=False)

    def sweep(self) -> None:
        """Apply every bound. Called after each event and by a timer, so that an idle server deletes visits too."""
        now = self._clock()
        with self._lock:
            for key, visit in list(self._visits.items()):
                patience = limits.LEAVE_SECONDS if visit.left else limits.VISIT_SECONDS
                if now - visit.seen > patience:
                    self._drop(key)
            total = sum(visit.nbytes for visit in self._visits.values())
            while self._visits and (len(self._visits) > limits.MAX_VISITORS or total > limits.VISITS_BYTES):
                key, visit = next(iter(self._visits.items()))
                if len(self._visits) == 1:
                    break  # one visit alone is bounded by its own limits
                total -= visit.nbytes
                self._drop(key)

    def read_upload(self, path: Path) -> None:
        """An upload was read: delete its file `limits.UPLOAD_SECONDS` later (others may have sent the same bytes)."""
        with self._lock:
            self._read[path] = time.time()

    def sweep_uploads(self, folder: Path, now: float | None = None, kept: Collection[str] = ()) -> None:
        """Delete read uploads and unread uploads, each after their time limit, and folders left empty.

        Args:
            folder: where they are.
            now: wall time in seconds.
            kept: paths below the folder of those that stay whatever their age.
        """
        now = time.time() if now is None else now
        for path in _files(folder):
            if path.relative_to(folder).as_posix() in kept:
                continue
            try:
                written = path.stat().st_mtime
                read = self._read.get(path)
                if read is not None and read >= written:
                    over = now - read > limits.UPLOAD_SECONDS
                else:
                    over = now - written > limits.UNUSED_SECONDS
                if over:
                    path.unlink(missing_ok=True)
                    with self._lock:
                        self._read.pop(path, None)
            except OSError:
                continue  # already deleted, or not ours to delete; the next sweep tries again
        for parent in sorted((p for p in folder.glob("*") if p.is_dir()), reverse=True):
            try:
                if now - parent.stat().st_mtime > limits.UPLOAD_SECONDS:
                    parent.rmdir()  # fails unless empty
            except OSError:
                continue

    def __len__(self) -> int:
        return len(self._visits)

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(visit.nbytes for visit in self._visits.values())


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root, name)


# -------------------------------------------------------------------------------------------------------------- call


@dataclass
class Call:
    """One click of one visitor: what every tab's function gets as its first argument."""

    models: Models
    visit: Visit
    tab: str = ""  # the tab it happened in, "" outside all tabs
    event: gr.EventData | None = None  # from select and custom events: untrusted values
    bar: gr.Progress | None = None
    query: dict[str, str] = field(default_factory=dict)  # of the address that the page was opened with
    message: str = ""  # shown beside the picture together with the outputs; not for errors
    details: tuple[str, ...] = ()  # a list under the message, one line each; the first few are shown, all can be opened
    abandoned: Callable[[], bool] = lambda: False  # whether nobody waits for the answer any more
    budget: image.Budget = field(default_factory=lambda: image.Budget(limits.REQUEST_PIXELS))
    deadline: float = field(default_factory=lambda: time.monotonic() + limits.JOB_SECONDS)
    began: float = field(default_factory=time.monotonic)

    @property
    def encoder(self) -> Encoder:
        """The model the visitor chose."""
        return self.models.get(self.visit.model)

    @property
    def name(self) -> str:
        """The model's name on the page."""
        return self.models.name(self.visit.model)

    @property
    def picture(self) -> Picture:
        """'Your picture'. Raises InputError when there is none."""
        if self.visit.picture is None:
            raise InputError(tr("No picture yet. Drop one here, take a photo, or pick an example."))
        return self.visit.picture

    def chosen(self, name: str) -> Any:
        """A value from a selection or custom event (`call.chosen("index")`), untrusted; None if there is none."""
        data = getattr(self.event, "_data", None)
        return data.get(name) if isinstance(data, dict) else None

    @property
    def python(self) -> str:
        """The line that opens the visitor's model, for 'In Python'."""
        key = self.visit.model
        if key == RANDOM:
            return "encoder = Encoder.random()"
        source = "" if key == EMBEDDED else repr(self.models.name(key))
        return f"encoder = Encoder.from_pretrained({source})"

    def timed(self, step: Callable[[], Any]) -> Any:
        """Run `step` and return its result; its last forward becomes that of the tab."""
        with timings() as forwards, image.counted(self.budget):
            try:
                return step()
            finally:
                if forwards:
                    self.visit.forwards[self.tab] = forwards[-1]

    def each_timed(self, results: Iterator[Any]) -> Iterator[Any]:
        """The same for a stream of results, whose steps may run in different threads."""
        end = object()
        while (result := self.timed(lambda: next(results, end))) is not end:
            yield result

    @property
    def gone(self) -> bool:
        """Whether the visitor has left, or closed the connection of this click."""
        return self.visit.left or self.abandoned()

    def downloads(self, name: str, far: Download | None) -> None:
        """Show how far the download of a model is; None: it is looked for, or read."""
        if self.bar is None:
            return
        if far is None:
            self.bar(None, desc=tr("{name} is being opened", name=name))
            return
        words = [of_megabytes(far.here, far.total)]
        if far.rate:
            words += [tr("{rate:.2g} MB/s", rate=far.rate / 1e6), time_left(far.left)]
        told = (
            tr("Downloading {name}, going on at {before} MB; choose another model to stop. {far}")
            if far.before >= 1e6
            else tr("Downloading {name}; choose another model to stop. {far}")
        )
        said = told.format(name=name, before=tr_number(f"{far.before / 1e6:,.0f}"), far=", ".join(words))
        self.bar((far.here, far.total), desc=said, unit=tr("bytes"))

    def progress(self, done: int, total: int, what: str = PICTURES) -> None:
        """Show the progress of a long job; raise Stopped when the visitor pressed Stop or left, or the time is up.

        A total of 0: not known yet; ``what`` is then the whole sentence.
        """
        now = time.monotonic()
        if self.gone or self.visit.stopped > self.began:
            raise Stopped(tr("Stopped. Nothing was changed."))
        if now > self.deadline:
            raise Stopped(
                tr(
                    "This took longer than {seconds} s and was ended; try with fewer pictures.",
                    seconds=limits.JOB_SECONDS,
                )
            )
        if self.bar is not None:
            elapsed = now - self.began
            left = f", {time_left(elapsed / done * (total - done))}" if 0 < done < total and elapsed > 1 else ""
            if total:
                words = tr("{done} of {total} {what}", done=done, total=total, what=tr(what))
                self.bar((done, total), desc=f"{words}{left}", unit=tr(what))
            else:
                self.bar(0.0, desc=tr(what))


def keep_picture(visit: Visit, picture: Picture, example: str = "") -> None:
    """Store the visitor's picture, reduced to `limits.PICTURE_SIDE` so that visits stay small."""
    if max(picture.rgb.size) > limits.PICTURE_SIDE:
        reduced = picture.rgb.copy()
        reduced.thumbnail((limits.PICTURE_SIDE, limits.PICTURE_SIDE))
        picture = image.decode(reduced, name=picture.name)
    with visit.lock:
        visit.picture, visit.example, visit.begun = picture, example, True
        visit.own = visit.own if example else picture


def remove_picture(visit: Visit) -> None:
    """Without a picture, by the visitor's own choice: the first example does not come back by itself."""
    with visit.lock:
        visit.picture, visit.own, visit.example, visit.begun = None, None, "", True
