"""HEIC pictures, as phones take them: tiles joined, turned upright, the main picture of several."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from PIL import Image


def read(
    data: bytes,
    check: Callable[[tuple[int, int]], object],
    alone: Callable[[tuple[int, int]], AbstractContextManager[object]],
) -> tuple[Image.Image, tuple[str, ...]]:
    """The main picture, and a note on the others. ``check`` sees its size before a pixel is decoded, which
    happens inside of ``alone``.

    The container's own rotation is applied, and the one in the EXIF data, which repeats it, is not. More than 8 bits
    are reduced to 8.
    """
    import pi_heif

    file = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    check(file.size)
    others = len(file) - 1
    with alone(file.size):
        return file.to_pillow(), (f"main picture of {others + 1}",) if others else ()
