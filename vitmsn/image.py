"""From bytes that anyone sent to what the network sees: the only decoder, and the preprocessing.

    bytes, path or PIL -> decode -> Picture (upright, sRGB, 8 bit) -> ViTMSNImageProcessor -> pixel_values (N, 3, H, W)

The decoder trusts nothing: the first bytes decide the format, the header is judged before any pixel is decoded, and
every failure is an ``ImageError`` that names the file. The processor gives, value for value, what the Pillow-backed
``ViTImageProcessor`` of transformers gives, so that published weights see what they were published with.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Union, cast

import numpy as np
import torch
from PIL import ExifTags, Image, ImageChops, ImageCms

from vitmsn import checkpoint, limits
from vitmsn.errors import CheckpointError, ImageError, InputError

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


# -- The processor ----------------------------------------------------------------------------------------------------

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RECIPES = ("squash", "resize-256-crop-224")

Size = int | Mapping[str, int]
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers


class ViTMSNImageProcessor:
    """Pictures -> ``pixel_values``, as the Pillow-backed ``ViTImageProcessor`` of transformers makes them.

    ``size``: what pictures are resized to: a whole number or ``{"height", "width"}`` squashes them, proportions lost;
    ``{"shortest_edge"}`` keeps proportions and wants a ``crop`` (a whole number or ``{"height", "width"}``), cut from
    the centre. ``resample`` is one of nearest, box, bilinear, hamming, bicubic, lanczos. Then values are multiplied by
    ``rescale_factor``, ``image_mean`` is taken off and the rest divided by ``image_std`` (a number per RGB channel).

    The two named recipes: ``squash`` (what Hugging Face users do) and ``resize-256-crop-224`` (the paper's evaluation);
    ``with_recipe`` gives one of them for this processor's input size.
    """

    def __init__(
        self,
        size: Size = 224,
        crop: Size | None = None,
        resample: str = "bilinear",
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        do_resize: bool = True,
        do_rescale: bool = True,
        do_normalize: bool = True,
        rescale_factor: float = 1 / 255,
    ) -> None:
        if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
            self.shortest_edge: int | None = _side(size["shortest_edge"], "shortest_edge")
            if crop is None:
                raise InputError(f"size {dict(size)} keeps proportions: say with crop= what to cut from the centre.")
        else:
            self.shortest_edge = None
        self.resized = None if self.shortest_edge else _height_width(size, "size")
        self.crop = None if crop is None else _height_width(crop, "crop")
        if resample not in _RESAMPLE:
            raise InputError(f"resample is {resample!r}: choose one of {', '.join(_RESAMPLE)}.")
        self.resample = resample
        self.image_mean, self.image_std = _channels(image_mean, "image_mean"), _channels(image_std, "image_std")
        if min(self.image_std) <= 0:
            raise InputError(f"image_std is {self.image_std}: three numbers above 0 are needed.")
        self.do_resize, self.do_rescale, self.do_normalize = bool(do_resize), bool(do_rescale), bool(do_normalize)
        self.rescale_factor = float(rescale_factor)

    # What it is

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the model sees."""
        size = self.crop or self.resized
        assert size is not None  # a shortest edge comes with a crop
        return size

    @property
    def recipe(self) -> str:
        """What it is called: "squash", or "resize-<shorter side>-crop-<side>"."""
        if self.crop is None:
            return "squash"
        return f"resize-{_spell(self.shortest_edge or self.resized)}-crop-{_spell(self.crop)}"

    def with_recipe(self, recipe: str) -> ViTMSNImageProcessor:
        """The same input size and normalisation, by "squash" or "resize-256-crop-224" (in proportion)."""
        height, width = self.input_size
        target = {"height": height, "width": width}
        if recipe == "squash":
            geometry: dict[str, Any] = {"size": target, "crop": None}
        elif recipe == "resize-256-crop-224":
            geometry = {"size": {"shortest_edge": round(max(height, width) * 256 / 224)}, "crop": target}
        else:
            raise InputError(f"there is no recipe {recipe!r}: choose one of {', '.join(RECIPES)}.")
        rest = ("resample", "image_mean", "image_std", "do_resize", "do_rescale", "do_normalize", "rescale_factor")
        return ViTMSNImageProcessor(**geometry, **{name: getattr(self, name) for name in rest})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ViTMSNImageProcessor) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __repr__(self) -> str:
        return f"ViTMSNImageProcessor({self.recipe}, {_spell(self.input_size)}, {self.resample})"

    # What it does

    def view(self, picture: ImageSource, size: int | tuple[int, int] | None = None) -> Image.Image:
        """Exactly what the model sees of ``picture``, before normalisation: RGB, resized and cropped.

        ``size``: another input size than the processor's own, a side or (height, width), in pixels.
        """
        rgb = decode(picture).rgb
        height, width = target = self.input_size if size is None else _height_width(size, "size")
        if size is not None and not self.do_resize:
            raise InputError(f"size is {size}, but this processor does not resize: turn do_resize on.")
        if self.do_resize:
            rgb = rgb.resize(self._resized(rgb.size, target), _RESAMPLE[self.resample])
        if self.crop is not None:
            left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
            rgb = rgb.crop((left, top, left + width, top + height))  # black where the picture ends, as in transformers
        return rgb

    def _resized(self, size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
        """(width, height) to resize to, of a picture of ``size`` (width, height) for an input of (height, width)."""
        (height, width), own = target, self.input_size
        if self.shortest_edge is None:
            assert self.resized is not None
            return round(self.resized[1] * width / own[1]), round(self.resized[0] * height / own[0])
        shorter = round(self.shortest_edge * max(height / own[0], width / own[1]))
        longer = int(shorter * max(size) / min(size))
        return (shorter, longer) if size[0] <= size[1] else (longer, shorter)

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        size: int | tuple[int, int] | None = None,
        return_tensors: str = "pt",
    ) -> dict[str, Any]:
        """``{"pixel_values": (N, 3, H, W) float32}`` of one picture or several, in anything ``decode`` takes.

        ``size`` as in ``view``; ``return_tensors`` "pt" or "np". Raises ``ImageError`` for what cannot be decoded.
        """
        if return_tensors not in ("pt", "np"):
            raise InputError(f'return_tensors is {return_tensors!r}: choose "pt" or "np".')
        several = images if isinstance(images, (list, tuple)) else [cast(ImageSource, images)]
        views = [self.view(image, size) for image in several]
        if not views:
            raise InputError("there are no pictures: give at least one.")
        if len({view.size for view in views}) > 1:
            raise InputError("the pictures differ in size and do_resize is off: resize them or give them one by one.")
        pixels = np.stack([np.asarray(view) for view in views])  # (N, H, W, 3) uint8
        table = self._table()
        values = np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=1)  # (N, 3, H, W)
        return {"pixel_values": torch.from_numpy(values) if return_tensors == "pt" else values}

    def _table(self) -> np.ndarray:
        """(3, 256) float32: what each 8-bit value of each channel becomes, in transformers' order of rounding."""
        values = np.arange(256, dtype=np.float64)
        if self.do_rescale:
            values = values * self.rescale_factor
        table = np.broadcast_to(values.astype(np.float32), (3, 256))
        if self.do_normalize:
            mean, std = np.array(self.image_mean, np.float32), np.array(self.image_std, np.float32)
            table = (table - mean[:, None]) / std[:, None]
        return np.ascontiguousarray(table)

    # In and out

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> ViTMSNImageProcessor:
        """From the ``preprocessor_config.json`` of a folder or hub id, as transformers 4.x and 5.x write it.

        Where there is none: ImageNet's mean and standard deviation and a 224 x 224 squash, with a warning that says so.
        """
        return cls.from_dict(checkpoint.read_processor(name_or_path), source=str(name_or_path))

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any] | None, *, source: str = "the checkpoint", size: Size = 224
    ) -> ViTMSNImageProcessor:
        """From a parsed ``preprocessor_config.json``.

        ``None`` (there is no such file) warns and takes ImageNet's mean and standard deviation and ``size``. Raises
        ``CheckpointError``, naming ``source``, for what cannot be followed to the letter.
        """
        assumed = "ImageNet's mean and standard deviation are assumed"
        if values is None:
            values = {"size": size}
            warnings.warn(f"{source} has no preprocessor_config.json: a squash and {assumed}.", stacklevel=3)
        elif values.get("do_normalize", True) and not (values.get("image_mean") and values.get("image_std")):
            warnings.warn(f"{source}: preprocessor_config.json lacks image_mean or image_std: {assumed}.", stacklevel=3)
        try:
            return cls(**_from_transformers(values))
        except (InputError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source}: preprocessor_config.json cannot be followed: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The ``preprocessor_config.json`` that transformers 4.x and 5.x read."""
        edges = {"shortest_edge": self.shortest_edge} if self.shortest_edge else _edges(self.resized)
        return {
            # ViTImageProcessor of 4.x does not crop; Bit's does the same steps and does
            "image_processor_type": "ViTImageProcessor" if self.crop is None else "BitImageProcessor",
            "do_resize": self.do_resize,
            "size": edges,
            "resample": _RESAMPLE[self.resample],
            "do_center_crop": self.crop is not None,
            "crop_size": _edges(self.crop or self.resized),
            "do_rescale": self.do_rescale,
            "rescale_factor": self.rescale_factor,
            "do_normalize": self.do_normalize,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
        }

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``preprocessor_config.json`` into ``folder``, which is made when it is not there."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        partial = path / "preprocessor_config.json.partial"
        partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path / "preprocessor_config.json")


def _from_transformers(values: Mapping[str, Any]) -> dict[str, Any]:
    """A ``preprocessor_config.json`` -> arguments of the processor; absent keys take the defaults."""
    names = ("size", "image_mean", "image_std", "do_resize", "do_rescale", "do_normalize", "rescale_factor")
    arguments = {name: values[name] for name in names if values.get(name) is not None}
    if isinstance(size := arguments.get("size"), (list, tuple)):
        arguments["size"] = {"height": size[0], "width": size[-1]}
    for name in ("image_mean", "image_std"):
        if isinstance(arguments.get(name), (int, float)):
            arguments[name] = [arguments[name]] * 3
    if values.get("do_center_crop"):
        if isinstance(size, int) and values.get("do_resize", True):  # 4.x feature extractors that crop meant the edge
            arguments["size"] = {"shortest_edge": size}
        arguments["crop"] = values.get("crop_size") or 224
    if (resample := values.get("resample")) is not None:
        numbers = {number: name for name, number in _RESAMPLE.items()}
        arguments["resample"] = resample if isinstance(resample, str) else numbers.get(resample, str(resample))
    return arguments


def _side(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= 8192:
        raise InputError(f"{name} is {value!r}: a whole number of pixels from 1 to 8192 is needed.")
    return int(value)


def _height_width(size: Any, name: str) -> tuple[int, int]:
    if isinstance(size, Mapping):
        if set(size) != {"height", "width"}:
            raise InputError(f"{name} is {dict(size)}: a whole number or height and width are needed.")
        size = (size["height"], size["width"])
    elif not isinstance(size, (tuple, list)):
        size = (size, size)
    if len(size) != 2:
        raise InputError(f"{name} is {size}: a whole number or (height, width) is needed.")
    return _side(size[0], name), _side(size[1], name)


def _edges(size: tuple[int, int] | None) -> dict[str, int]:
    assert size is not None
    return {"height": size[0], "width": size[1]}


def _spell(size: int | tuple[int, int] | None) -> str:
    if isinstance(size, tuple):
        return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
    return str(size)


def _channels(values: Sequence[float], name: str) -> tuple[float, float, float]:
    if len(values) != 3 or not all(np.isfinite(float(value)) for value in values):
        raise InputError(f"{name} is {values}: three numbers are needed, one for each of red, green and blue.")
    return float(values[0]), float(values[1]), float(values[2])
