"""From bytes that anyone sent to a picture that is safe to use: the only decoder.

It trusts nothing: the first bytes decide the format, the header is judged before any pixel is decoded, and every
failure is an ``ImageError`` that names the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Union

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms

from vitmsn import limits
from vitmsn.errors import ImageError

ImageSource = Union[bytes, str, "os.PathLike[str]", Image.Image, "Picture"]

SUPPORTED = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
WHITE = (255, 255, 255)

_ASK = "save it as JPEG or PNG and try again"
_IPHONE = "on an iPhone choose Settings > Camera > Formats > Most Compatible, or take a screenshot of it"
# Formats people do send: the bytes they begin with (at an offset), what to call them, what to do instead.
_REFUSED: tuple[tuple[int, tuple[bytes, ...], str, str], ...] = (
    (4, (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftyphevx", b"ftypheim", b"ftypheis"), "a HEIC picture", _IPHONE),
    (4, (b"ftypmif1", b"ftypmsf1"), "a HEIF picture", _IPHONE),
    (4, (b"ftypavif", b"ftypavis"), "an AVIF picture", _ASK),
    (4, (b"ftyp",), "a video", "take a screenshot of the moment you want"),
    (0, (b"%PDF",), "a PDF document", "take a screenshot of the page"),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "an EPS or PostScript drawing", "export it as PNG"),
    (0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL "), "a JPEG XL picture", _ASK),
    (0, (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "), "a JPEG 2000 picture", _ASK),
    (0, (b"8BPS",), "a Photoshop document", "export it as PNG"),
    (0, (b"\x00\x00\x01\x00", b"\x00\x00\x02\x00"), "a Windows icon or cursor", "export it as PNG"),
    (0, (b"PK\x03\x04", b"PK\x05\x06"), "a zip archive (or an office document)", "send the pictures inside it"),
)


# -- Pillow's warnings ------------------------------------------------------------------------------------------------
# Pillow warns about odd files that it decodes all the same. ``warnings.catch_warnings`` is not thread safe, so one
# filter is left in place for good; its category matches everything while this thread decodes, and nothing otherwise.

_decoding: ContextVar[bool] = ContextVar("_decoding", default=False)
_filter_lock = threading.Lock()


class _AnythingWhileDecoding(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _decoding.get()


class _PillowNoise(Warning, metaclass=_AnythingWhileDecoding):
    pass


@contextmanager
def _quiet() -> Iterator[None]:
    with _filter_lock:
        if not warnings.filters or warnings.filters[0][2] is not _PillowNoise:
            warnings.simplefilter("ignore", _PillowNoise)
    token = _decoding.set(True)
    try:
        yield
    finally:
        _decoding.reset(token)


# -- Picture ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is safe to use: decoded, upright, sRGB, without alpha.

    ``name`` is the file's name, fit to be shown; ``rgb`` a PIL image of mode RGB (treat it as read-only); ``notes``
    say in words what had to be decided on the way ("first frame of 12").
    """

    name: str
    rgb: Image.Image
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of size and pixels: equal for equal pixels, whatever the file was."""
        width, height = self.rgb.size
        digest = hashlib.sha256(struct.pack("<II", width, height))
        rows = max(1, 1_000_000 // width)  # in strips, so that a large picture is not copied whole
        for top in range(0, height, rows):
            digest.update(self.rgb.crop((0, top, width, min(top + rows, height))).tobytes())
        return digest.hexdigest()

    def thumbnail(self, side: int = limits.THUMBNAIL_SIDE) -> Image.Image:
        """A copy whose longer side is at most ``side`` pixels, same proportions; never enlarged."""
        scale = min(1.0, side / max(self.rgb.size))
        width, height = (max(1, round(length * scale)) for length in self.rgb.size)
        return self.rgb.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


# -- The decoder ------------------------------------------------------------------------------------------------------


def decode(source: ImageSource, *, name: str | None = None) -> Picture:
    """Decode one picture, whatever it comes as, or refuse it by name.

    ``source``: encoded bytes, the path of a file, a PIL image, or a ``Picture`` (returned as it is). ``name`` is what
    messages call it; by default the file's name. Of animations and documents the first frame is taken; EXIF orientation
    is applied; colour profiles are converted to sRGB; alpha is laid on white; 16-bit and float values are scaled.

    Raises ``ImageError``, and nothing else, for whatever cannot be decoded within ``limits``.
    """
    if isinstance(source, Picture):
        return source if name is None else replace(source, name=_shown(name))
    if isinstance(source, Image.Image):
        shown = _shown(name or os.path.basename(os.fsdecode(getattr(source, "filename", ""))) or "picture")
        return _decode(shown, lambda: source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        shown, data = _shown(name or "picture"), bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        shown = _shown(name or os.path.basename(os.fsdecode(source)) or "picture")
        data = _read(source, shown)
    else:
        what = f"not a value of type {type(source).__name__}"
        raise ImageError(f"{_shown(name or 'picture')}: a path, encoded bytes or a PIL image is needed, {what}.")
    if len(data) > limits.MAX_IMAGE_BYTES:
        most = limits.MAX_IMAGE_BYTES / limits.MIB
        raise ImageError(f"{shown} is larger than {most:g} MiB: make it smaller or save it as JPEG.")
    kind = _format(data, shown)
    if kind == "WEBP":
        _check_size(_webp_canvas(data), shown)  # Pillow allocates the canvas on opening
    passes = _jpeg_scans(data) if kind == "JPEG" else 1
    return _decode(shown, lambda: Image.open(io.BytesIO(data), formats=(kind,)), passes)


_one_large = threading.Lock()  # a large picture takes several times its pixels in memory while it is decoded


def _decode(shown: str, opener: Callable[[], Image.Image], passes: int = 1) -> Picture:
    """Everything that may make Pillow stumble happens in here, and leaves as an ``ImageError``."""
    try:
        with _quiet():
            image = opener()
            _check_size(image.size, shown)
            _check_storage(image, passes, shown)
            large = image.size[0] * image.size[1] > limits.LARGE_PIXELS
            with _one_large if large else nullcontext():
                image.load()
                rgb, notes = _to_srgb(image)
                return Picture(shown, _upright(image, rgb), (*_frames(image), *notes))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{shown} has more pixels than can be decoded safely: make it smaller.") from None
    except MemoryError:
        raise ImageError(f"{shown} needs more memory than there is: make it smaller.") from None
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ... for damaged files
        raise ImageError(f"{shown} is damaged or incomplete, so not decodable: save or download it again.") from error


def _shown(name: str) -> str:
    """A name fit for messages: no control or bidi characters, not too long."""
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return clean if len(clean) <= limits.MAX_NAME_LENGTH else clean[: limits.MAX_NAME_LENGTH - 1] + "…"


def _read(path: str | os.PathLike[str], shown: str) -> bytes:
    try:
        if not os.path.isfile(path):  # also keeps devices and pipes out
            what = "is a folder, not a picture" if os.path.isdir(path) else "is not there"
            raise ImageError(f"{shown} {what}: give the path of a picture file.")
        with open(path, "rb") as file:
            return file.read(limits.MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown} cannot be read ({reason}): check the file and its permissions.") from error


def _format(data: bytes, shown: str) -> str:
    """The Pillow format that the first bytes tell, whatever the file is called."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if not data:
        raise ImageError(f"{shown} is empty: save or download it again.")
    what, advice = _refused(data)
    supported = f"{', '.join(SUPPORTED[:-1])} and {SUPPORTED[-1]}"
    raise ImageError(f"{shown} is {what}, which is unsupported; {supported} are supported: {advice}.")


