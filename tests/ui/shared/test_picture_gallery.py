"""The page's gallery: pieces of installed photographs, one sheet, one index for each model."""

from __future__ import annotations

import io
import re
import threading

import pytest
from PIL import Image

from vitmsn.encoder import Encoder
from vitmsn.nearest import NearPicture, PictureIndex
from vitmsn.ui.shared import examples, picture_gallery


def test_the_gallery_is_the_same_every_time_and_begins_with_whole_photographs() -> None:
    many = picture_gallery.pieces()
    titles = [title for _, _, title, _ in picture_gallery.SOURCES]
    assert len(many) == len(titles) * picture_gallery.PIECES  # every source is installed here
    assert [piece.name for piece in many[: len(titles)]] == titles
    picture_gallery.pieces.cache_clear()
    assert [piece.digest for piece in picture_gallery.pieces()] == [piece.digest for piece in many]
    assert len({piece.digest for piece in many}) > 0.95 * len(many)
    assert all(title in picture_gallery.credits() for title in titles)


def test_without_any_package_there_is_still_a_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    examples.photographs()  # remembered as they are
    picture_gallery.pieces.cache_clear()
    monkeypatch.setattr(examples, "installed", lambda package, name: None)
    assert len(picture_gallery.pieces()) == picture_gallery.PIECES
    picture_gallery.pieces.cache_clear()


def test_a_tile_shows_its_picture_of_the_sheet() -> None:
    sheet = Image.open(io.BytesIO(picture_gallery.sheet())).convert("RGB")
    side, columns, place = picture_gallery.SIDE, picture_gallery.COLUMNS, 31
    found = re.search(
        r"background-size:(\d+)% (\d+)%;background-position:([\d.]+)% ([\d.]+)%", picture_gallery.tile(place)
    )
    assert found is not None
    wide, high, across, down = map(float, found.groups())
    assert (wide, high) == (100 * sheet.width / side, 100 * sheet.height / side)
    left, top = across / 100 * (sheet.width - side), down / 100 * (sheet.height - side)  # as CSS places it
    assert (round(left / side), round(top / side)) == (place % columns, place // columns)
    seen = sheet.crop((round(left), round(top), round(left) + side, round(top) + side)).resize((1, 1))
    meant = picture_gallery.pieces()[place].rgb.resize((1, 1))
    assert all(abs(a - b) < 12 for a, b in zip(seen.getpixel((0, 0)), meant.getpixel((0, 0)), strict=True))


def test_a_strip_is_one_picture_for_screen_readers() -> None:
    near = [NearPicture(place, name) for place, name in enumerate(["<cat>", "<cat>", "lion"])]
    page = picture_gallery.strip(near, "Nearest", ringed={2})
    assert 'aria-label="Nearest: 2 × &lt;cat&gt;, lion; ringed: 1"' in page
    assert page.count("<i ") == 3 and page.count("msn-ringed") == 1 and "--tiles:3" in page
    assert "--tiles:2" in picture_gallery.strip(near, "Nearest", across=2)


def test_each_model_embeds_the_gallery_once(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Encoder] = []

    def count(encoder: Encoder, *rest: object, **more: object) -> PictureIndex:
        made.append(encoder)
        return PictureIndex(encoder, picture_gallery.pieces()[:30])

    monkeypatch.setattr(picture_gallery, "PictureIndex", count)
    picture_gallery._indexes.pop(tiny, None)
    threads = [threading.Thread(target=picture_gallery.index, args=(tiny,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [tiny] and picture_gallery.index(tiny) is picture_gallery.index(tiny)
    picture_gallery._indexes.pop(tiny)


def test_a_large_model_compares_with_fewer_pictures_or_none(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = sum(parameter.numel() for parameter in tiny.model.parameters())
    each = weights * 17  # tokens: 16 patches and CLS
    picture_gallery._indexes.pop(tiny, None)
    monkeypatch.setattr(picture_gallery, "WORK", each * 25)
    found = picture_gallery.index(tiny)
    assert found is not None and len(found) == 25
    picture_gallery._indexes.pop(tiny)
    monkeypatch.setattr(picture_gallery, "WORK", each * (picture_gallery.FEWEST - 1))
    assert picture_gallery.index(tiny) is None
