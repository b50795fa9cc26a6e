"""The decoder against friendly, odd and hostile files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import subprocess
import sys
import textwrap
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps

from tests.support.pictures import encoded, noise, pixels, smooth
from vitmsn import limits
from vitmsn.errors import ImageError
from vitmsn.image import decode

_FAITHFUL: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}


# -- What comes in, and as what ---------------------------------------------------------------------------------------


def test_bytes_path_pil_and_picture_are_the_same_picture(tmp_path: Path) -> None:
    image = noise(20, 12)
    path = tmp_path / "cat.png"
    image.save(path)
    sources: list[Any] = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), image, decode(path)]
    pictures = [decode(source) for source in sources]
    assert {picture.digest for picture in pictures} == {pictures[0].digest}
    assert all(picture.rgb.mode == "RGB" and picture.rgb.size == (20, 12) for picture in pictures)
    assert [picture.name for picture in pictures] == ["cat.png", "cat.png", "picture", "picture", "picture", "cat.png"]
    assert decode(path, name="dog.png").name == decode(decode(path), name="dog.png").name == "dog.png"
    np.testing.assert_array_equal(pixels(pictures[0]), pixels(image))


def test_digest_depends_on_size_and_pixels() -> None:
    image = noise(1500, 700)  # more than one strip
    expected = hashlib.sha256(struct.pack("<II", 1500, 700) + image.tobytes()).hexdigest()
    assert decode(image).digest == expected == decode(encoded(image)).digest
    assert decode(Image.new("RGB", (4, 2))).digest != decode(Image.new("RGB", (2, 4))).digest


def test_a_picture_does_not_share_pixels_with_its_source(tmp_path: Path) -> None:
    """Changing the caller's image later does not change the decoded picture, nor the other way round."""
    image = noise(8, 8)
    picture = decode(image)
    before = pixels(picture).copy()
    image.paste((1, 2, 3), (0, 0, 8, 8))
    np.testing.assert_array_equal(pixels(picture), before)
    with pytest.raises(AttributeError):
        picture.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("size", "side", "expected"), [((400, 200), 100, (100, 50)), ((30, 20), 100, (30, 20)), ((500, 10), 40, (40, 1))]
)
def test_thumbnail(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    thumbnail = decode(smooth(*size)).thumbnail(side)
    assert thumbnail.size == expected
    assert thumbnail.mode == "RGB"
    assert max(decode(smooth(2000, 1000)).thumbnail().size) == limits.THUMBNAIL_SIDE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_supported_format(kind: str) -> None:
    image = smooth(40, 30)
    decoded = decode(encoded(image, kind))
    assert decoded.rgb.size == (40, 30)
    assert decoded.notes == ()
    assert abs(pixels(decoded) - pixels(image)).mean() < 10


@pytest.mark.parametrize("extension", ["jpg", "txt", "pdf", ""])
def test_magic_bytes_decide_not_the_extension(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"picture.{extension}"
    path.write_bytes(encoded(noise(5, 4)))
    np.testing.assert_array_equal(pixels(decode(path)), pixels(noise(5, 4)))


# -- Orientation, modes, colors --------------------------------------------------------------------------------------

_AS_STORED = {  # EXIF orientation -> how a camera held that way stores an upright picture
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_all_eight_orientations_give_the_same_picture(kind: str) -> None:
    # For JPEG, blocks of one color: exactly the same however the blocks are turned.
    small = noise(4, 2)
    upright = small.resize((64, 32), Image.Resampling.NEAREST) if kind == "JPEG" else noise(23, 11)
    options = _FAITHFUL.get(kind, {})
    pictures = []
    for orientation, turns in _AS_STORED.items():
        stored = upright
        for turn in turns:
            stored = stored.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        pictures.append(decode(encoded(stored, kind, exif=exif.tobytes(), **options)))
    assert {picture.rgb.size for picture in pictures} == {upright.size}
    assert {picture.digest for picture in pictures} == {pictures[0].digest}
    assert abs(pixels(pictures[0]) - pixels(upright)).max() <= (3 if kind == "JPEG" else 0)


def test_orientation_is_applied_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(9, 5), "PNG", exif=exif.tobytes())
    once = decode(data)
    assert once.rgb.size == (5, 9)
    assert decode(once.rgb).digest == once.digest
    assert decode(Image.open(io.BytesIO(data))).digest == once.digest
    assert decode(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).digest == once.digest


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
def test_a_picture_turned_by_exif_transpose_is_not_turned_again(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(smooth(24, 16), kind, exif=exif)
    for in_place in (False, True):
        image = Image.open(io.BytesIO(data))
        turned = ImageOps.exif_transpose(image, in_place=in_place) or image
        assert turned.size == (16, 24)
        for again in (turned, turned.copy(), turned.convert("RGB")):
            assert decode(again).digest == decode(data).digest


@pytest.mark.parametrize(
    "exif", [b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff", b"Exif\x00\x00" + b"\xff" * 60]
)
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    image = smooth(16, 8)
    assert decode(encoded(image, "JPEG", exif=exif)).digest == decode(encoded(image, "JPEG")).digest


_MODES = "1 L P RGB RGBA CMYK YCbCr LAB HSV I F LA PA RGBX RGBa La I;16 I;16L I;16B"


@pytest.mark.parametrize("mode", _MODES.split())
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    picture = decode(Image.new(mode, (6, 5)))
    assert picture.rgb.mode == "RGB"
    assert picture.rgb.size == (6, 5)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_plain_modes_convert_as_in_pillow(mode: str) -> None:
    image = noise(17, 9).convert(mode)
    np.testing.assert_array_equal(pixels(decode(encoded(image))), pixels(image.convert("RGB")))


def test_cmyk() -> None:
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for kind in ("TIFF", "JPEG"):
        red, green, blue = pixels(decode(encoded(image, kind)))[0, 0]
        assert red > 250 and green < 5 and blue < 5


def test_alpha_is_laid_on_white() -> None:
    color, alpha = noise(16, 16), noise(16, 16, 1, seed=1)
    image = color.copy()
    image.putalpha(alpha)
    share = np.asarray(alpha)[..., None] / 255
    expected = pixels(color) * share + 255 * (1 - share)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        picture = decode(encoded(image, kind, **options))
        assert picture.notes == ("transparent areas were filled with white",)
        assert abs(pixels(picture) - expected).max() <= 1

    gray = color.convert("L")
    both = Image.merge("LA", (gray, alpha))
    expected = pixels(gray)[..., None] * share + 255 * (1 - share)
    assert abs(pixels(decode(encoded(both))) - expected).max() <= 1


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    image = noise(9, 9)
    with_alpha = image.copy()
    with_alpha.putalpha(255)
    picture = decode(encoded(with_alpha))
    assert picture.digest == decode(image).digest
    assert picture.notes == ()


@pytest.mark.parametrize(("mode", "key"), [("P", 0), ("L", 0), ("RGB", (0, 0, 0)), ("1", 0)])
def test_a_transparent_color_becomes_white(mode: str, key: Any) -> None:
    image = Image.new(mode, (4, 4), key)
    assert (pixels(decode(encoded(image, "PNG", transparency=key))) == 255).all()
    assert (pixels(decode(encoded(image, "PNG"))) == 0).all()


def _keyed_png(bits: int, color: int, row: bytes, key: bytes) -> bytes:
    """8 x 8 pixels of one color, which its tRNS chunk says is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, bits, color, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress((b"\0" + row) * 8)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("bits", "color", "row", "key"),
    [
        (1, 0, b"\0", struct.pack(">H", 0)),
        (2, 0, b"\x55" * 2, struct.pack(">H", 1)),
        (4, 0, b"\x55" * 4, struct.pack(">H", 5)),
        (8, 0, bytes([7] * 8), struct.pack(">H", 7)),
        (16, 0, struct.pack(">8H", *[50000] * 8), struct.pack(">H", 50000)),
        (8, 2, bytes([9, 8, 7] * 8), struct.pack(">3H", 9, 8, 7)),
        (16, 2, struct.pack(">24H", *[2304, 2057, 1799] * 8), struct.pack(">3H", 2304, 2057, 1799)),
    ],
)
def test_one_transparent_color_of_a_png_is_laid_on_white_at_all_depths(
    bits: int, color: int, row: bytes, key: bytes
) -> None:
    picture = decode(_keyed_png(bits, color, row, key))
    assert (pixels(picture) == 255).all() and picture.notes == ("transparent areas were filled with white",)
    other = decode(
        _keyed_png(bits, color, row, struct.pack(f">{len(key) // 2}H", *[1 if bits == 1 else 0] * (len(key) // 2)))
    )
    assert (pixels(other) < 255).all() and other.notes == ()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = np.arange(256).reshape(16, 16)
    deep = Image.fromarray(ramp)
    assert deep.mode == "I;16"
    for source in (deep, encoded(deep, "PNG"), encoded(deep, "TIFF"), Image.fromarray(ramp.astype(np.int32))):
        picture = decode(source)
        np.testing.assert_array_equal(pixels(picture)[..., 0], expected)
        assert picture.notes == ()
    big_endian = Image.frombytes("I;16B", (16, 16), ramp.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels(decode(big_endian))[..., 0], expected)


@pytest.mark.parametrize(
    ("low", "high", "noted"), [(0, 1, False), (0, 255, False), (-1, 1, True), (0, 4000, True), (-3e38, 3e38, True)]
)
def test_floats_are_scaled_not_clipped(low: float, high: float, noted: bool) -> None:
    ramp = np.linspace(low, high, 256).astype(np.float32).reshape(16, 16)
    for source in (Image.fromarray(ramp), encoded(Image.fromarray(ramp), "TIFF")):
        picture = decode(source)
        assert abs(pixels(picture)[..., 0] - np.arange(256).reshape(16, 16)).max() <= 1
        assert len(picture.notes) == noted


def test_integers_beyond_sixteen_bits_are_stretched_and_reported() -> None:
    picture = decode(Image.fromarray(np.array([[-100, 0, 100]], np.int32)))
    assert pixels(picture)[0, :, 0].tolist() == [0, 128, 255]
    assert picture.notes == ("values -100 to 100 shown as 0 to 255",)


def test_nan_values_are_black() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1, 0.5]], np.float32)
    assert pixels(decode(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 0, 255, 128]
    assert (pixels(decode(Image.fromarray(np.full((2, 2), -7, np.float32)))) == 0).all()


def _swapped_profile() -> bytes:
    """sRGB with the red and blue primaries exchanged: a valid profile with an obvious effect."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red : red + 8], data[blue : blue + 8] = data[blue : blue + 8], data[red : red + 8]
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_color_profiles_are_converted_to_srgb(kind: str) -> None:
    image = Image.new("RGB", (16, 16), (250, 10, 20))
    options = _FAITHFUL.get(kind, {})
    red, green, blue = pixels(decode(encoded(image, kind, icc_profile=_swapped_profile(), **options)))[8, 8]
    assert abs(red - 20) < 8 and abs(green - 10) < 8 and abs(blue - 250) < 8


def test_an_srgb_profile_changes_no_value() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise(32, 32)
    picture = decode(encoded(image, icc_profile=profile))
    np.testing.assert_array_equal(pixels(picture), pixels(image))
    assert picture.notes == ()
    gray = image.convert("L")  # a common mistake of cameras and scanners
    np.testing.assert_array_equal(pixels(decode(encoded(gray, icc_profile=profile))), pixels(gray.convert("RGB")))


@pytest.mark.parametrize("profile", [b"not a profile", b"\x00" * 200, ImageCms.createProfile("LAB")])
def test_a_broken_or_mismatched_profile_is_ignored_and_reported(profile: Any) -> None:
    if not isinstance(profile, bytes):
        profile = ImageCms.ImageCmsProfile(profile).tobytes()
    image = noise(8, 8)
    picture = decode(encoded(image, icc_profile=profile))
    np.testing.assert_array_equal(pixels(picture), pixels(image))
    assert picture.notes == ("colour profile ignored: damaged, or of another kind of picture",)


def test_the_profile_is_applied_before_alpha() -> None:
    image = Image.new("RGBA", (2, 1), (250, 10, 20, 255))
    image.putpixel((1, 0), (250, 10, 20, 0))
    solid, clear = pixels(decode(encoded(image, icc_profile=_swapped_profile())))[0]
    assert solid[2] > 200 and solid[0] < 50
    assert clear.tolist() == [255, 255, 255]


# -- Frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "note"),
    [
        ("GIF", {}, "first frame of several"),
        ("PNG", {}, "first frame of 3"),
        ("WEBP", {"lossless": True}, "first frame of 3"),
        ("TIFF", {}, "first page of several"),
    ],
)
def test_the_first_frame_is_taken_and_reported(kind: str, options: dict[str, Any], note: str) -> None:
    red, *others = (Image.new("RGB", (8, 6), color) for color in ("red", "blue", "lime"))
    picture = decode(encoded(red, kind, save_all=True, append_images=others, **options))
    assert (pixels(picture) == (255, 0, 0)).all()
    assert note in picture.notes


def test_the_frame_chosen_by_the_caller_is_kept() -> None:
    red, blue = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    image = Image.open(io.BytesIO(encoded(red, "TIFF", save_all=True, append_images=[blue])))
    image.seek(1)
    picture = decode(image)
    assert (pixels(picture) == (0, 0, 255)).all()
    assert picture.notes == ()


# -- Refusals ---------------------------------------------------------------------------------------------------------


def refused(source: Any, **options: Any) -> str:
    """The one sentence of the refusal."""
    with pytest.raises(ImageError) as refusal:
        decode(source, **options)
    message = str(refusal.value)
    assert "\n" not in message and message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "video"),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom", "CR3"),
        (struct.pack("<3BHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 8, 24, 0) + bytes(192), "TGA"),
        (bytes(30) + b"TRUEVISION-XFILE.\x00", "TGA"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"P6\n2 2\n255\n", "PNM"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- a --><SVG/>", "SVG"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"PK\x03\x04rest", "zip"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x00\x00\x01\x00\x01\x00", "icon"),
        (b"\xff\x0a\x00", "JPEG XL"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"MZ\x90\x00", "unknown format"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "unknown format"),
        (b"\x00", "unknown format"),
    ],
)
def test_unsupported_formats_are_named_with_advice(data: bytes, what: str) -> None:
    message = refused(data, name="holiday.jpg")
    assert message.startswith("holiday.jpg is ")
    assert what in message
    assert "JPEG, PNG, WEBP, BMP, GIF, TIFF, HEIC and AVIF are supported: " in message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_files_are_refused_by_name(kind: str) -> None:
    data = encoded(noise(64, 64), kind)
    for length in (12, 20, len(data) // 4, len(data) // 2, len(data) * 9 // 10):
        assert refused(data[:length], name="half.pic").startswith("half.pic ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_scrambled_files_decode_or_are_refused(kind: str) -> None:
    """Bytes changed at random: an image or an ImageError, nothing else, and no warning (those are errors here)."""
    generator = np.random.default_rng(sum(kind.encode()))
    data = np.frombuffer(encoded(noise(24, 24), kind), np.uint8)
    for _ in range(150):
        copy = data.copy()
        places = generator.integers(0, min(len(copy), 400), generator.integers(1, 8))
        copy[places] = generator.integers(0, 256, len(places))
        with contextlib.suppress(ImageError):
            assert decode(copy.tobytes()).rgb.mode == "RGB"


def test_a_bad_file_does_not_affect_the_next() -> None:
    good = encoded(noise(8, 8))
    before = decode(good).digest
    refused(good[:40])
    assert decode(good).digest == before


def test_non_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "empty.png") == "empty.png is empty: save or download it again."
    assert refused(tmp_path / "missing.png").startswith("missing.png is not there")
    assert refused(str(tmp_path / "folder")).startswith("folder is a folder")
    assert refused("https://example.org/cat.png").startswith("cat.png is a web address")
    assert refused("nul\x00byte").startswith("nul\N{REPLACEMENT CHARACTER}byte ")
    assert "dict" in refused({})
    assert "NoneType" in refused(None, name="shot 3")
    if os.path.exists("/dev/zero"):
        assert refused("/dev/zero").startswith("zero is not there")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(noise(4, 4)))
    path.chmod(0)
    assert refused(path).startswith("secret.png cannot be read")


def test_names_are_cleaned_for_messages() -> None:
    message = refused(b"", name="cat\u202egnp.exe\n\x1b[31m" + "x" * 500)
    assert message.isprintable()
    assert len(message) < 64 + 60
    assert len(decode(noise(2, 2), name="x" * 500).name) == limits.MAX_NAME_LENGTH


def test_file_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(64, 64))
    (tmp_path / "big.png").write_bytes(data)
    monkeypatch.setattr(limits, "MAX_IMAGE_BYTES", len(data))
    assert decode(data).digest == decode(tmp_path / "big.png").digest
    monkeypatch.setattr(limits, "MAX_IMAGE_BYTES", len(data) - 1)
    assert refused(tmp_path / "big.png").startswith("big.png is larger than ")
    assert refused(data, name="big").startswith("big is larger than ")


def test_pixels_and_proportions_are_limited_for_every_source() -> None:
    assert decode(Image.new("L", (50, 1))).rgb.size == (50, 1)
    assert decode(Image.new("L", (1, 1))).rgb.size == (1, 1)
    for source in (Image.new("L", (51, 1)), encoded(Image.new("L", (1, 30000)))):
        assert "more than 50 times" in refused(source)
    assert "at least one pixel" in refused(Image.new("L", (0, 5)))
    assert "50 million" in refused(Image.new("1", (8000, 8000)))


def test_memory_errors_are_refusals() -> None:
    class Hungry(Image.Image):
        size = (4, 4)

        def load(self) -> Any:
            raise MemoryError

    assert "more memory than there is" in refused(Hungry())


# -- Bombs ------------------------------------------------------------------------------------------------------------


def _png_bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    squeezer = zlib.compressobj(9)
    rows = b"".join(squeezer.compress(bytes(1_000_000)) for _ in range(50)) + squeezer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _gif_bomb() -> bytes:
    data = encoded(Image.new("P", (10, 10)), "GIF")
    return data[:6] + struct.pack("<HH", 65535, 65535) + data[10:]


def _webp_canvas_bomb() -> bytes:
    picture = encoded(Image.new("RGBA", (10, 10), (1, 2, 3, 4)), "WEBP", lossless=True)
    canvas = (16382).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas * 2 + picture[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_lossless_bomb() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (10, 10)), "WEBP", lossless=True))
    bits = int.from_bytes(data[21:25], "little") | 0x3FFF | 0x3FFF << 14
    data[21:25] = bits.to_bytes(4, "little")
    return bytes(data)


