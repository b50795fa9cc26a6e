"""Long jobs in a real server: a client that goes away frees their place, and they end at their deadline."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import PATIENCE, free_port, until
from tests.support.visitor import Visitor, classes
from tests.support.zips import zipped
from vitmsn import bundle, gallery, image, limits
from vitmsn.archive import read_zip
from vitmsn.encoder import Encoder
from vitmsn.ui import guard
from vitmsn.ui.fair_queue import FairQueue
from vitmsn.ui.models import Models
from vitmsn.ui.page import build
from vitmsn.ui.server import launch

ENTRIES = 24


@dataclass
class Decoding:
    """Takes the place of `decode`: counts, and waits for `go` at each picture, `seconds` at most."""

    count: int = 0
    seconds: float = 0.0
    go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *given: Any, **more: Any) -> Any:
        self.count += 1
        self.go.wait(self.seconds)
        return image.decode(*given, **more)


@dataclass
class Site:
    url: str
    queue: FairQueue


@pytest.fixture
def site(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    with guard.private_temp_folder():
        page = build(models).page
        url = launch(page, port=free_port())
        assert isinstance(page._queue, FairQueue)
        try:
            yield Site(url, page._queue)
        finally:
            page.close(verbose=False)


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> Decoding:
    made = Decoding()
    for name in ("vitmsn.image.batches", "vitmsn.bundle"):
        monkeypatch.setattr(sys.modules[name], "decode", made)
    return made


def saved_set(encoder: Encoder, folder: Path) -> bytes:
    kept = gallery.Gallery(encoder)
    kept.extend(read_zip(classes(["a", "b"], ENTRIES // 2, side=24)), encoder)
    return bundle.save(kept, folder / "set.zip").read_bytes()


READERS = ("map", "few_shot", "saved set")


def job(visitor: Visitor, reader: str, encoder: Encoder, folder: Path) -> tuple[str, list[Any]]:
    """The endpoint and the values of a job that reads ENTRIES pictures."""
    data = saved_set(encoder, folder) if reader == "saved set" else classes(["a", "b"], ENTRIES // 2, side=24)
    file = visitor.upload(data, "pictures.zip")
    return ("map", [file, "pca"]) if reader == "map" else ("few_shot", [file, [], "auto", 5])


@pytest.mark.parametrize("reader", READERS)
def test_a_client_that_leaves_frees_the_place_of_its_job(
    site: Site, reader: str, tiny: Encoder, decoding: Decoding, tmp_path: Path
) -> None:
    with Visitor(site.url) as visitor:
        name, data = job(visitor, reader, tiny, tmp_path)
        decoding.count, decoding.seconds = 0, PATIENCE
        event = visitor.call(name, *data)
        with visitor.stream(name, event):
            until(lambda: decoding.count)
        until(lambda: site.queue.abandoned(event))
        decoding.seconds = 0.0
        decoding.go.set()
        until(lambda: not site.queue.running())
        assert decoding.count <= 2  # the next picture is not decoded any more
        name, data = job(visitor, "map", tiny, tmp_path)
        assert visitor.answer(name, visitor.call(name, *data)).done


@pytest.mark.parametrize("reader", READERS)
def test_reading_ends_at_the_deadline(
    site: Site, reader: str, tiny: Encoder, decoding: Decoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Visitor(site.url) as visitor:
        name, data = job(visitor, reader, tiny, tmp_path)
        decoding.count, decoding.seconds = 0, 0.3
        monkeypatch.setattr(limits, "JOB_SECONDS", 1)
        said = visitor.answer(name, visitor.call(name, *data))
        assert "This took longer than 1 s and was ended; try with fewer pictures." in said.text
        until(lambda: not site.queue.running())
        assert 1 < decoding.count < 6


@pytest.mark.parametrize("reader", [*READERS, "no pictures"])
def test_progress_tells_every_entry(site: Site, reader: str, tiny: Encoder, decoding: Decoding, tmp_path: Path) -> None:
    with Visitor(site.url) as visitor:
        if reader == "no pictures":
            files = {f"a/{number}.png": b"no picture" for number in range(ENTRIES)}
            name, data = "map", [visitor.upload(zipped(files), "a.zip"), "pca"]
        else:
            name, data = job(visitor, reader, tiny, tmp_path)
        decoding.seconds = 0.1  # longer than Gradio waits between two messages
        told = [
            (unit["index"], unit["length"])
            for message in visitor.messages(visitor.endpoint(name), data)
            for unit in message.get("progress_data") or []
        ]
    steps = [index for index, length in told if length == ENTRIES]
    assert len(set(steps)) > ENTRIES // 2 and steps == sorted(steps), told
