"""From untrusted bytes to a picture that is safe to use: the only decoder.

It trusts nothing: the first bytes decide the format, the header is judged before any pixel is decoded, and every
failure is an ``ImageError`` that names the file.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Union, cast

import numpy as np
import torch
from PIL import ExifTags, Image, ImageChops, ImageCms, UnidentifiedImageError

from vitmsn import limits
from vitmsn.errors import ImageError, InputError
from vitmsn.image import formats, heif, jpeg, tiff
from vitmsn.image.pixels import decoding
from vitmsn.image.quiet import quiet
from vitmsn.image.values import Notes, to_8bit

ImageSource = Union[bytes, str, "os.PathLike[str]", Image.Image, np.ndarray, torch.Tensor, "Picture"]

WHITE = (255, 255, 255)


# -- Picture ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is safe to use: decoded, upright, sRGB, without alpha.

    ``name`` is the file's name, cleaned for display; ``rgb`` a PIL image of mode RGB (treat it as read-only); ``notes``
    are the decisions made while decoding, as text ("first frame of 12").
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

    def thumbnail(self, side: int | None = None) -> Image.Image:
        """A copy whose longer side is at most ``side`` (``limits.THUMBNAIL_SIDE``) pixels; never enlarged."""
        side = side or limits.THUMBNAIL_SIDE
        scale = min(1.0, side / max(self.rgb.size))
        width, height = (max(1, round(length * scale)) for length in self.rgb.size)
        return self.rgb.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


# -- The decoder ------------------------------------------------------------------------------------------------------


def decode(source: ImageSource, *, name: str | None = None, most: int | None = None) -> Picture:
    """Decode one picture of any format or type, or raise an error that names it.

    ``source``: encoded bytes, the path of a file, a PIL image, an array or tensor of whole numbers from 0 to 255, or a
    ``Picture`` (returned as it is). ``name`` is what messages call it; by default the file's name. ``most``: a
    larger picture is reduced to a longer side of so many pixels, before the next one is decoded. Of animations and
    documents the first frame is taken; EXIF orientation is applied; color profiles are converted to sRGB; alpha is
    laid on white; 16-bit and float values are scaled; the last rows that a JPEG lacks are gray, with a note.

    Raises ``ImageError``, and nothing else, when it cannot be decoded within ``limits``; InputError inside of
    ``pixels.counted``, when its budget is spent.

    Example:
        >>> picture = decode(np.full((480, 640, 3), 200, dtype=np.uint8), name="wall", most=160)
        >>> picture.name, picture.rgb.size
        ('wall', (160, 120))
    """
    if isinstance(source, Picture):
        return source if name is None else replace(source, name=_shown(name))
    return _decode(*_source(source, name), most)


def _source(source: ImageSource, name: str | None) -> tuple[str, Callable[[], _Opened]]:
    """The name of a source in messages, and the function that opens it."""
    if isinstance(source, Image.Image):
        shown = _shown(name or os.path.basename(os.fsdecode(getattr(source, "filename", ""))) or "picture")
        return shown, lambda: _Opened(source)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        shown = _shown(name or "picture")
        return shown, lambda: _Opened(_of_array(source, shown))
    if isinstance(source, (bytes, bytearray, memoryview)):
        shown, data = _shown(name or "picture"), bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        shown = _shown(name or os.path.basename(os.fsdecode(source)) or "picture")
        data = _read(source, shown)
    else:
        what = f"not a value of type {type(source).__name__}"
        raise ImageError(
            f"{_shown(name or 'picture')}: a path, encoded bytes, a PIL image or an array is needed, {what}."
        )
    if len(data) > limits.MAX_IMAGE_BYTES:
        most = limits.MAX_IMAGE_BYTES / limits.MIB
        raise ImageError(f"{shown} is larger than {most:g} MiB: make it smaller or save it as JPEG.")
    return shown, lambda: _opened(data, shown)


def listed(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """One picture or several, in anything ``decode`` takes; an array of four dimensions is several."""
    single = isinstance(images, (bytes, bytearray, memoryview, str, os.PathLike, Picture, Image.Image))
    if isinstance(images, (np.ndarray, torch.Tensor)):
        single = images.ndim < 4
    if single or not isinstance(images, Iterable):  # anything else is refused by the decoder, by name
        return [cast(ImageSource, images)]
    return list(cast("Iterable[ImageSource]", images))


def _of_array(values: np.ndarray | torch.Tensor, shown: str) -> Image.Image:
    """(height, width), (height, width, channels) or (channels, height, width) of uint8 -> a PIL image."""
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    if array.dtype != np.uint8:
        raise ImageError(
            f"{shown} is an array of {array.dtype}; whole numbers from 0 to 255 (uint8) are needed: multiply values "
            "from 0 to 1 by 255, round and convert them."
        )
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3, 4), array.shape[2] in (1, 3, 4)
        if first == last:
            what = (
                "could be its first or its last dimension" if first else "are neither its first nor its last dimension"
            )
            raise ImageError(
                f"{shown} is an array of shape {array.shape}, whose channels {what}: give (height, width, channels) of "
                "1, 3 or 4 channels, or a PIL image."
            )
        array = np.moveaxis(array, 0, 2) if first else array
        array = array[..., 0] if array.shape[2] == 1 else array
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ImageError(f"{shown} is an array of shape {array.shape}; (height, width, channels) is needed.")
    return Image.fromarray(np.ascontiguousarray(array))


@dataclass
class _Opened:
    """A picture whose header was checked; ``finish``, called once the pixels are loaded, gives picture and notes."""

    image: Image.Image
    decoded: bool = False  # its pixels were read with the header
    passes: int = 1  # over all its pixels
    scalable: bool = False  # can be decoded smaller than it is
    notes: Notes = ()
    finish: Callable[[Image.Image], tuple[Image.Image, Notes]] = lambda image: (image, ())


def _decode(shown: str, opener: Callable[[], _Opened], most: int | None) -> Picture:
    """Everything that may fail in Pillow happens in here, and is raised as an ``ImageError``."""
    try:
        with quiet():
            opened = opener()
            image = opened.image
            _check_size(image.size, shown)
            _check_storage(image, opened.passes, shown)
            if most is not None and opened.scalable:
                image.draft(None, (2 * most, 2 * most))  # an eighth, a quarter or half of the pixels each way
            with nullcontext() if opened.decoded else decoding(image.size):
                key = _key_in_8bit(image)
                image.load()
                image, said = opened.finish(image)
                if key is not None:
                    image.info["transparency"] = key
                rgb, notes = _to_srgb(_reduced(image, most))
                upright = _upright(image, _reduced(rgb, most))
                return Picture(shown, upright, (*_frames(image), *opened.notes, *said, *notes))
    except (ImageError, InputError):
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{shown} has more pixels than can be decoded safely: make it smaller.") from None
    except MemoryError:
        raise ImageError(f"{shown} needs more memory than there is: make it smaller.") from None
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ... for damaged files
        raise ImageError(f"{shown} is damaged or incomplete, so not decodable: save or download it again.") from error


def _opened(data: bytes, shown: str) -> _Opened:
    """Read a file's header with the reader that handles its format correctly."""
    kind = formats.kind(data, shown)
    if kind == "JPEG":
        return _opened_jpeg(data, shown)
    if kind == "TIFF":
        return _opened_tiff(data, shown)
    if kind == "HEIC":
        image, notes = heif.read(data, lambda size: _check_size(size, shown), decoding)
        return _Opened(image, decoded=True, notes=notes)
    if kind == "WEBP":
        size = formats.webp_size(data)
        _check_size(size, shown)  # Pillow allocates the canvas on opening
        if math.prod(size) > limits.MAX_WEBP_PIXELS:
            most = limits.MAX_WEBP_PIXELS / 1e6
            raise ImageError(
                f"{shown} is {size[0]} x {size[1]} pixels; at most {most:g} million are taken of a WebP: save it as "
                "JPEG or PNG, or make it smaller."
            )
    return _Opened(Image.open(io.BytesIO(data), formats=(kind,)))