def _webp_lossy_bomb() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (10, 10)), "WEBP"))
    assert data[12:16] == b"VP8 "
    data[26:30] = struct.pack("<HH", 16383, 16383)
    return bytes(data)


def _bmp_bomb() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (10, 10)), "BMP"))
    data[18:26] = struct.pack("<ii", 60000, 60000)
    return bytes(data)


def _jpeg_bomb() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def _tiff(tags: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    """One page: (tag, type, count, value) entries, and then ``body``, at the offset that entries name with -1."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", *tag[:3], start if tag[3] == -1 else tag[3]) for tag in tags)
    return b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + body


def _tiff_tile_bomb() -> bytes:
    tile = zlib.compress(bytes(60_000_000), 9)
    sizes = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    return _tiff([*sizes, (322, 4, 1, 30000), (323, 4, 1, 30000), (324, 4, 1, -1), (325, 4, 1, len(tile))], tile)


def _tiff_bomb() -> bytes:
    strip = zlib.compress(bytes(60_000_000), 9)
    sizes = [(256, 4, 1, 40000), (257, 4, 1, 40000), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    return _tiff([*sizes, (273, 4, 1, -1), (277, 3, 1, 1), (278, 4, 1, 40000), (279, 4, 1, len(strip))], strip)


_BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: _png_bomb(30000, 30000),
    "gif": _gif_bomb,
    "webp canvas": _webp_canvas_bomb,
    "webp lossless": _webp_lossless_bomb,
    "webp lossy": _webp_lossy_bomb,
    "bmp": _bmp_bomb,
    "jpeg": _jpeg_bomb,
    "tiff": _tiff_bomb,
    "tiff tile": _tiff_tile_bomb,
}


def test_bombs_are_refused_by_their_header_in_bounded_memory(tmp_path: Path) -> None:
    """In a separate process: the operating system reports its peak memory, C libraries included."""
    for name, bomb in _BOMBS.items():
        data = bomb()
        assert len(data) < 200_000
        (tmp_path / name).write_bytes(data)
    script = """
        import resource, sys, warnings
        from pathlib import Path
        from vitmsn.errors import ImageError
        from vitmsn.image import decode
        warnings.simplefilter("error")
        for path in sorted(Path(sys.argv[1]).iterdir()):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                decode(path)
            except ImageError as error:
                print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}|{error}")
    """
    pytest.importorskip("resource", reason="peak memory is asked of Unix")
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    lines = done.stdout.splitlines()
    assert len(lines) == len(_BOMBS), done.stdout
    unit = 1 if sys.platform == "darwin" else 1024
    for name, line in zip(sorted(_BOMBS), lines, strict=True):
        grown, message = line.split("|")
        assert int(grown) * unit < 20e6, line
        assert message.startswith(name), line
        assert "million" in message or "safely" in message or "tiles" in message, line


def test_the_pixel_limit_does_not_depend_on_pillows_global_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between Pillow's limit and twice it, Pillow only warns; any code can change the global limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(noise(12, 12))).rgb.size == (12, 12)
    assert "safely" in refused(encoded(noise(20, 20)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(limits, "MAX_PIXELS", 100)
    assert "20 x 20 pixels" in refused(encoded(noise(20, 20)))


def test_a_webp_may_have_fewer_pixels_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decoder keeps the canvas twice, the pixels as bytes, and then the picture."""
    monkeypatch.setattr(limits, "MAX_WEBP_PIXELS", 100)
    said = refused(encoded(noise(20, 20), "WEBP"))
    assert "20 x 20 pixels; at most 0.0001 million are taken of a WebP: save it as JPEG" in said
    assert decode(encoded(noise(10, 10), "WEBP")).rgb.size == (10, 10)
    assert decode(encoded(noise(20, 20))).rgb.size == (20, 20)


