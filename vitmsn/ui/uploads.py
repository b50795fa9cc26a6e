"""Uploads on disk: a bound on all of them together, and nothing left of those that fail."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import gradio as gr
from gradio import route_utils, routes
from gradio.utils import get_upload_folder

from vitmsn import limits
from vitmsn.ui.locale import tr

log = logging.getLogger("vitmsn.ui")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class Refused(Exception):
    """An upload is not taken.

    Attributes: ``status`` of the answer; ``sentence``, what it says; ``later``, whether it may be taken later.
    """

    status, later = 422, False

    @property
    def sentence(self) -> str:
        raise NotImplementedError


class TooLarge(Refused):
    """It is larger than `limits.MAX_UPLOAD_BYTES`."""

    status = 413

    @property
    def sentence(self) -> str:
        size = limits.MAX_UPLOAD_BYTES // limits.MIB
        return tr("This upload is larger than {size} MB; send less at once.", size=size)


class TooMany(Refused):
    """It has more than `limits.MAX_FILES` files."""

    status = 413

    @property
    def sentence(self) -> str:
        return tr("This upload has more than {count} files; send fewer at once.", count=limits.MAX_FILES)


class NoFile(Refused):
    """A part of it is no file."""

    @property
    def sentence(self) -> str:
        return "Only files are uploaded here, in parts named files; send each with a file name."


class NoRoom(Refused):
    """The bound on uploads is reached, or the disk is full."""

    status, later = 507, True

    @property
    def sentence(self) -> str:
        return tr("There is no room for more uploads now; try again in some minutes.")


class NotWritable(Refused):
    """Nothing can be written into the folder of uploads."""

    status, later = 503, True

    @property
    def sentence(self) -> str:
        return tr("This server cannot store uploads now; try again in some minutes.")


_lock = threading.Lock()
_asked: list[int] = []  # sizes of the uploads that still arrive


def take_room(size: int) -> None:
    """Keep room for an upload of this size until `arriving` ends; NoRoom when there is none."""
    folder = Path(get_upload_folder())
    with _lock:
        free = shutil.disk_usage(folder).free if folder.is_dir() else size
        if _held(folder) + sum(_asked) + size > limits.MAX_UPLOADS_BYTES or size > free:
            raise NoRoom
        _asked.append(size)


_files: ContextVar[list[Any] | None] = ContextVar("_files", default=None)
_parts: set[str] = set()  # paths of the files of uploads that still arrive


class _Part:
    """A file of an upload. Its age begins when it is closed: with the last file of the same request."""

    # What Gradio's reader asks of a file before it waits for a thread: up to this size none is needed. A thread each
    # for writing and rewinding a thousand small files took seconds.
    _rolled, _max_size = False, 1 << 16

    def __init__(self, *args: Any, **more: Any) -> None:
        self._file = NamedTemporaryFile(*args, **more)  # noqa: SIM115 (Gradio closes it, or `arriving` does)
        self.name = self._file.name
        if (files := _files.get()) is not None:
            files.append(self)
            _parts.add(self.name)

    def close(self) -> None:
        self._file.close()
        with suppress(OSError):  # it was deleted
            os.utime(self.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def unfinished() -> set[str]:
    """The files of uploads that still arrive, as paths below the upload folder."""
    return {os.path.relpath(name, get_upload_folder()) for name in list(_parts)}


class _Reader(route_utils.GradioMultiPartParser):
    """Gradio's reader of uploads for files alone: it would keep up to a thousand texts, of any length, in memory."""

    def on_part_begin(self) -> None:
        if self._current_files >= limits.MAX_FILES:
            raise TooMany
        super().on_part_begin()

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_part.file is None:
            raise NoFile


# Gradio's reader of uploads makes temporary files, and leaves them when the client goes away or the disk is full.
route_utils.NamedTemporaryFile = _Part  # type: ignore[attr-defined, assignment]  # it imports it
route_utils.GradioMultiPartParser = _Reader  # type: ignore[misc]


@contextmanager
def arriving(size: int) -> Iterator[None]:
    """One upload, for which `take_room(size)` made room: what is no whole file at the end is deleted.

    Raises:
        NoRoom: the disk is full.
        NotWritable: the folder cannot be written.
        TooMany, NoFile: what came is no upload of the page or a client.
    """
    files: list[Any] = []
    token = _files.set(files)
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom from error
        if error.errno in READ_ONLY:
            log.error("no upload can be stored: %s", error)
            raise NotWritable from error
        raise
    finally:
        _files.reset(token)
        with _lock:
            _asked.remove(size)
        for file in files:  # the whole ones have been moved to their places
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                os.unlink(file.name)
            _parts.discard(file.name)


def forget(page: gr.Blocks) -> None:
    """Drop what Gradio remembers of uploads whose files are gone, and of the progress of those that have ended."""
    known = page.upload_file_set
    known.difference_update([path for path in list(known) if not os.path.exists(path)])
    if not _asked:
        routes.file_upload_statuses._statuses.clear()
        routes.file_upload_statuses._signals.clear()


def _held(folder: Path) -> int:
    held = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted meanwhile
                held += os.stat(os.path.join(root, name)).st_size
    return held
