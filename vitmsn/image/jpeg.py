"""JPEG files as they are stored: how many scans they have, and whether their end is missing."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from PIL import Image

END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)  # neither stuffing nor a restart


class Structure(NamedTuple):
    scans: int
    whole: bool  # the end of the picture is there
    length: int  # bytes up to the first marker of which a part is missing
    coarse: bool  # cut before the last bits of all its coefficients had their turn


def structure(data: bytes) -> Structure:
    """Scan the JPEG at the beginning of ``data``; thumbnails and data after its end are not counted."""
    scans, at, progressive = 0, 2, False
    parts, end = 0, len(data)
    exact: dict[int, int] = {}  # component -> how many of its 64 coefficients are exact once the scans seen are whole
    while marker := _MARKER.search(data, at):
        code = marker[1][0]
        if marker[1] == END[1:]:
            return Structure(scans, True, len(data), False)
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        if marker.end() + max(length, 2) > len(data):
            end = marker.start()
            break
        body = data[marker.end() + 2 : marker.end() + length]
        if code in (0xC0, 0xC1, 0xC2) and len(body) > 5:
            progressive, parts = code == 0xC2, body[5]
        elif code == 0xDA:
            scans += 1
            count = body[0] if body else 0
            if len(body) >= 4 + 2 * count and body[3 + 2 * count] & 15 == 0:  # Al: the last bit of these coefficients
                for component in body[1 : 1 + 2 * count : 2]:
                    exact[component] = exact.get(component, 0) + body[2 + 2 * count] - body[1 + 2 * count] + 1
        at = marker.end() + length
    fine = len(exact) >= parts and all(number >= 64 for number in exact.values())
    return Structure(scans, False, end, progressive and not fine)


def missing(image: Image.Image) -> tuple[int, float]:
    """(rows at the bottom with missing pixels, the share of the picture that is missing); it stops at half.

    The decoder fills what it has no data for with middle gray in every channel, from some place in a row to the end.
    """
    rows = pixels = 0
    while rows < image.height and 2 * pixels <= image.width * image.height:
        top = image.height - rows - 1
        row = np.asarray(image.crop((0, top, image.width, top + 1))).reshape(image.width, -1)
        lacking = int(((row == 128) | (row == 127)).all(axis=1)[::-1].cumprod().sum())  # at the end of the row
        if lacking < min(8, image.width):  # the decoder works in squares of 8 pixels
            break
        rows, pixels = rows + 1, pixels + lacking
    return rows, pixels / (image.width * image.height)
