"""The menu of models: read once, shared by all visitors."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vitmsn import checkpoint, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import CheckpointError, InputError, ViTMSNError
from vitmsn.ui import zero_gpu
from vitmsn.ui.locale import later, tr
from vitmsn.ui.shared import html

EMBEDDED = checkpoint.EMBEDDED
MSN_ONLY = checkpoint.MSN_ONLY
RANDOM = "random"
GIVEN = "given"
OPENING = "opening a model"  # the name of a thread that does
STEP_SECONDS = 0.3  # between two words on how far a download is
RATE_SECONDS = 20.0  # that its rate is a mean of
# Backbones. Their first place of publication says CC BY-NC 4.0, their cards on the Hub say Apache-2.0 (see the README).
OFFICIAL = (
    ("facebook/vit-msn-small", later("ViT-S/16 · 224 px · 88 MB from the Hub · no classifier · license unclear")),
    ("facebook/vit-msn-base", later("ViT-B/16 · 224 px · 344 MB from the Hub · no classifier · license unclear")),
    ("facebook/vit-msn-base-4", later("ViT-B/4 · 224 px · 344 MB from the Hub · no classifier · license unclear")),
    ("facebook/vit-msn-large", later("ViT-L/16 · 224 px · 1.2 GB from the Hub · no classifier · license unclear")),
    ("facebook/vit-msn-large-7", later("ViT-L/7 · 224 px · 1.2 GB from the Hub · no classifier · license unclear")),
)


def open_model(key: str, source: str | None) -> Encoder:
    """The encoder of a menu entry; `source` is None for the embedded model and for random weights."""
    if key in (EMBEDDED, MSN_ONLY):
        checkpoint.verify(key)
    if zero_gpu.ACTIVE:
        return zero_gpu.borrowing(*(Encoder.random,) if key == RANDOM else (Encoder.from_pretrained, source))
    return Encoder.random() if key == RANDOM else Encoder.from_pretrained(source)


class NotWanted(CheckpointError):
    """Ends a download that nobody waits for any more."""


@dataclass(frozen=True)
class Download:
    """How far a download is, in bytes; ``before`` were there when it began, from one that was cut or stopped."""

    here: int
    total: int
    before: int
    rate: float  # bytes a second, 0 while it is not known
    left: float  # seconds, 0 while they are not known


@dataclass
class _Opening:
    """A model that is being downloaded or read, for all who wait for it."""

    encoder: Future[Encoder] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)
    waiting: int = 0
    unwanted: bool = False  # the last who waited chose something else
    total: int = 0
    before: int = 0
    came: deque[tuple[float, int]] = field(default_factory=deque)  # (when, bytes here) in the last RATE_SECONDS

    def hear(self, here: int, total: int) -> None:
        """In the thread that downloads; raises NotWanted to end it."""
        if self.unwanted:
            raise NotWanted("Nobody waits for this download any more.")
        now = time.monotonic()
        if not self.total:
            self.before = here
        while len(self.came) > 2 and now - self.came[0][0] > RATE_SECONDS:
            self.came.popleft()
        self.came.append((now, here))
        self.total = total

    @property
    def download(self) -> Download | None:
        """None while nothing is downloaded: the model is looked for, or read."""
        if not self.total or self.came[-1][1] >= self.total:
            return None
        (first, some), (last, here) = self.came[0], self.came[-1]
        rate = max(here - some, 0) / (last - first) if last > first else 0.0
        left = (self.total - here) / rate - (time.monotonic() - last) if rate else 0.0
        return Download(here, self.total, self.before, rate, max(left, 1.0) if rate else 0.0)


class Models:
    """The menu of models, and at most `limits.MAX_MODELS` of them in memory; the least recently used leaves first.

    The menu is an allow-list: a visitor chooses a key, never a path or a hub id of their own. `given` (a folder or hub
    id from whoever started the app) comes first and is what visitors start with.
    """

    def __init__(self, given: str | None = None, *, opener: Callable[[str, str | None], Encoder] = open_model) -> None:
        self._open = opener
        self._loaded: OrderedDict[str, Encoder] = OrderedDict()
        self._openings: dict[str, _Opening] = {}
        self._lock = threading.Lock()  # guards both tables
        self._sources: dict[str, str | None] = {}
        self._labels: dict[str, str] = {}
        self.missing = ""  # why the embedded model is not there; "" when it is
        if given:
            self._add(GIVEN, later("chosen at the start"), given)
        try:
            checkpoint.embedded(EMBEDDED)
            self._add(EMBEDDED, later("tiny/8 · 64 px · embedded"), None)
            self._add(MSN_ONLY, later("tiny/8 · 64 px · MSN only, no labels"), MSN_ONLY)
        except ViTMSNError as error:
            self.missing = str(error)
        for name, label in OFFICIAL:
            self._add(name, label, name)
        self._add(RANDOM, later("random weights · untrained"), None)
        self.default = GIVEN if given else RANDOM if self.missing else EMBEDDED

    def _add(self, key: str, label: str, source: str | None) -> None:
        self._sources[key], self._labels[key] = source, label

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(label, key) pairs for the menu."""
        return [(self.label(key), key) for key in self._labels]

    @property
    def warning(self) -> str:
        """A warning for visitors before they read any result; "" when there is none."""
        if self.default != RANDOM:
            return ""
        return tr(
            "{missing} Until then the page runs on random weights and its answers mean nothing; "
            "whoever runs it can give another model with --model.",
            missing=self.missing,
        )

    def label(self, key: str) -> str:
        words = tr(self._labels[key])
        return f"{self.name(key)} · {words}" if key == GIVEN else words

    def source(self, key: str) -> str | None:
        """What `Encoder.from_pretrained` takes for this entry; None for the embedded model and for random weights."""
        return self._sources[key]

    def name(self, key: str) -> str:
        """The model's name to show: never the folder it is in."""
        if key == RANDOM:
            return tr("random weights")
        return Path(str(self._sources[key])).name if key == GIVEN else key

    def __contains__(self, key: object) -> bool:
        return key in self._sources

    def get(self, key: str) -> Encoder:
        """The encoder of a menu entry, read when it is not in memory.

        Raises:
            InputError: a key that is not offered.
            CheckpointError: it cannot be opened, or not within ``limits.OPEN_SECONDS``; a download goes on meanwhile.
        """
        with self._waiting(key) as (opening, left):
            try:
                return opening.encoder.result(left)
            except NotYet:
                raise self._still_opening(key, opening) from None

    def follow(self, key: str, wanted: Callable[[], bool]) -> Iterator[Download | None]:
        """Open a menu entry as `get` does, and yield how far its download is until it is there.

        Ends early when ``wanted()`` is false. A download that nobody waits for any more ends too; what has come is
        kept, and the next one goes on from there.
        """
        with self._waiting(key) as (opening, left):
            end = time.monotonic() + left
            while True:
                try:
                    opening.encoder.result(min(STEP_SECONDS, max(end - time.monotonic(), 0.0)))
                    return
                except NotYet:
                    if time.monotonic() >= end:
                        raise self._still_opening(key, opening) from None
                if not wanted():
                    with self._lock:
                        opening.unwanted = opening.waiting == 1
                    return
                yield opening.download

    @contextmanager
    def _waiting(self, key: str) -> Iterator[tuple[_Opening, float]]:
        """Join those who wait for a model, which is opened when it is not in memory; and for how many seconds."""
        if key not in self._sources:
            raise InputError(tr("That model is not in the menu; choose one of its entries."))
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                opening = _Opening()
                opening.encoder.set_result(self._loaded[key])
            elif (known := self._openings.get(key)) is None or known.unwanted:
                opening = self._openings[key] = _Opening()
                threading.Thread(target=self._read, args=(key, opening), name=OPENING, daemon=True).start()
            else:
                opening = known
            left = opening.began + limits.OPEN_SECONDS - time.monotonic()
            if left <= 0 or opening.waiting >= limits.OPEN_WAITING:
                raise self._still_opening(key, opening)
            opening.waiting += 1
        try:
            yield opening, left
        finally:
            with self._lock:
                opening.waiting -= 1

    def _read(self, key: str, opening: _Opening) -> None:
        """In a thread of its own, as a server that sends a byte now and then can hold a download up for days.

        An unwanted one of the same model may still be ending; the lock of the file makes this one wait for it.
        """
        with self._lock:
            while len(self._loaded) >= limits.MAX_MODELS:
                self._loaded.popitem(last=False)
        try:
            with checkpoint.watched(opening.hear):
                encoder = self._open(key, self._sources[key])
        except BaseException as error:
            self._close(key, opening)
            opening.encoder.set_exception(error)
            return
        with self._lock:
            while len(self._loaded) >= limits.MAX_MODELS:
                self._loaded.popitem(last=False)
            self._loaded[key] = encoder
        self._close(key, opening)
        opening.encoder.set_result(encoder)

    def _close(self, key: str, opening: _Opening) -> None:
        with self._lock:
            if self._openings.get(key) is opening:
                del self._openings[key]

    def _still_opening(self, key: str, opening: _Opening) -> CheckpointError:
        far = opening.download
        if far is None:
            said = tr("{name} is still being opened; choose another model, or try again later.", name=self.name(key))
        else:
            said = tr(
                "{name} is still being downloaded ({far} are here); choose another model, or try again later.",
                name=self.name(key),
                far=html.of_megabytes(far.here, far.total),
            )
        return CheckpointError(said)

    def loaded(self, key: str) -> Encoder | None:
        """The encoder of `key` if it is in memory now; never reads one."""
        with self._lock:
            return self._loaded.get(key)

    def start(self) -> Encoder:
        """Read the model that visitors start with. An unreadable embedded model leaves the menu; a given one raises."""
        try:
            return self.get(self.default)
        except ViTMSNError as error:
            if self.default != EMBEDDED:
                raise
            self.missing, self.default = str(error), RANDOM
            del self._sources[EMBEDDED], self._labels[EMBEDDED]
            return self.get(RANDOM)

    def is_far(self, key: str) -> bool:
        """Whether to open this entry now may be a download."""
        return key in dict(OFFICIAL) and self.loaded(key) is None

    def in_memory(self) -> list[str]:
        with self._lock:
            return list(self._loaded)
