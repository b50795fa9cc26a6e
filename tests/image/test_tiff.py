"""Every kind of TIFF is decoded to the picture that tifffile wrote, or refused by name."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from vitmsn import limits
from vitmsn.errors import ImageError
from vitmsn.image import decode

RNG = np.random.default_rng(0)
COARSE = RNG.integers(0, 256, (7, 9, 3))
CAT = np.asarray(Image.fromarray(COARSE.astype(np.uint8)).resize((70, 50), Image.Resampling.BICUBIC)).astype(np.float64)
CAT[0, 0], CAT[0, 1] = 0, 255  # all values of a type are used
GRAY = CAT.mean(-1)


def written(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    assert np.array_equal(tifffile.imread(io.BytesIO(file.getvalue())), values)
    return file.getvalue()


def as_type(values: np.ndarray, name: str) -> np.ndarray:
    """0 to 255 -> the whole range of a type, or 0 to 1."""
    dtype = np.dtype(name)
    if dtype.kind == "f":
        return (values / 255).astype(dtype)
    low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return np.clip(values / 255 * (high - low) + low, low, high).astype(dtype)


def apart(data: bytes, expected: np.ndarray) -> float:
    """Mean distance of what was decoded from ``expected`` (H, W) or (H, W, 3)."""
    got = np.asarray(decode(data).rgb).astype(np.float64)
    return float(abs(got - (expected if expected.ndim == 3 else expected[..., None])).mean())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", [{}, {"compression": "zlib"}, {"tile": (16, 32)}], ids=["plain", "deflate", "tiles"])
@pytest.mark.parametrize("name", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_values_of_every_type_are_the_picture(name: str, stored: dict[str, Any], order: Any) -> None:
    gray, color = as_type(GRAY, name), as_type(CAT, name)
    options = {**stored, "byteorder": order}
    assert apart(written(gray, photometric="minisblack", **options), GRAY) < 1
    assert apart(written(gray, photometric="miniswhite", **options), 255 - GRAY) < 1
    assert apart(written(color, photometric="rgb", **options), CAT) < 1
    planes = np.moveaxis(color, -1, 0).copy()
    assert apart(written(planes, photometric="rgb", planarconfig="separate", **options), CAT) < 1


@pytest.mark.parametrize("name", ["u1", "u2"])
def test_differences_between_neighbors_are_added_up(name: str) -> None:
    data = written(as_type(CAT, name), photometric="rgb", compression="zlib", predictor=True)
    assert apart(data, CAT) < 1


def test_twelve_bits_in_sixteen_are_stretched_and_reported() -> None:
    for values, options in (((GRAY * 16), {}), ((CAT * 16), {"photometric": "rgb"})):
        data = written(values.astype(np.uint16), **options)
        assert decode(data).notes == ("values 0 to 4095 shown as 0 to 255",)
        assert apart(data, values / 16) < 1


def test_floats_beyond_one_are_stretched_and_reported() -> None:
    data = written((GRAY / 51).astype(np.float32))
    assert decode(data).notes == (f"values 0 to {GRAY.max() / 51:g} shown as 0 to 255",)
    assert apart(data, GRAY * 255 / GRAY.max()) < 1


def test_extra_channels_are_reported_and_alpha_is_laid_on_white() -> None:
    two = np.stack([GRAY, GRAY[::-1]], -1).astype(np.uint8)
    data = written(two, photometric="minisblack", planarconfig="contig")
    assert decode(data).notes == ("first of 2 channels",) and apart(data, GRAY) < 1
    clear = np.concatenate([CAT, np.zeros_like(CAT[..., :1])], -1)
    data = written(as_type(clear, "f4"), photometric="rgb", extrasamples=["unassalpha"])
    assert (
        decode(data).notes == ("transparent areas were filled with white",) and apart(data, np.full_like(CAT, 255)) == 0
    )


@pytest.mark.parametrize(
    ("values", "options", "what"),
    [
        (
            np.concatenate([CAT, CAT[..., :2]], -1).astype(np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "in 5 channels",
        ),
        (GRAY.astype(np.uint64), {}, "values of 64 bits"),
        (as_type(GRAY, "f4"), {"compression": "lzma", "byteorder": ">"}, "floating-point values of 32 bits"),
        (CAT.astype(np.uint8), {"extratags": [(50706, "B", 4, (1, 4, 0, 0), True)]}, "of a camera's raw data"),
    ],
)
def test_other_kinds_are_refused_by_name(values: np.ndarray, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ImageError) as refusal:
        decode(written(values, **options), name="scan.tif")
    message = str(refusal.value)
    assert message.startswith("scan.tif is a kind of TIFF that is not supported (") and what in message
    assert message.endswith("): save it as PNG or JPEG.")


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["L", "I;16", "F", "RGB", "RGBA", "CMYK", "LA", "1", "P"])
def test_tiffs_compressed_by_pillow_are_read(mode: str, compression: str) -> None:
    source = Image.fromarray(CAT.astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray((GRAY * 257).astype(np.uint16))
    else:
        image = source.convert("L").convert(mode) if mode in ("F", "LA") else source.convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    assert decode(file.getvalue()).digest == decode(image).digest


def test_pages_orientation_and_profile_are_handled() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2):
            writer.write(as_type(CAT, "f2"), photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    picture = decode(file.getvalue())
    assert picture.notes == ("first page of several",) and picture.rgb.size == (50, 70)
    assert abs(np.rot90(np.asarray(picture.rgb)) - CAT).mean() < 1


def test_decompressed_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(as_type(CAT, "f8"), photometric="rgb", compression="zlib")
    monkeypatch.setattr(limits, "MAX_TIFF_BYTES", CAT.size * 8)
    with pytest.raises(ImageError, match="needs more memory"):
        decode(data)


def test_missing_strips_are_refused() -> None:
    for options in ({}, {"compression": "zlib"}):
        data = written(as_type(CAT, "f8"), photometric="rgb", **options)
        with pytest.raises(ImageError, match="damaged or incomplete"):
            decode(data[: len(data) * 2 // 3])
