"""Pixels that are decoded: at one moment, and for one request."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from vitmsn import limits
from vitmsn.errors import ImageError, InputError
from vitmsn.image import Budget, check_total, counted, decode
from vitmsn.image.pixels import decoding


def picture(kind: str, side: int = 100) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


def test_pictures_wait_until_there_is_room_for_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DECODING_PIXELS", 250)
    guard, begun = threading.Lock(), threading.Event()
    inside, most = 0, 0

    def enter(pixels: int) -> None:
        nonlocal inside, most
        with decoding((pixels, 1)):
            with guard:
                inside += pixels
                most = max(most, inside)
            begun.wait(0.01)
            with guard:
                inside -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, [100, 60, 90, 250, 10, 100, 30] * 4))
    assert 100 < most <= 250 and inside == 0
    enter(1000)  # more than the bound: alone
    assert most == 1000


def test_an_error_inside_leaves_room_for_the_next() -> None:
    for _ in range(3):
        with pytest.raises(ImageError), decoding((limits.DECODING_PIXELS, 1)):
            raise ImageError("damaged")
    with decoding((limits.DECODING_PIXELS, 1)):
        pass


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_request_decodes_so_many_pixels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_PIXELS", 25_000)
    data = picture(kind)
    with counted(Budget(limits.REQUEST_PIXELS)):
        assert decode(data).rgb.size == decode(data).rgb.size == (100, 100)
        with pytest.raises(InputError, match=r"^The pictures of this request have more than 0\.025 megapixels"):
            decode(data)
    assert decode(data).rgb.size == (100, 100)  # elsewhere nothing is counted


def test_what_is_decoded_smaller_costs_less() -> None:
    budget = Budget(20_000)
    with counted(budget):
        decode(picture("JPEG", 400), most=25)  # 160,000 pixels, an eighth each way
    assert budget.left == 20_000 - 50 * 50


def test_the_total_is_refused_by_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_PIXELS", 45_000)
    paths = []
    for kind in ("PNG", "WEBP", "TIFF", "JPEG"):
        paths.append(tmp_path / kind)
        paths[-1].write_bytes(picture(kind))
    check_total(paths)
    with pytest.raises(InputError, match="send fewer, or smaller ones"):
        check_total([*paths, *paths[:1]])
    check_total([*paths, *paths[3:]], most=25)


def test_files_that_will_be_refused_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_PIXELS", 50_000)
    monkeypatch.setattr(limits, "MAX_PIXELS", 20_000)
    too_large, damaged, empty = tmp_path / "large.png", tmp_path / "damaged.png", tmp_path / "empty.png"
    too_large.write_bytes(picture("PNG", 200))
    damaged.write_bytes(picture("PNG")[:20])
    empty.write_bytes(b"")
    check_total([too_large, too_large, damaged, empty, tmp_path / "missing.png", tmp_path])
