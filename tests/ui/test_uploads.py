"""Uploads in a real server: on a full disk, cut off, refused, and what is left of them."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio import routes

from tests.support.app import PATIENCE, free_port, until
from vitmsn import limits
from vitmsn.ui import guard, request_body, uploads
from vitmsn.ui.blocks import Page
from vitmsn.ui.fair_queue import LONG, FairQueue
from vitmsn.ui.server import launch, sweep_uploads
from vitmsn.ui.shared.photo import Files, UploadButton
from vitmsn.ui.visits import Visitors

REAL = uploads.NamedTemporaryFile


@dataclass
class Place:
    """A page with the endpoint /paths, and /waits, whose jobs wait for `gate`, one after another."""

    url: str
    folder: Path
    page: Page
    gate: threading.Event
    visitors: Visitors = field(default_factory=lambda: Visitors("model"))

    @property
    def queue(self) -> FairQueue:
        assert isinstance(self.page._queue, FairQueue)
        return self.page._queue

    def upload(self, *sent: bytes, field: str = "files") -> httpx.Response:
        parts = [(field, (f"{number}.bin", data)) for number, data in enumerate(sent)]
        return httpx.post(f"{self.url}gradio_api/upload?upload_id=abc", files=parts, timeout=PATIENCE)

    def left(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def sweep(self) -> None:
        sweep_uploads(self.page, self.visitors, self.folder)

    def ask(self, route: str, paths: list[str], session: str = "session", **more: Any) -> httpx.Response:
        """Ask for a job of /waits that names these files as a program does, or as a page does in one of two ways."""
        *some, one = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
        [fn] = [number for number, fn in self.page.fns.items() if fn.api_name == "waits"]
        bodies: dict[str, tuple[str, dict[str, Any]]] = {
            "call": ("call/waits", {"data": [some, one]}),
            "join": ("queue/join", {"data": [some, one], "fn_index": fn}),
            "event": ("queue/join", {"data": [None, None], "fn_index": fn, "event_data": {"paths": paths}}),
        }
        where, body = bodies[route]
        body = {**body, "session_hash": session, **more}
        return httpx.post(f"{self.url}gradio_api/{where}", json=body, timeout=PATIENCE)

    def answer(self, session: str) -> Any:
        """What came of the job of a session."""
        url = f"{self.url}gradio_api/queue/data?session_hash={session}"
        for line in httpx.get(url, timeout=PATIENCE).text.splitlines():
            message = json.loads(line.removeprefix("data: ") or "{}")
            if message.get("msg") == "process_completed":
                return message["output"]["data"][0] if message["success"] else None
        raise AssertionError("the job has no end")

    def running(self) -> bool:
        return len(self.queue.running()) == 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    gate = threading.Event()

    def waits(event: gr.EventData, paths: list[str] | None, path: str | None) -> dict[str, bool]:
        gate.wait(PATIENCE)
        named = event._data["paths"] if event._data else [*(paths or ()), path]
        if not named[0].endswith(".bin"):
            raise RuntimeError("a fault of the job")
        return {name: os.path.isfile(name) for name in named}

    with guard.private_temp_folder() as folder:
        with Page(analytics_enabled=False) as page:
            some, one, said = Files(file_count="multiple"), UploadButton(), gr.JSON()
            gr.Button().click(lambda paths, path: [*paths, path], [some, one], said, api_name="paths")
            gr.Button().click(waits, [some, one], said, api_name="waits", **LONG)
        url = launch(page, port=free_port())
        try:
            yield Place(url, folder, page, gate)
        finally:
            gate.set()
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


def test_files_of_an_upload_are_counted_as_they_come(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def file(*args: Any, **more: Any) -> Any:
        made.append(REAL(*args, **more))
        return made[-1]

    monkeypatch.setattr(uploads, "NamedTemporaryFile", file)
    monkeypatch.setattr(limits, "MAX_FILES", 20)
    assert place.upload(*[b"small"] * 20).status_code == 200 and len(made) == 20
    refused = place.upload(*[b"small"] * 1200)
    assert refused.status_code == 413 and len(made) == 40
    assert refused.json()["detail"] == "This upload has more than 20 files; send fewer at once."
    assert len(place.left()) == 20  # of the first upload


def test_small_files_are_written_without_a_thread_each(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    by: list[str] = []

    def file(*args: Any, **more: Any) -> Any:
        made = REAL(*args, **more)
        write = made.write

        def told(data: bytes) -> int:
            by.append(threading.current_thread().name)
            return int(write(data))

        made.write = told
        return made

    monkeypatch.setattr(uploads, "NamedTemporaryFile", file)
    assert place.upload(b"small", b"short").status_code == 200
    assert not any(name.startswith("AnyIO worker") for name in by) and len(by) == 2
    assert place.upload(b"large" * 100_000).status_code == 200
    assert any(name.startswith("AnyIO worker") for name in by)


@pytest.mark.parametrize(
    ("head", "sentence"),
    [("multipart/form-data; boundary=x", "Only files are uploaded here"), ("multipart/form-data", "not be understood")],
)
def test_an_upload_without_files_gets_a_sentence(place: Place, head: str, sentence: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + b"a" * 3_000_000 + b"\r\n--x--\r\n"
    headers = {"Content-Type": head}
    refused = httpx.post(f"{place.url}gradio_api/upload", content=part, headers=headers, timeout=PATIENCE)
    assert refused.status_code == 422 and sentence in refused.json()["detail"] and place.left() == []


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


def test_names_of_uploads_are_found_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vitmsn-abc"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    odd = {
        "plain": f"{folder}/d/a.png",
        "dots": [f"{folder}/x/.././d//b.png"],
        "twice": {"path": f"{folder}/../vitmsn-abc/d/c.png"},
        "address": {"url": f"http://127.0.0.1/gradio_api/file={folder}/d/e%20f.png".replace("/vit", "/%76it")},
        "others": [None, 3, True, "d/g.png", "/tmp/vitmsn-other/d/h.png", {f"{folder}/d/i.png": 1}],
    }
    assert request_body.named(odd) == {"d/a.png", "d/b.png", "d/c.png", "d/e f.png"}


def test_what_gradio_remembers_of_uploads_is_dropped(place: Place) -> None:
    paths = place.upload(b"one", b"two").json()
    assert set(paths) <= place.page.upload_file_set and routes.file_upload_statuses._statuses
    os.unlink(paths[0])
    until(lambda: not uploads.unfinished())  # the answer comes a moment before its end
    uploads.forget(place.page)
    assert place.page.upload_file_set & set(paths) == {paths[1]}
    assert not routes.file_upload_statuses._statuses and not routes.file_upload_statuses._signals


class TestWhatIsNeededStays:
    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every upload is old as soon as it is there."""
        monkeypatch.setattr(limits, "UNUSED_SECONDS", -1)
        monkeypatch.setattr(limits, "UPLOAD_SECONDS", -1)

    @pytest.mark.parametrize("route", ["call", "join", "event"])
    def test_uploads_stay_until_the_jobs_that_name_them_have_ended(
        self, place: Place, route: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = {
            session: place.upload(*(session.encode() * n for n in (1, 2, 3))).json() for session in ("runs", "waits")
        }
        place.upload(b"nothing names this one")
        for session, paths in kept.items():
            assert place.ask(route, paths, session).status_code == 200
            until(place.running)
        assert len(place.queue.waiting()) == 1
        for path in [path for paths in kept.values() for path in paths]:
            place.visitors.read_upload(Path(path))  # by another job, which has ended
        place.sweep()
        assert {str(path) for path in place.left()} == {path for paths in kept.values() for path in paths}
        monkeypatch.setattr(limits, "MAX_UPLOADS_BYTES", sum(path.stat().st_size for path in place.left()) + 1)
        assert place.upload(b"more").status_code == 507  # they count as before
        place.gate.set()
        for session, paths in kept.items():
            assert place.answer(session) == dict.fromkeys(paths, True)
        until(lambda: not place.queue.uploads())
        place.sweep()
        assert place.left() == []

    def test_a_path_written_in_another_way_names_the_same_file(self, place: Place) -> None:
        paths = [
            f"{place.folder}/../{place.folder.name}/{Path(path).relative_to(place.folder)}"
            for path in place.upload(b"one", b"two").json()
        ]
        assert place.ask("call", paths, "odd").status_code == 200
        until(place.running)
        place.sweep()
        assert len(place.left()) == 2

    @pytest.mark.parametrize("end", ["failed", "refused", "wrong values", "left", "left while waiting", "canceled"])
    def test_no_end_of_a_job_keeps_its_uploads(self, place: Place, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = place.upload(b"one", b"two").json()
        if end == "refused":
            monkeypatch.setattr(limits, "VISITOR_SLOW_JOBS", 0)
            assert place.ask("call", paths).status_code == 429
        elif end == "wrong values":
            files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
            assert place.ask("call", paths, data=[files[0], files]).status_code == 200
        else:
            if end == "left while waiting":
                place.ask("join", place.upload(b"first").json(), "first")
                until(place.running)
            if end == "failed":
                os.rename(paths[0], renamed := f"{paths[0]}.txt")
                paths = [renamed, *paths[1:]]
            posted = place.ask("join", paths, "goes").json()
            until(lambda: place.running() and len(place.queue.uploads()) >= 2)
            if end.startswith("left"):
                with httpx.stream("GET", f"{place.url}gradio_api/queue/data?session_hash=goes", timeout=PATIENCE):
                    pass
            if end == "left":
                until(lambda: place.queue.abandoned(posted["event_id"]))
                place.sweep()
                assert len(place.left()) == 2  # the job has not noticed yet
            if end == "canceled":
                [fn] = [number for number, fn in place.page.fns.items() if fn.api_name == "waits"]
                body = {"session_hash": "goes", "fn_index": fn, **posted}
                threading.Timer(0.2, place.gate.set).start()
                assert httpx.post(f"{place.url}gradio_api/cancel", json=body, timeout=PATIENCE).status_code == 200
            place.gate.set()
        until(lambda: not place.queue.uploads())
        place.sweep()
        assert place.left() == []

    def test_files_of_an_upload_that_still_arrives_stay(self, place: Place) -> None:
        port = int(place.url.split(":")[2].strip("/"))
        head = "Content-Type: multipart/form-data; boundary=x\r\nConnection: close\r\n"
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}.bin"\r\n\r\n{name}\r\n'
            for name in ("one", "two")
        ]
        length = sum(map(len, parts)) + len("--x--\r\n")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n{head}".encode())
            client.sendall(f"Content-Length: {length}\r\n\r\n{parts[0]}--x\r\n".encode())
            until(lambda: [path.stat().st_size for path in place.left()] == [3])
            os.utime(place.left()[0], (0, 0))
            place.sweep()
            came = time.time()
            client.sendall(f"{parts[1].removeprefix('--x')[2:]}--x--\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        paths = json.loads(answer.rpartition(b"\r\n\r\n")[2])
        assert [Path(path).read_text() for path in paths] == ["one", "two"]
        assert all(os.stat(path).st_mtime > came - 1 for path in paths)  # the first is as new as the last
        assert not uploads.unfinished()