def _progressive(scans: int) -> bytes:
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def test_a_jpeg_of_too_many_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SCANNED_PIXELS", 64 * 64 * 50)
    assert decode(_progressive(20)).rgb.size == (64, 64)
    assert "passes" in refused(_progressive(60))
    # What looks like scans, in a thumbnail's segment or after the picture's end, is none.
    comment = b"\xff\xd8\xff\xfe" + struct.pack(">H", 402) + b"\xff\xda\xff\xda" * 100
    plain = encoded(noise(64, 64), "JPEG")
    assert decode(comment + plain[2:] + b"\xff\xda" * 500).digest == decode(plain).digest


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    class Watched(Image.Image):
        def load(self) -> Any:
            nonlocal inside, most
            with guard:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.01)
            with guard:
                inside -= 1
            return super().load()

    images = []
    for _ in range(8):
        image = Image.new("RGB", (12, 12))
        image.__class__ = Watched
        images.append(image)
    monkeypatch.setattr(limits, "DECODING_PIXELS", 200)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(decode, images))) == 8
    assert most == 1


# -- Corpora, warnings, threads ---------------------------------------------------------------------------------------


def test_bad_images_decode_or_are_refused(shared_data: Path) -> None:
    """The fuzzers' corpora: an image or an ImageError that names the file; nothing else, and no warning."""
    folder = shared_data / "bad-images"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 1000
    decoded, unnamed = 0, []
    for path in files:
        try:
            picture = decode(path)
        except ImageError as error:
            unnamed += [path] if not str(error).startswith(path.name[:60]) else []
        else:
            decoded += 1
            assert picture.rgb.mode == "RGB"
            assert picture.rgb.getpixel((0, 0)) is not None
    assert decoded > 200
    assert unnamed == []


