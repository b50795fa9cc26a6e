"""JPEGs with a missing end."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitmsn.errors import ImageError
from vitmsn.image import decode, jpeg

COARSE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
PHOTO = Image.fromarray(COARSE).resize((400, 640), Image.Resampling.BICUBIC)


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    PHOTO.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}, {"optimize": True}], ids=str)
def test_only_missing_rows_are_gray_and_reported(mode: str, options: dict[str, Any]) -> None:
    data = encoded(mode, **options)
    whole = np.asarray(decode(data).rgb)
    assert decode(data[:-2]).notes == ("cut off at its end",)
    assert (np.asarray(decode(data[:-2]).rgb) == whole).all()
    picture = decode(data[: -len(data) // 40])
    rows = int(picture.notes[0].split()[11])
    assert picture.notes == (
        f"cut off at its end: of its 640 rows the last {rows} are missing, at least in part, and grey",
    )
    assert 0 < rows <= 48
    assert (np.asarray(picture.rgb)[: 640 - rows - 4] == whole[: 640 - rows - 4]).all()
    foot = np.asarray(picture.rgb)[-4:].astype(int)
    assert abs(foot - (64 if mode == "CMYK" else 128)).max() <= 1


def test_few_bytes_of_a_small_picture_may_be_missing() -> None:
    file = io.BytesIO()
    PHOTO.resize((64, 64)).save(file, "JPEG")
    assert decode(file.getvalue()[:-10]).notes[0].startswith("cut off at its end")


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_half_a_picture_is_refused(mode: str, options: dict[str, Any]) -> None:
    data = encoded(mode, **options)
    for share in (0.9, 0.5, 0.3) if not options else (0.5, 0.3):
        with pytest.raises(ImageError, match=r"^half\.jpg is cut off, with much of the picture missing:"):
            decode(data[: int(len(data) * share)], name="half.jpg")


def test_a_progressive_picture_lacks_only_fine_detail() -> None:
    data = encoded(progressive=True)
    picture = decode(data[: -len(data) // 20])
    assert picture.notes == ("cut off at its end",)
    assert abs(np.asarray(picture.rgb).astype(int) - np.asarray(decode(data).rgb).astype(int)).mean() < 3


def test_complete_jpegs_have_no_note() -> None:
    for data in (encoded(), encoded(progressive=True), encoded() + b"rest"):
        assert decode(data).notes == () and jpeg.structure(data).whole


def test_a_jpeg_cut_inside_a_header_is_refused() -> None:
    data = encoded()
    for length in (4, 30, data.index(b"\xff\xda") + 4):
        with pytest.raises(ImageError, match=r"cut off|damaged"):
            decode(data[:length])