def _opened_jpeg(data: bytes, shown: str) -> _Opened:
    """A JPEG; a truncated one is decoded as far as it goes."""
    stored = jpeg.structure(data)
    if stored.whole:
        return _Opened(Image.open(io.BytesIO(data), formats=("JPEG",)), passes=stored.scans, scalable=True)

    def cut(image: Image.Image) -> tuple[Image.Image, Notes]:
        rows, share = jpeg.missing(image)
        if stored.coarse or 100 * share > limits.MAX_MISSING_PERCENT:
            raise ImageError(f"{shown} is cut off, with much of the picture missing: save or download it again.")
        lost = f": of its {image.height} rows the last {rows} are missing, at least in part, and grey" if rows else ""
        return image, (f"cut off at its end{lost}",)

    return _Opened(
        Image.open(io.BytesIO(data[: stored.length] + jpeg.END), formats=("JPEG",)), passes=stored.scans, finish=cut
    )


def _opened_tiff(data: bytes, shown: str) -> _Opened:
    """A TIFF of a supported kind; others are refused by name."""
    found = tiff.layout(data)
    if found is None:  # Pillow says that it is damaged
        return _Opened(Image.open(io.BytesIO(data), formats=("TIFF",)))
    _check_size((found.width, found.height), shown)
    way = tiff.way(found)
    if way == "ours":
        with decoding((found.width, found.height)):
            image, notes = tiff.read(data, found, limits.MAX_TIFF_BYTES)
        return _Opened(image, decoded=True, notes=notes)
    try:
        if not way:
            raise UnidentifiedImageError
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
    except UnidentifiedImageError:
        what = tiff.describe(found)
        raise ImageError(f"{shown} is a kind of TIFF that is not supported ({what}): save it as PNG or JPEG.") from None
    return _Opened(image, finish=lambda image: tiff.corrected(image, found))