def _refused(data: bytes) -> tuple[str, str]:
    """What these bytes are, if not a picture we decode, and what to do about it."""
    for offset, magics, what, advice in _REFUSED:
        if data.startswith(magics, offset):
            return what, advice
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG drawing", "export it as PNG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "save the picture itself, not the page"
    return "a file of unknown format", _ASK


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """(width, height) from the header of a WebP file; (1, 1) when it is too damaged to tell, which Pillow then says."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 1, 1
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", body[6:10])
    return max(1, width & 0x3FFF), max(1, height & 0x3FFF)


def _check_size(size: tuple[int, int], shown: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{shown} is {width} x {height} pixels: a picture needs at least one pixel each way.")
    if width * height > limits.MAX_PIXELS:
        most = limits.MAX_PIXELS / 1e6
        raise ImageError(f"{shown} is {width} x {height} pixels; at most {most:g} million are taken: make it smaller.")
    if max(size) > limits.MAX_ASPECT * min(size):
        most = limits.MAX_ASPECT
        raise ImageError(
            f"{shown} is {width} x {height} pixels, more than {most} times as long one way as the other: crop it."
        )


_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)  # neither stuffing nor a restart


def _jpeg_scans(data: bytes) -> int:
    """How many scans the JPEG at the beginning of ``data`` has; thumbnails and what follows its end are not counted."""
    scans, at = 0, 2
    while marker := _JPEG_MARKER.search(data, at):
        if marker[1] == b"\xd9":  # the end of the picture
            break
        scans += marker[1] == b"\xda"
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _check_storage(image: Image.Image, passes: int, shown: str) -> None:
    """Small files and small pictures that are enormous work all the same."""
    width, height = image.size
    if passes * width * height > limits.MAX_SCANNED_PIXELS:  # each scan visits every pixel, and may be a few bytes long
        raise ImageError(f"{shown} is a JPEG in too many passes ({passes}): save it again as an ordinary JPEG.")
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 1), tags.get(323, 1)  # of a TIFF's tiles, which are unpacked whole
    if not (isinstance(width, int) and isinstance(height, int) and width * height <= limits.MAX_PIXELS):
        raise ImageError(f"{shown} is a TIFF in enormous tiles: save it again as PNG.")


def _frames(image: Image.Image) -> tuple[str, ...]:
    """What to say about the frames not looked at; a camera's second picture in the same JPEG is its own business."""
    if image.tell():  # someone's PIL image, at a frame of their choice
        return ()
    if image.format in ("PNG", "WEBP") and (count := getattr(image, "n_frames", 1)) > 1:
        return (f"first frame of {count}",)
    if getattr(image, "is_animated", False):  # to count them would mean to walk the whole file
        return {"GIF": ("first frame of several",), "TIFF": ("first page of several",)}.get(str(image.format), ())
    return ()


