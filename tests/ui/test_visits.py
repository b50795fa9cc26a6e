"""Visits are private, counted in bytes, and deleted; uploads too."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from vitmsn import image, limits
from vitmsn.errors import InputError
from vitmsn.gallery import Example, Gallery
from vitmsn.image import Picture
from vitmsn.ui.models import EMBEDDED, Download
from vitmsn.ui.visits import Call, Stopped, Visit, Visitors, keep_picture


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Heavy:
    nbytes: int = 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def visitors(clock: Clock) -> Visitors:
    return Visitors(EMBEDDED, clock=clock)


def test_each_key_has_its_own_visit(visitors: Visitors, picture: Picture) -> None:
    keep_picture(visitors.of("a"), picture)
    visitors.of("b").state(Heavy).nbytes = 7
    assert visitors.of("a").picture is picture and visitors.of("a").state(Heavy).nbytes == 0
    assert visitors.of("b").state(Heavy) is visitors.of("b").state(Heavy)
    assert visitors.of("b").picture is None
    assert len(visitors) == 2


def test_a_visit_without_a_key_is_not_stored(visitors: Visitors) -> None:
    assert visitors.of(None) is not visitors.of(None)
    assert visitors.of("") is not visitors.of("")
    assert len(visitors) == 0


def test_a_visit_is_deleted_after_its_time(visitors: Visitors, clock: Clock, picture: Picture) -> None:
    visit = visitors.of("a")
    keep_picture(visit, picture)
    clock.now += limits.VISIT_SECONDS - 1
    visitors.sweep()
    assert visitors.of("a") is visit  # this counts as a click: the time starts again
    clock.now += limits.VISIT_SECONDS + 1
    visitors.sweep()
    assert len(visitors) == 0
    assert visit.picture is None and visit.left
    assert visitors.of("a").again and not visitors.of("b").again


def test_the_visit_of_a_closed_page_is_deleted_soon_unless_it_returns(visitors: Visitors, clock: Clock) -> None:
    for key in ("stays", "sleeps"):
        visitors.of(key)
        visitors.leave(key)
    clock.now += limits.LEAVE_SECONDS - 1
    visitors.of("sleeps")
    clock.now += 2
    visitors.sweep()
    assert len(visitors) == 1 and not visitors.of("sleeps").left
    visitors.leave("nobody")
    visitors.leave(None)


def test_too_many_visitors_or_bytes_delete_the_least_recently_seen(
    visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_VISITORS", 3)
    monkeypatch.setattr(limits, "VISITS_BYTES", 100)
    for key in "abcd":
        visitors.of(key).state(Heavy).nbytes = 30
    visitors.of("b")
    visitors.sweep()
    assert visitors.nbytes == 90 and visitors.of("a").again
    visitors.forget("a")
    visitors.of("b").state(Heavy).nbytes = 60
    visitors.sweep()
    assert visitors.nbytes == 90 and visitors.of("c").again  # c was the least recently seen


def test_a_ticket_brings_the_visit_to_the_page_that_shows_it(visitors: Visitors, picture: Picture) -> None:
    first = visitors.of("a")
    keep_picture(first, picture)
    assert len(first.ticket) >= 32 and first.ticket != visitors.of("other").ticket and "ticket" not in repr(first)
    visitors.leave("a")
    again = visitors.resume("b", first.ticket)
    assert again is first and again.picture is picture and again.key == "b" and not again.left
    visitors.leave("a")  # late news of the old page
    assert not again.left
    old = visitors.of("a")  # the old page, if it is still open
    assert old is not first and old.moved and old.picture is None and not old.again
    assert visitors.resume("a", first.ticket) is first  # and takes it back


def test_a_ticket_ends_with_its_visit(visitors: Visitors, clock: Clock, picture: Picture) -> None:
    first = visitors.of("a")
    keep_picture(first, picture)
    clock.now += limits.VISIT_SECONDS + 1
    visitors.sweep()
    fresh = visitors.resume("b", first.ticket)
    assert fresh is not first and fresh.picture is None and first.own is None
    for guess in ("", "a", fresh.ticket[:-1], fresh.ticket + "x"):
        assert visitors.resume("c", guess) is visitors.of("c")


def test_a_page_that_takes_the_visit_stops_the_job_of_the_one_before(
    visitors: Visitors, call: Callable[..., Call]
) -> None:
    job = call()
    job.visit = visitors.of("a")
    job.progress(0, 2)
    visitors.resume("b", job.visit.ticket)
    with pytest.raises(Stopped):
        job.progress(1, 2)


def test_what_the_page_shows_is_kept_apart(visitors: Visitors) -> None:
    visit = visitors.of("a")
    visit.state(list).append(1)
    visit.on_page(list).append(2)
    visit.page.clear()
    assert visit.state(list) == [1] and visit.on_page(list) == []


def test_forget_empties_the_visit_itself(visitors: Visitors, picture: Picture) -> None:
    visit = visitors.of("a")
    keep_picture(visit, picture)
    visit.state(Heavy).nbytes = 1
    visitors.forget("a")
    visitors.forget("a")
    assert visit.picture is None and visit.kept == {} and len(visitors) == 0


def test_a_large_picture_is_reduced_and_counted_but_an_example_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PICTURE_SIDE", 100)
    large = image.decode(Image.new("RGB", (400, 200), "red"), name="large.png")
    visit = Visit("a", EMBEDDED)
    keep_picture(visit, large)
    assert visit.picture is not None and visit.picture.rgb.size == (100, 50) and visit.picture.name == "large.png"
    assert visit.nbytes == 100 * 50 * 3
    keep_picture(visit, large, "cat")
    assert visit.nbytes == 100 * 50 * 3  # their own picture comes back
    visit.own = None
    assert visit.nbytes == 0


# Uploads


def test_read_uploads_are_deleted_soon_and_unread_ones_within_minutes(visitors: Visitors, tmp_path: Path) -> None:
    read, waiting, again = (tmp_path / name / "picture.png" for name in ("read", "waiting", "again"))
    for path in (read, waiting, again):
        path.parent.mkdir()
        path.write_bytes(b"x")
    visitors.read_upload(read)
    visitors.read_upload(again)
    now = time.time()
    visitors.sweep_uploads(tmp_path, now + limits.UPLOAD_SECONDS - 5)
    assert read.exists()
    os.utime(again, (now + 60, now + 60))  # the same bytes were uploaded again and not read yet
    visitors.sweep_uploads(tmp_path, now + limits.UPLOAD_SECONDS + 5)
    assert not read.exists() and waiting.exists() and again.exists()
    visitors.sweep_uploads(tmp_path, now + limits.UNUSED_SECONDS + 120)
    assert not waiting.exists() and not again.exists()


def test_empty_upload_folders_are_deleted(visitors: Visitors, tmp_path: Path) -> None:
    folder = tmp_path / "digest"
    folder.mkdir()
    visitors.sweep_uploads(tmp_path)
    assert folder.exists()  # an upload may be about to be written into it
    visitors.sweep_uploads(tmp_path, time.time() + limits.UPLOAD_SECONDS + 5)
    assert not folder.exists()


# Calls


def test_a_call_without_a_picture_says_what_to_do(call: Callable[..., Call]) -> None:
    with pytest.raises(InputError, match="Drop one here, take a photo, or pick an example"):
        _ = call(picture=None).picture


def test_progress_ends_a_job_when_stopped_left_or_too_long(call: Callable[..., Call]) -> None:
    job = call()
    job.progress(1, 3)
    job.visit.stopped = time.monotonic()
    with pytest.raises(Stopped, match="Stopped"):
        job.progress(2, 3)
    call().progress(1, 3)  # an old press of Stop does not stop a later job of the same visitor
    gone = call()
    gone.visit.left = True
    with pytest.raises(Stopped):
        gone.progress(1, 3)
    late = call()
    late.deadline = time.monotonic() - 1
    with pytest.raises(Stopped, match=f"longer than {limits.JOB_SECONDS} s"):
        late.progress(1, 3)


def test_progress_shows_the_time_left(call: Callable[..., Call]) -> None:
    said: list[str] = []

    class Bar(gr.Progress):
        def __call__(self, progress: object, desc: str | None = None, **_: object) -> None:  # type: ignore[override]
            said.append(str(desc))

    job = call()
    job.bar = Bar()
    job.began = time.monotonic() - 10
    job.progress(5, 15)
    job.progress(0, 0, "Starting.")  # how much there is to do is not known yet
    assert said == ["5 of 15 pictures, about 20 s left", "Starting."]


def test_a_download_shows_bytes_rate_and_time_left(call: Callable[..., Call]) -> None:
    said: list[tuple[object, str]] = []

    class Bar(gr.Progress):
        def __call__(self, progress: object, desc: str | None = None, **_: object) -> None:  # type: ignore[override]
            said.append((progress, str(desc)))

    job = call()
    job.downloads("small", None)
    job.bar = Bar()
    job.downloads("small", None)
    job.downloads("small", Download(0, 88_000_000, 0, 0.0, 0.0))
    job.downloads("small", Download(23_400_000, 88_000_000, 20_000_000, 4_123_456.0, 15.6))
    again = "Downloading small, going on at 20 MB; choose another model to stop. 23 of 88 MB, 4.1 MB/s, about 15 s left"
    assert said == [
        (None, "small is being opened"),
        ((0, 88_000_000), "Downloading small; choose another model to stop. 0 of 88 MB"),
        ((23_400_000, 88_000_000), again),
    ]


def test_event_values_are_read_safely(call: Callable[..., Call]) -> None:
    one = call()
    assert one.chosen("index") is None
    one.event = gr.EventData(None, "text")
    assert one.chosen("index") is None
    one.event = gr.EventData(None, {"index": [3, 4]})
    assert one.chosen("index") == [3, 4] and one.chosen("other") is None


def test_bytes_are_counted_while_a_job_changes_what_is_kept(visitors: Visitors) -> None:
    gallery, done = Gallery(SimpleNamespace(name="model", fingerprint="f")), threading.Event()

    def example(number: int) -> Example:
        pixels = np.zeros(4, np.uint8)
        return Example(f"e{number}", "a", "n", f"{number:064x}", b"face", np.zeros(4, np.float32), pixels)

    gallery.add_class("a")
    gallery.restore(map(example, range(1500)))
    visitors.of("key").kept[Gallery] = gallery

    def change() -> None:
        while not done.is_set():
            gallery._examples["new"] = example(0)
            del gallery._examples["new"]

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(500):
            visitors.sweep()
    finally:
        done.set()
        other.join()
    assert visitors.nbytes == gallery.nbytes > 0
