"""Return memory that large pictures needed to the system."""

from __future__ import annotations

import ctypes
from typing import Any


def give_back() -> None:
    """Return freed memory to the system; glibc would keep what large pictures needed."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def _libc() -> Any:
    """The C library if it has `malloc_trim`, else None."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):  # Windows has no such library; macOS and musl lack the function
        return None


_LIBC = _libc()
