"""Batches keep the order, the size limits and the count of sources read, and skip undecodable pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from vitmsn import limits
from vitmsn.errors import ImageError
from vitmsn.image import batches


def png(side: int = 10) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(out, "PNG")
    return out.getvalue()


def test_pictures_come_in_order_some_at_a_time() -> None:
    found = list(batches(((number, png()) for number in range(5)), size=2))
    assert [batch.keys for batch in found] == [[0, 1], [2, 3], [4]]
    assert [batch.done for batch in found] == [2, 4, 5]
    assert all(len(batch.keys) == len(batch.pictures) for batch in found)
    assert list(batches([])) == []


def test_large_pictures_are_never_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_PIXELS", 250)
    sides = [10, 10, 10, 20, 10]
    assert [batch.keys for batch in batches((side, png(side)) for side in sides)] == [[10, 10, 10], [20], [10]]


def test_no_batch_exceeds_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BATCH", 3)
    for size in (None, 100):
        assert [len(batch.keys) for batch in batches(((n, png()) for n in range(7)), size=size)] == [3, 3, 1]


def test_undecodable_pictures_are_skipped_and_reported() -> None:
    told: list[tuple[str, str]] = []
    sources = [("a", png()), ("b", b"no picture"), ("c", png()), ("d", b"none either")]
    found = list(batches(sources, lambda key, error: told.append((key, str(error))), name="{}.png".format, size=2))
    assert [(batch.keys, batch.done) for batch in found] == [(["a", "c"], 3), ([], 4)]
    assert [picture.name for picture in found[0].pictures] == ["a.png", "c.png"]
    assert [key for key, _ in told] == ["b", "d"] and "b.png" in told[0][1]


def test_without_a_callback_the_error_is_raised() -> None:
    with pytest.raises(ImageError):
        list(batches([("a", b"no picture")]))


def test_the_next_picture_is_read_when_its_batch_is_asked_for() -> None:
    read: list[int] = []

    def sources() -> Iterator[tuple[int, bytes]]:
        for number in range(4):
            read.append(number)
            yield number, png()

    running = batches(sources(), size=2)
    next(running)
    assert read == [0, 1]
