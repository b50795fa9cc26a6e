"""How many pixels are decoded: at one moment in this process, and for one request.

A file of a few bytes can be a picture of 50 million pixels, and 200 of them fit into one request.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from PIL import Image

from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.image import formats
from vitmsn.image.quiet import quiet

Size = tuple[int, int]


@dataclass
class Budget:
    """The pixels that one request may still decode, in all its threads."""

    left: int
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def spend(self, pixels: int) -> None:
        """Raise InputError when the request asks for more than was left."""
        with self._lock:
            self.left -= pixels
            left = self.left
        if left < 0:
            raise InputError(TOO_MANY.format(limits.REQUEST_PIXELS / 1e6))


TOO_MANY = (
    "The pictures of this request have more than {:g} megapixels together, which is the limit; send fewer, or smaller "
    "ones."
)
_budget: ContextVar[Budget | None] = ContextVar("_budget", default=None)


@contextmanager
def counted(budget: Budget) -> Iterator[None]:
    """Take the pixels that this thread decodes meanwhile from ``budget``; elsewhere they are not counted."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def decoding(size: Size) -> Iterator[None]:
    """Wait until a picture of this size can be decoded: all that are at one moment have ``limits.DECODING_PIXELS``, or
    are one. Raises InputError when the request's budget is spent."""
    budget = _budget.get()
    if budget is not None:
        budget.spend(size[0] * size[1])
    with _gate.passed(size[0] * size[1]):
        yield


class _Gate:
    """Lets pictures pass in the order in which they came, as long as there is room for their pixels."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._inside = 0

    @contextmanager
    def passed(self, pixels: int) -> Iterator[None]:
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                self._changed.wait_for(lambda: self._line[0] is ticket and self._room(pixels))
                self._inside += pixels
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._inside -= pixels
                self._changed.notify_all()

    def _room(self, pixels: int) -> bool:
        return not self._inside or self._inside + pixels <= limits.DECODING_PIXELS


_gate = _Gate()


def check_total(paths: Iterable[str | os.PathLike[str]], most: int | None = None) -> None:
    """Raise InputError if the headers of these files already ask for more pixels than one request may decode.

    ``most`` as for ``decode``: what is decoded smaller counts as it is decoded. Files that ``decode`` will refuse, and
    HEIC and AVIF, whose headers take longer to read, do not count.
    """
    Budget(limits.REQUEST_PIXELS).spend(sum(_pixels(path, most) for path in paths))


def _pixels(path: str | os.PathLike[str], most: int | None) -> int:
    try:
        with open(path, "rb") as file, quiet():
            data = file.read(formats.SNIFFED)
            kind = formats.kind(data, "")
            if kind == "WEBP":
                width, height = formats.webp_size(data)
                if width * height > limits.MAX_WEBP_PIXELS:
                    return 0
            elif kind in ("HEIC", "AVIF"):
                return 0
            else:
                file.seek(0)
                with Image.open(file, formats=(kind,)) as image:
                    if most is not None:
                        image.draft(None, (2 * most, 2 * most))
                    width, height = image.size
    except Exception:  # damaged in one of many ways: `decode` names the file and says so
        return 0
    return width * height if width * height <= limits.MAX_PIXELS else 0
