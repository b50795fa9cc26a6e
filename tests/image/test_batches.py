"""Batches keep the order, the size limits and the count of sources read, and skip undecodable pictures."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from vitmsn import limits
from vitmsn.errors import ImageError
from vitmsn.image import Budget, Picture, ahead, batches, counted, decoding_threads


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


@pytest.mark.parametrize("threads", [1, 3])
def test_several_threads_give_the_same_batches_and_tell_of_errors_in_their_place(threads: int) -> None:
    sources = [(number, b"no picture" if number % 4 == 3 else png(5 + number)) for number in range(23)]
    told: list[int] = []

    def refused(key: int, _: ImageError) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(key)

    found = list(batches(sources, refused, size=4, threads=threads))
    assert [batch.keys for batch in found] == [[0, 1, 2, 4], [5, 6, 8, 9], [10, 12, 13, 14], [16, 17, 18, 20], [21, 22]]
    assert [picture.rgb.width - 5 for batch in found for picture in batch.pictures] == [
        k for b in found for k in b.keys
    ]
    assert told == [3, 7, 11, 15, 19]
    with pytest.raises(ImageError):
        list(batches(sources, threads=threads))


def test_several_threads_decode_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[batches.__module__]  # its name in the package is the function's
    meet, real = threading.Barrier(2, timeout=60), module.decode

    def decode(source: bytes, **more: Any) -> Picture:
        if source[-1:] == b"!":
            meet.wait()  # until another one is here
        return real(source, **more)

    monkeypatch.setattr(module, "decode", decode)
    sources = [(0, png()), (1, png() + b"!"), (2, png() + b"!")]
    assert [batch.keys for batch in batches(sources, threads=2)] == [[0, 1, 2]]


def test_threads_keep_no_more_large_pictures_than_a_batch_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_PIXELS", 250)
    read: list[int] = []

    def sources() -> Iterator[tuple[int, bytes]]:
        for number in range(9):
            read.append(number)
            yield number, png(10)  # two together are under the bound

    before = [len(read) - batch.done for batch in batches(sources(), size=1, threads=4)]
    assert max(before) == 1 and len(before) == 9


@pytest.mark.parametrize(("threads", "decoding"), [(1, 1), (2, 1), (3, 1), (8, 4), (64, 8)])
def test_as_many_threads_decode_as_are_of_use(threads: int, decoding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert decoding_threads() == decoding


def test_leaving_the_loop_and_an_error_end_the_threads() -> None:
    running = batches(((number, png()) for number in range(50)), size=2, threads=3)
    next(running)
    assert decoders()
    running.close()
    assert not decoders()
    with pytest.raises(ImageError) as held:  # its traceback holds the frames
        list(batches(((number, png() if number < 9 else b"no picture") for number in range(50)), threads=3))
    assert held.value and not decoders()


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_next_item_is_made_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    running = ahead(items())
    assert next(running) == 0
    assert begun[1].wait(timeout=60), "made beside the first one's use"
    assert list(running) == [1, 2]
    assert list(ahead([])) == []


def test_errors_come_in_their_place_and_a_loop_that_ends_waits() -> None:
    sources = [("a", png()), ("b", png()), ("c", b"no picture")]
    running = ahead(batches(sources, size=1))
    assert [next(running).keys, next(running).keys] == [["a"], ["b"]]
    with pytest.raises(ImageError):
        next(running)
    before = threading.active_count()
    left = ahead(batches(sources, size=1))
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_pixels_decoded_ahead_are_counted_for_the_caller() -> None:
    budget = Budget(1000)
    with counted(budget):
        assert sum(len(batch.keys) for batch in ahead(batches(((n, png()) for n in range(3)), size=1))) == 3
    assert budget.left == 700
