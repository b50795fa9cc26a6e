"""TIFF files, of which there are hundreds of kinds: which Pillow decodes correctly, which we read, which are refused.

    layout(data) -> Tags | None (damaged)     way(layout) -> "pillow" | "ours" | "" (not supported)
    read(data, layout) -> PIL image, notes      corrected(image, layout) -> what Pillow left out

Pillow takes planes for pixels, white for black or signed for unsigned in some kinds and says nothing. A kind is decoded
here only where the tests compare it with what another library wrote.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from vitmsn.image.values import Notes, to_8bit

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
PLAIN, DEFLATE = (1,), (8, 32946)
# Compressions that Pillow's libtiff has: plain, fax, LZW, JPEG, deflate, packbits, LZMA, Zstandard, WebP.
PILLOW_READS = (1, 2, 3, 4, 5, 7, 8, 32771, 32773, 32946, 34925, 50000, 50001)
DTYPES = {(UNSIGNED, 8): "u1", (UNSIGNED, 16): "u2", (UNSIGNED, 32): "u4"}
DTYPES |= {(SIGNED, 8): "i1", (SIGNED, 16): "i2", (SIGNED, 32): "i4"}
DTYPES |= {(FLOAT, 16): "f2", (FLOAT, 32): "f4", (FLOAT, 64): "f8"}


@dataclass(frozen=True)
class Tags:
    """How the first picture of a file is stored: the tags that decide it."""

    width: int
    height: int
    bits: int  # of a sample; 0 where samples differ
    form: int  # UNSIGNED, SIGNED, FLOAT, or another value of the file; 0 where samples differ
    photometric: int
    samples: int
    planes: bool  # one plane after the other
    compression: int
    predictor: int
    fill_order: int
    extra: tuple[int, ...]  # what the samples beyond the colors are: 0 anything, 1 and 2 alpha
    big_endian: bool
    more: bool  # pages follow
    raw: bool  # a camera's file, whose first picture is a thumbnail
    tags: dict[int, Any]


def layout(data: bytes) -> Tags | None:
    """None where the tags cannot be read, for Pillow to say so."""
    try:
        header = data[:16] if data[2:4] in (b"+\x00", b"\x00+") else data[:8]
        tags = ImageFileDirectory_v2(header)
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        known = {tag: tags[tag] for tag in tags if tag < 1000 or tag in (34675, 50706)}
        return _layout(known, data, bool(tags.next))
    except Exception:  # whatever a damaged table of tags makes of Pillow's reader
        return None


def _layout(tags: dict[int, Any], data: bytes, more: bool) -> Tags:
    samples = int(tags.get(277, 1))
    bits, forms = _each(tags.get(258, 1)), _each(tags.get(339, UNSIGNED))
    sensor = 50706 in tags or data[8:10] == b"CR" or tags.get(262) in (32803, 34892)
    raw = sensor or (330 in tags and tags.get(254) == 1)  # or a small picture that points at the large one
    return Tags(
        width=int(tags[256]),
        height=int(tags[257]),
        bits=bits[0] if len(set(bits)) == 1 else 0,
        form=forms[0] if len(set(forms)) == 1 else 0,
        photometric=int(tags.get(262, WHITE_IS_ZERO)),
        samples=samples,
        planes=int(tags.get(284, 1)) == 2 and samples > 1,
        compression=int(tags.get(259, 1)),
        predictor=int(tags.get(317, 1)),
        fill_order=int(tags.get(266, 1)),
        extra=_each(tags.get(338, ())),
        big_endian=data[:2] == b"MM",
        more=more,
        raw=raw,
        tags=tags,
    )


def _each(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in value) if isinstance(value, tuple) else (int(value),)


def way(found: Tags) -> str:
    """The decoder that reads this kind correctly: "pillow", "ours", or "" for none."""
    if (
        found.raw
        or found.compression not in PILLOW_READS
        or (found.photometric == YCBCR and found.compression in PLAIN)
    ):
        return ""
    single, two = found.samples == 1, found.samples == 2 and found.photometric != 3
    if found.form == UNSIGNED and 0 < found.bits <= 8 and not (found.planes or two):
        return "pillow"
    if found.form == UNSIGNED and found.bits == 12 and single and found.photometric == BLACK_IS_ZERO:
        return "pillow"
    if _ours(found):
        return "ours"
    if found.form == UNSIGNED and found.bits == 8 and two and not found.planes:
        return "pillow"
    if found.fill_order != 1 or found.planes:
        return ""
    if found.big_endian and found.compression not in PLAIN and found.form != UNSIGNED:
        return ""  # libtiff has turned the bytes already, and Pillow turns them again
    gray = single and found.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    if gray and (found.form, found.bits) in ((UNSIGNED, 16), (FLOAT, 32)):
        return "pillow"  # and `corrected`, where white is zero
    if single and found.photometric == BLACK_IS_ZERO and found.form in (UNSIGNED, SIGNED) and found.bits in (8, 16, 32):
        return "pillow"  # and `corrected`, where the sign is lost
    return "pillow" if found.form == UNSIGNED and found.bits == 16 and found.photometric in (RGB, 5) else ""


def _ours(found: Tags) -> bool:
    if found.compression not in PLAIN + DEFLATE or (found.form, found.bits) not in DTYPES or found.fill_order != 1:
        return False
    if found.predictor != 1 and not (found.predictor == 2 and found.form != FLOAT):
        return False
    colors = {WHITE_IS_ZERO: (1, 2), BLACK_IS_ZERO: (1, 2), RGB: (3, 4, 5, 6)}
    return found.samples in colors.get(found.photometric, ())


def describe(found: Tags) -> str:
    """What is unusual about a kind that is not supported, in a few words."""
    if found.raw:
        return "of a camera's raw data"
    if found.compression not in PILLOW_READS:
        return f"with compression {found.compression}"
    what = {UNSIGNED: "", SIGNED: "signed ", FLOAT: "floating-point "}.get(found.form, "unusual ")
    depth = f"{what}values of {found.bits} bits" if found.bits else "values of different sizes"
    return f"{depth}{f' in {found.samples} channels' if found.samples > 1 else ''}"


def read(data: bytes, found: Tags, most: int) -> tuple[Image.Image, Notes]:
    """Decode a kind that is ours. Raises ValueError where data are missing, MemoryError beyond ``most`` bytes."""
    values = _array(data, found, most)  # (H, W, S)
    notes: Notes = ("first page of several",) if found.more else ()
    colors = 3 if found.photometric == RGB else 1
    pixels, said = to_8bit(values[..., :colors])
    if found.photometric == WHITE_IS_ZERO:
        pixels = np.uint8(255) - pixels
    notes += said
    image = Image.fromarray(pixels if colors == 3 else pixels[..., 0])
    if found.samples > colors:
        if found.extra[:1] in ((1,), (2,)):
            alpha = Image.fromarray(_alpha(values[..., colors]))
            image.putalpha(alpha)
        else:
            notes += (f"first {'3 of' if colors == 3 else 'of'} {found.samples} channels",)
    if profile := found.tags.get(34675):
        image.info["icc_profile"] = profile
    if (turned := found.tags.get(274, 1)) != 1:
        image.getexif()[ExifTags.Base.Orientation] = turned
    return image, notes


def _alpha(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Opacity by the range of its type: 1 or the highest integer is opaque."""
    full = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    return np.clip(np.rint(values.astype(np.float64) * (255 / full)), 0, 255).astype(np.uint8)


