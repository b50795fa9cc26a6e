"""Uploads in a real server: on a full disk, cut off, refused, and what is left of them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio import routes

from tests.support.app import PATIENCE, free_port, until
from vitmsn import limits
from vitmsn.ui import guard, uploads
from vitmsn.ui.blocks import Page
from vitmsn.ui.server import launch
from vitmsn.ui.shared.photo import Files, UploadButton

REAL = uploads.NamedTemporaryFile


@dataclass
class Place:
    url: str
    folder: Path
    page: Page

    def upload(self, *sent: bytes, field: str = "files") -> httpx.Response:
        parts = [(field, (f"{number}.bin", data)) for number, data in enumerate(sent)]
        return httpx.post(f"{self.url}gradio_api/upload?upload_id=abc", files=parts, timeout=PATIENCE)

    def left(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    with guard.private_temp_folder() as folder:
        with Page(analytics_enabled=False) as page:
            some, one, said = Files(file_count="multiple"), UploadButton(), gr.JSON()
            gr.Button().click(lambda paths, path: [*paths, path], [some, one], said, api_name="paths")
        url = launch(page, port=free_port())
        try:
            yield Place(url, folder, page)
        finally:
            page.close(verbose=False)


class Full:
    """A file on a disk that is full after 100,000 bytes."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._file, self._room = REAL(*args, **more), 100_000
        self.name = self._file.name

    def write(self, data: bytes) -> int:
        if len(data) > self._room:
            self._file.write(data[: self._room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= len(data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_is_said_and_leaves_no_partial_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "NamedTemporaryFile", Full)
    refused = place.upload(b"a" * 50_000, b"b" * 500_000)
    assert refused.status_code == 507 and refused.headers["retry-after"]
    assert refused.json()["detail"] == "There is no room for more uploads now; try again in some minutes."
    assert place.left() == []
    assert place.upload(b"small").status_code == 200  # the next one that fits
    monkeypatch.undo()


def test_an_upload_that_is_cut_off_leaves_nothing(place: Place) -> None:
    port = int(place.url.split(":")[2].strip("/"))
    with socket.create_connection(("127.0.0.1", port)) as client:
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n' + b"a" * 200_000
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        )
        client.sendall(head.encode() + b"Content-Length: 900000\r\n\r\n" + part)
        until(lambda: place.left())
    until(lambda: not place.left())
    assert not uploads._asked  # nor is room kept for it


def test_parts_that_nobody_asked_for_leave_nothing(place: Place) -> None:
    place.upload(b"a" * 1000, field="other")
    until(lambda: not place.left())


def test_uploads_of_unknown_length_need_room_for_the_largest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UPLOADS_BYTES", limits.MAX_UPLOAD_BYTES - 1)
    url, head = f"{place.url}gradio_api/upload", {"Content-Type": "multipart/form-data; boundary=x"}
    assert httpx.post(url, content=iter([b"--x--\r\n"]), headers=head, timeout=PATIENCE).status_code == 507
    assert place.upload(b"small").status_code == 200


def test_using_files_makes_no_others(place: Place) -> None:
    paths = place.upload(b"one", b"two").json()
    before = sorted(place.left())
    sent = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    posted = httpx.post(f"{place.url}gradio_api/call/paths", json={"data": [sent, sent[0]]}, timeout=PATIENCE).json()
    said = httpx.get(f"{place.url}gradio_api/call/paths/{posted['event_id']}", timeout=PATIENCE).text
    assert "complete" in said and all(path in said for path in paths)
    assert sorted(place.left()) == before


def test_what_gradio_remembers_of_uploads_is_dropped(place: Place) -> None:
    paths = place.upload(b"one", b"two").json()
    assert set(paths) <= place.page.upload_file_set and routes.file_upload_statuses._statuses
    os.unlink(paths[0])
    uploads.forget(place.page)
    assert place.page.upload_file_set & set(paths) == {paths[1]}
    assert not routes.file_upload_statuses._statuses and not routes.file_upload_statuses._signals
