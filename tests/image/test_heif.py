"""HEIC and AVIF in the layouts of phones, made here with pillow-heif."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageOps

from vitmsn import limits
from vitmsn.errors import ImageError
from vitmsn.image import decode

COARSE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
PHOTO = Image.fromarray(COARSE).resize((200, 150), Image.Resampling.BICUBIC)


def turned(orientation: int) -> tuple[Image.Image, bytes]:
    """The photo with EXIF data that say how it was taken."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo = Image.fromarray(np.asarray(PHOTO))
    photo.info["exif"] = exif.tobytes()
    return photo, exif.tobytes()


def heic(*images: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    made = pillow_heif.from_pillow(images[0])
    for image in images[1:]:
        made.add_from_pillow(image)
    made.save(file, **{"quality": 90, **options})
    return file.getvalue()


def apart(data: bytes, image: Image.Image) -> float:
    rgb = decode(data).rgb
    assert rgb.size == image.size
    return float(abs(np.asarray(rgb).astype(float) - np.asarray(image.convert("RGB")).astype(float)).mean())


def test_a_grid_of_tiles_is_one_picture() -> None:
    data = heic(PHOTO, tile_size=64)
    assert b"grid" in data and apart(data, PHOTO) < 3
    assert decode(data).notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_container_rotation_is_applied_and_exif_rotation_is_not(orientation: int) -> None:
    data = heic(turned(orientation)[0])
    assert (b"irot" in data or b"imir" in data) == (orientation > 1) and b"Exif" in data
    stored = ImageOps.exif_transpose(
        turned(orientation)[0]
    )  # pillow-heif turns the pixels, and writes the turn as well
    shown = Image.fromarray(np.asarray(stored))
    shown.info["exif"] = turned(orientation)[1]
    assert apart(data, ImageOps.exif_transpose(shown)) < 3


def test_ten_bits_are_reduced() -> None:
    deep = np.asarray(PHOTO).astype(np.uint16) * 257
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", PHOTO.size, deep.tobytes()).save(file, quality=90)
    assert pillow_heif.open_heif(file.getvalue()).info["bit_depth"] == 10
    assert apart(file.getvalue(), PHOTO) < 3


def test_auxiliary_images_are_ignored_and_alpha_is_laid_on_white() -> None:
    clear = PHOTO.copy()
    clear.putalpha(0)
    data = heic(clear)
    assert decode(data).notes == ("transparent areas were filled with white",)
    assert apart(data, Image.new("RGB", PHOTO.size, "white")) < 1
    alpha, depth = b"auxid:1", b"auxid:2"
    assert data.count(alpha) == 1
    picture = decode(data.replace(alpha, depth))  # the same image as a map of depths, as phones add it
    assert picture.notes == () and picture.rgb.size == PHOTO.size


def test_the_main_picture_of_several_is_taken_and_reported() -> None:
    data = heic(Image.new("RGB", PHOTO.size), PHOTO, primary_index=1)
    assert decode(data).notes == ("main picture of 2",) and apart(data, PHOTO) < 3


def test_gray_and_thumbnails() -> None:
    assert apart(heic(PHOTO.convert("L")), PHOTO.convert("L")) < 3
    photo = PHOTO.copy()
    photo.info["thumbnails"] = [64]
    assert apart(heic(photo), PHOTO) < 3


def test_brands_of_several_phones() -> None:
    data = heic(PHOTO)
    assert data[8:12] == b"heic"
    for brand in (b"mif1", b"heix", b"msf1"):
        assert decode(data[:8] + brand + data[12:]).rgb.size == PHOTO.size


def test_limits_are_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(PHOTO)
    monkeypatch.setattr(limits, "MAX_PIXELS", 200 * 150 - 1)
    monkeypatch.setattr(pillow_heif.HeifImage, "load", None)
    with pytest.raises(ImageError, match="200 x 150 pixels; at most"):
        decode(data)


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_damaged_files_are_refused(kind: str) -> None:
    file = io.BytesIO()
    PHOTO.save(file, "AVIF")
    data = heic(PHOTO) if kind == "HEIC" else file.getvalue()
    generator = np.random.default_rng(1)
    for length in (20, 60, len(data) // 2, len(data) - 40):
        with pytest.raises(ImageError, match=r"^half\.heic is damaged"):
            decode(data[:length], name="half.heic")
    for _ in range(60):
        changed = np.frombuffer(data, np.uint8).copy()
        places = generator.integers(12, min(len(data), 500), 4)
        changed[places] = generator.integers(0, 256, 4)
        with contextlib.suppress(ImageError):
            assert decode(changed.tobytes()).rgb.mode == "RGB"


def test_avif() -> None:
    for orientation in (1, 6):
        photo, exif = turned(orientation)
        file = io.BytesIO()
        PHOTO.save(file, "AVIF", quality=90, exif=exif)
        assert apart(file.getvalue(), ImageOps.exif_transpose(photo)) < 3
    file = io.BytesIO()
    PHOTO.save(file, "AVIF", save_all=True, append_images=[PHOTO.rotate(90)])
    assert decode(file.getvalue()).notes == ("first frame of 2",)
