"""Keep the server's memory flat: what is freed goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

ARENAS = 2
M_ARENA_MAX = -8  # of glibc's malloc.h


def settle() -> None:
    """Leave out of later collections all that the app is made of; call it before it serves.

    Python looks for circles of unused objects when a quarter as many are new as were there. The app has half a million,
    so drawn figures, some megabytes each, stayed for minutes.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Return unused memory to the system: circles of objects, and what glibc would keep after large pictures."""
    gc.collect()
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def bound_arenas() -> None:
    """Let all threads allocate from a few arenas; call it before they start.

    By default glibc makes up to eight arenas for each core, and what one has free the others cannot use: with tens of
    worker threads the memory of a busy server grows for hours. A value of MALLOC_ARENA_MAX in the environment stays.
    """
    if _LIBC is not None and "MALLOC_ARENA_MAX" not in os.environ:
        _LIBC.mallopt(M_ARENA_MAX, ARENAS)


def _libc() -> Any:
    """The C library if it is glibc, else None."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):  # Windows has no such library; macOS and musl lack the function
        return None


_LIBC = _libc()