def _array(data: bytes, found: Tags, most: int) -> NDArray[Any]:
    """(height, width, samples) in the type of the file."""
    tags, tiled = found.tags, 324 in found.tags
    dtype = np.dtype((">" if found.big_endian else "<") + DTYPES[found.form, found.bits])
    across = int(tags[322]) if tiled else found.width
    down = int(tags[323]) if tiled else min(int(tags.get(278, found.height)), found.height)
    offsets, counts = _each(tags[324 if tiled else 273]), _each(tags[325 if tiled else 279])
    per = 1 if found.planes else found.samples  # samples side by side
    block = across * down * per * dtype.itemsize
    if found.width * found.height * found.samples * dtype.itemsize + block > most:
        raise MemoryError
    if not block:
        raise ValueError("empty strips")
    columns, rows = -(-found.width // across), -(-found.height // down)
    whole = np.zeros((found.height, found.width, found.samples), dtype.newbyteorder("="))
    places = [
        (plane, row, column)
        for plane in range(found.samples // per)
        for row in range(rows)
        for column in range(columns)
    ]
    for (plane, row, column), offset, count in zip(places, offsets[: len(places)], counts[: len(places)], strict=True):
        top, left = row * down, column * across
        high = down if tiled else min(down, found.height - top)
        size = across * high * per * dtype.itemsize
        part = data[offset : offset + count]
        if found.compression in DEFLATE:
            part = zlib.decompressobj().decompress(part, size)
        values = np.frombuffer(part[:size], dtype).reshape(high, across, per)
        if found.predictor == 2:
            values = np.cumsum(values, axis=1, dtype=dtype.newbyteorder("="))
        seen = values[: found.height - top, : found.width - left]
        whole[top : top + high, left : left + across, plane * per : (plane + 1) * per] = seen
    return whole


def corrected(image: Image.Image, found: Tags) -> tuple[Image.Image, Notes]:
    """Pillow's image, with the sign and the white-is-zero that it ignores in values beyond 8 bits."""
    if found.samples > 1 or found.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        return image, ()
    values = np.asarray(image)
    if (found.form, found.bits) == (UNSIGNED, 32):
        values = values.view(np.uint32)
    elif (found.form, found.bits) == (SIGNED, 8):
        values = values.view(np.int8)
    elif found.photometric == BLACK_IS_ZERO or found.bits <= 8:
        return image, ()
    pixels, notes = to_8bit(values)
    fixed = Image.fromarray(np.uint8(255) - pixels if found.photometric == WHITE_IS_ZERO else pixels)
    fixed.info.update(image.info)
    return fixed, notes