def _shown(name: str) -> str:
    """A name cleaned for messages: no control or bidi characters, not too long."""
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return clean if len(clean) <= limits.MAX_NAME_LENGTH else clean[: limits.MAX_NAME_LENGTH - 1] + "…"


def _read(path: str | os.PathLike[str], shown: str) -> bytes:
    if os.fsdecode(path).startswith(("http://", "https://")):
        raise ImageError(f"{shown} is a web address, and nothing is fetched here: download the picture, give its path.")
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


def _check_storage(image: Image.Image, passes: int, shown: str) -> None:
    """Refuse small files and small pictures that take enormous work."""
    width, height = image.size
    if passes * width * height > limits.MAX_SCANNED_PIXELS:  # each scan visits every pixel, and may be a few bytes long
        raise ImageError(f"{shown} is a JPEG in too many passes ({passes}): save it again as an ordinary JPEG.")
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 1), tags.get(323, 1)  # of a TIFF's tiles, which are unpacked whole
    if not (isinstance(width, int) and isinstance(height, int) and width * height <= limits.MAX_PIXELS):
        raise ImageError(f"{shown} is a TIFF in enormous tiles: save it again as PNG.")


def _frames(image: Image.Image) -> tuple[str, ...]:
    """A note on the frames not used; a camera's second picture in the same JPEG is not mentioned."""
    if image.tell():  # someone's PIL image, at a frame of their choice
        return ()
    if image.format in ("PNG", "WEBP", "AVIF") and (count := getattr(image, "n_frames", 1)) > 1:
        return (f"first frame of {count}",)
    if getattr(image, "is_animated", False):  # counting them would mean reading the whole file
        return {"GIF": ("first frame of several",), "TIFF": ("first page of several",)}.get(str(image.format), ())
    return ()


def _reduced(image: Image.Image, most: int | None) -> Image.Image:
    """The picture with a longer side of at most ``most`` pixels, where its kind can be resized as it is."""
    simple = image.mode in ("L", "RGB", "RGBA", "CMYK") and "transparency" not in image.info
    if most is None or max(image.size) <= most or not simple:
        return image
    scale = most / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    small.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return small


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


_KEYED = ("1", "L", "P", "RGB")  # modes where one color may be marked as transparent


def _to_srgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """A new RGB image in sRGB, on white where it was transparent; and notes."""
    profile = image.info.get("icc_profile")
    notes: list[str] = []
    gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F"))
    clear = None  # how transparent, 0-255
    if image.mode.startswith(("I", "F")):
        clear = _clear(image)
        pixels, stretched = to_8bit(np.asarray(image))
        image = Image.fromarray(pixels)
        notes += stretched
    elif image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or (image.mode in _KEYED and "transparency" in image.info):
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        clear = ImageChops.invert(image.getchannel("A"))
    if image.mode not in ("L", "RGB", "CMYK") or gray:
        image = image.convert("L" if gray else "RGB")
    try:
        rgb = _through_profile(image, profile) if profile else image.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError):
        rgb = image.convert("RGB")
        notes.append("colour profile ignored: damaged, or of another kind of picture")
    if clear is not None and clear.getbbox():
        rgb.paste(WHITE, mask=clear)
        notes.append("transparent areas were filled with white")
    rgb.info.clear()
    return rgb, tuple(notes)


def _key_in_8bit(image: Image.Image) -> int | tuple[int, ...] | None:
    """The transparent color of a PNG of 2, 4 or 16 bits in Pillow's 8 bits; the bit depth is lost once it is loaded.

    None where it needs no change. Of 16 bits Pillow keeps only the upper half to compare.
    """
    tiles = getattr(image, "tile", None)
    tile = tiles[0] if image.format == "PNG" and tiles else None
    key = image.info.get("transparency")
    scale = {"L;2": 85, "L;4": 17}.get(str(tile[3])) if tile else None
    if scale and isinstance(key, int):
        return key * scale
    return tuple(value >> 8 for value in key) if tile and tile[3] == "RGB;16B" and isinstance(key, tuple) else None


def _clear(image: Image.Image) -> Image.Image | None:
    """Where one color of a picture of 16 bits is the transparent one: a mask, 255 there. None at other depths."""
    key = image.info.get("transparency")
    if image.mode.startswith("I") and isinstance(key, int):
        return Image.fromarray(np.uint8(255) * (np.asarray(image) == key))
    return None


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