_ODD_TIFF = _tiff([(256, 4, 1, 2), (257, 4, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 2, 1), (273, 4, 1, -1),
                   (277, 3, 1, 1), (278, 4, 1, 2), (279, 4, 1, 4), (305, 2, 9999, 60000)], bytes(4))  # fmt: skip


def test_pillow_warns_about_the_sample_file() -> None:
    """The file of the next tests is one that Pillow decodes with a warning."""
    with (
        pytest.warns(UserWarning, match="^(Truncated|Possibly|Metadata|Corrupt)"),
        Image.open(io.BytesIO(_ODD_TIFF)) as image,
    ):
        image.load()


def test_pillow_warnings_are_hidden() -> None:
    assert decode(_ODD_TIFF).rgb.size == (2, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(_ODD_TIFF)
        warnings.warn("ours", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["ours"]


def test_other_threads_keep_their_warnings_while_one_decodes() -> None:
    decoding, done = threading.Event(), threading.Event()

    class Slow(Image.Image):
        def load(self) -> Any:
            decoding.set()
            done.wait(10)
            return super().load()

    image = Image.new("RGB", (4, 4))
    image.__class__ = Slow
    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        future = pool.submit(decode, image)
        assert decoding.wait(10)
        warnings.warn("elsewhere", UserWarning, stacklevel=1)
        done.set()
        assert future.result(10).rgb.size == (4, 4)
    assert [str(warning.message) for warning in caught] == ["elsewhere"]


def test_threads_decode_the_same_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    files = [
        encoded(noise(60, 40), "JPEG", exif=exif.tobytes(), icc_profile=_swapped_profile()),
        encoded(noise(30, 30, 4), "PNG"),
        encoded(noise(50, 20), "WEBP"),
        _ODD_TIFF,
    ]
    expected = [decode(file).digest for file in files]
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda number: decode(files[number % 4]).digest, range(200)))
    assert digests == expected * 50


