"""No warnings of Pillow while a picture is decoded.

Pillow warns about unusual files that it decodes all the same. ``warnings.catch_warnings`` is not thread safe, so one
filter stays installed; its category matches everything while this thread decodes, and nothing otherwise.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_decoding: ContextVar[bool] = ContextVar("_decoding", default=False)
_filter_lock = threading.Lock()


class _AnythingWhileDecoding(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _decoding.get()


class _PillowNoise(Warning, metaclass=_AnythingWhileDecoding):
    pass


@contextmanager
def quiet() -> Iterator[None]:
    """Hide every warning of this thread."""
    with _filter_lock:
        if not warnings.filters or warnings.filters[0][2] is not _PillowNoise:
            warnings.simplefilter("ignore", _PillowNoise)
    token = _decoding.set(True)
    try:
        yield
    finally:
        _decoding.reset(token)