_TURN = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image:
    try:
        turn = _TURN.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF is common and says nothing about the pixels
        turn = None
    return rgb if turn is None else rgb.transpose(turn)


_KEYED = ("1", "L", "P", "RGB")  # modes where one colour may be marked as transparent


def _to_srgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """A new RGB image in sRGB, on white where it was transparent; and what there is to say about it."""
    profile = image.info.get("icc_profile")
    notes: list[str] = []
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F"))
    clear = None  # how transparent, 0-255
    if image.mode.startswith(("I", "F")):
        image, stretched = _to_8bit(image)
        notes += stretched
    elif image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or (image.mode in _KEYED and "transparency" in image.info):
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        clear = ImageChops.invert(image.getchannel("A"))
    if image.mode not in ("L", "RGB", "CMYK") or grey:
        image = image.convert("L" if grey else "RGB")
    try:
        rgb = _through_profile(image, profile) if profile else image.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError):
        rgb = image.convert("RGB")
        notes.append("colour profile ignored: damaged, or of another kind of picture")
    if clear is not None and clear.getbbox():
        rgb.paste(WHITE, mask=clear)
        notes.append("transparent parts laid on white")
    rgb.info.clear()
    return rgb, tuple(notes)


def _to_8bit(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Grey values beyond 8 bit, scaled into 0-255, never clipped: by the range of the type, or else the picture's."""
    values = np.array(image, dtype=np.float32)
    if image.mode == "F":
        values[~np.isfinite(values)] = 0
    low, high = float(values.min()), float(values.max())
    scale, shift = 1.0, 0.0
    notes: tuple[str, ...] = ()
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and 255 < high <= 65535):
        scale = 1 / 257
    elif image.mode == "F" and low >= 0 and high <= 1:
        scale = 255
    elif low < 0 or high > 255:
        scale = 255 / max(high - low, 1e-30)
        shift = -low * scale
        notes = (f"values {low:g} to {high:g} shown as 0 to 255",)
    values *= scale
    values += shift
    np.clip(np.rint(values, out=values), 0, 255, out=values)
    return Image.fromarray(values.astype(np.uint8)), notes


def _through_profile(image: Image.Image, data: bytes) -> Image.Image:
    """``image`` (L, RGB or CMYK) -> RGB in sRGB. A profile that is sRGB by another name leaves every value as it is."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    space = profile.profile.xcolor_space.strip()
    if space == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if space != {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}[image.mode]:
        raise ValueError("the profile is of another colour space than the picture")
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    if image.mode != "CMYK":
        ramp = np.arange(0, 256, 15, dtype=np.uint8)
        probe = Image.fromarray(np.stack(np.meshgrid(ramp, ramp, ramp), -1).reshape(1, -1, 3)).convert(image.mode)
        shift = np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"), np.int16)
        if abs(shift).max() <= 2:
            return image.convert("RGB")
    return transform.apply(image)