# -- Arrays -----------------------------------------------------------------------------------------------------------


def test_arrays_of_every_shape_are_the_picture_they_hold() -> None:
    color = np.asarray(noise(9, 7))
    gray, clear = color[..., 0], np.dstack([color, np.full(color.shape[:2], 255, np.uint8)])
    for given in (color, color.transpose(2, 0, 1), clear, torch.from_numpy(color.copy())):
        np.testing.assert_array_equal(np.asarray(decode(given).rgb), color)
    for given in (gray, gray[None], gray[..., None]):
        np.testing.assert_array_equal(np.asarray(decode(given).rgb), np.dstack([gray] * 3))
    see_through = np.dstack([color, np.zeros(color.shape[:2], np.uint8)])
    assert (np.asarray(decode(see_through).rgb) == 255).all()  # laid on white, as any other picture


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((9, 7, 3)), "an array of float64; whole numbers from 0 to 255"),
        (torch.zeros(3, 9, 7), "an array of float32; .* multiply values from 0 to 1 by 255"),
        (np.zeros((3, 7, 3), np.uint8), "could be its first or its last dimension"),
        (np.zeros((9, 7, 2), np.uint8), "are neither its first nor its last dimension"),
        (np.zeros((2, 9, 7, 3), np.uint8), r"shape \(2, 9, 7, 3\); \(height, width, channels\)"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \(0, 7, 3\)"),
        (np.zeros(7, np.uint8), r"shape \(7,\)"),
        (np.zeros((2, 600), np.uint8), "times as long one way"),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
def test_invalid_arrays_are_refused(values: np.ndarray | torch.Tensor, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode(values)


def test_a_web_address_is_not_fetched() -> None:
    with pytest.raises(ImageError, match=r"y\.jpg is a web address, and nothing is fetched here"):
        decode("https://example.com/y.jpg")


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("PNG", "P")]
)
def test_a_large_picture_is_reduced_as_it_is_read(kind: str, mode: str) -> None:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((900, 600)).convert("RGB").convert(mode).save(out, kind)
    whole, small = decode(out.getvalue()), decode(out.getvalue(), most=100)
    if mode == "P":  # colors of a palette cannot be mixed, so it is reduced once they are known
        assert small.rgb.mode == "RGB"
    assert small.rgb.size == (100, 67) and whole.rgb.size == (900, 600)
    wanted = np.asarray(whole.thumbnail(100), np.float32)
    assert np.abs(np.asarray(small.rgb, np.float32) - wanted).mean() < 2


def test_a_small_picture_stays_as_it_is() -> None:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, "JPEG")
    assert decode(out.getvalue(), most=300).digest == decode(out.getvalue()).digest


def test_a_huge_picture_is_reduced_in_bounded_memory() -> None:
    """A picture of 49 million pixels in some dozen bytes, reduced on the way to RGB."""
    out = io.BytesIO()
    Image.new("L", (7000, 7000)).save(out, "PNG")
    assert len(out.getvalue()) < 60_000 and decode(out.getvalue(), most=64).rgb.size == (64, 64)
