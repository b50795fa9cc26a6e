"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new file beside ``target``, which it replaces at the end of the block; if that fails or is interrupted it is
    deleted, and ``target`` is as before. What a killed process left is overwritten by the next one."""
    fresh = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        yield fresh
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)
