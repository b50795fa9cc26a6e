"""SIGTERM in every state of the server: exit 0 within seconds, nothing left behind."""

from __future__ import annotations

import base64
import io
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.support import hub as loopback
from tests.support import models
from tests.support.app import PATIENCE, Served, server_in, until
from tests.support.visitor import Visitor, classes, png
from vitmsn import bundle, gallery
from vitmsn.archive import read_zip
from vitmsn.encoder import Encoder
from vitmsn.ui.shared.live_camera import START

# The most that an end takes, on two busy cores too: a batch of the warm-up or of a job, ENDING_SECONDS for what still
# answers, and the interpreter's own end.
SECONDS = 10.0
SMALL = "facebook/vit-msn-small"
Message = dict[str, Any]
Job = Callable[[Visitor], Iterator[Message]]


def endpoint(name: str, file: Callable[[], bytes], *more: Any) -> Job:
    def job(visitor: Visitor) -> Iterator[Message]:
        return visitor.messages(visitor.endpoint(name), [visitor.upload(file(), f"{name}.bin"), *more])

    return job


def click(label: str, tab: str) -> Job:
    def job(visitor: Visitor) -> Iterator[Message]:
        visitor.open(tab)
        fn = visitor.handler(label)
        return visitor.messages(fn, visitor.values(fn))

    return job


def saved_set(visitor: Visitor) -> Iterator[Message]:
    encoder = Encoder.random(device="cpu")  # another model than the page's, so all is embedded again
    kept = gallery.Gallery(encoder)
    kept.extend(read_zip(classes(["left", "right"], 150, side=256)), encoder)
    with tempfile.TemporaryDirectory() as folder:
        data = bundle.save(kept, Path(folder) / "set.zip").read_bytes()
    return endpoint("few_shot", lambda: data, [], "auto", 5)(visitor)


def classifying(visitor: Visitor) -> Iterator[Message]:
    """One after another, so that one runs at any moment."""
    for seed in range(10_000):
        yield from endpoint("classify", partial(png, seed, 1200), 5)(visitor)


def embedding(visitor: Visitor) -> Iterator[Message]:
    sent = [visitor.upload(png(seed, 1200), f"{seed}.png") for seed in range(60)]
    return visitor.messages(visitor.endpoint("embed"), [sent])


def camera(visitor: Visitor) -> Iterator[Message]:
    """One frame after another, as the page sends them."""
    visitor.open("attention")
    fn = visitor.handler("attention-live", "frame")
    for number in range(10_000):
        out = io.BytesIO()
        Image.open(io.BytesIO(png(number, 160))).save(out, "JPEG")
        frame = {"n": number, "frame": START + base64.b64encode(out.getvalue()).decode()}
        yield from visitor.messages(fn, visitor.values(fn), frame)


def starts(message: Message) -> bool:
    return message["msg"] == "process_starts"


def ends(message: Message) -> bool:
    return message["msg"] == "process_completed"


def steps(message: Message) -> bool:
    return message["msg"] == "progress" and message["progress_data"][0]["index"] > 0


def read(message: Message) -> bool:
    """The zip is nearly read: learning, or UMAP, comes next."""
    return steps(message) and message["progress_data"][0]["index"] > 0.9 * message["progress_data"][0]["length"]


JOBS: dict[str, tuple[Job, Callable[[Message], bool]]] = {
    "classify": (classifying, starts),
    "embed": (embedding, steps),
    "deciding patches": (endpoint("mask_search", partial(png, 1), "relevance"), steps),
    "masking curve": (endpoint("mask_curve", partial(png, 1), "random", 16), steps),
    "stream of curves": (
        click("Measure the curves", "masking"),
        lambda message: message["msg"] == "process_generating",
    ),
    "few-shot fit": (endpoint("few_shot", partial(classes, [f"c{n}" for n in range(20)], 10), [], "logistic", 5), read),
    "map": (endpoint("map", partial(classes, ["a", "b"], 60), "umap"), read),
    "saved set": (saved_set, steps),
    "live training": (click("Train it now", "learn"), ends),
    "live camera": (camera, ends),
}


def terminate(app: Served, process: subprocess.Popen[bytes], folder: Path) -> None:
    """SIGTERM; the server has to end as it should. All its files are in `folder`."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(timeout=PATIENCE) == 0, app.said()
    seconds = time.monotonic() - began
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert not psutil.wait_procs(children, timeout=PATIENCE)[1]
    left = [path for path in (folder / "temporary").rglob("*") if path.is_file() or "vitmsn" in path.name]
    assert left == []  # Gradio makes an empty folder of its own
    assert "Traceback" not in app.said() and "terminate called" not in app.said()


@pytest.mark.parametrize("kind", JOBS)
def test_sigterm_during_a_job_ends_the_server_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    job, begun = JOBS[kind]
    with server_in(tmp_path, OMP_NUM_THREADS="1") as (app, process), Visitor(app.url) as visitor:
        messages = job(visitor)
        for message in messages:
            if begun(message):
                break
        else:
            pytest.fail(f"the job ended before SIGTERM: {message}")
        if kind == "live training":
            until(psutil.Process(process.pid).children)
        terminate(app, process, tmp_path)
        messages.close()  # type: ignore[attr-defined]


def test_sigterm_while_the_first_answers_are_made_ready(tmp_path: Path) -> None:
    with server_in(tmp_path) as (app, process):
        terminate(app, process, tmp_path)


def test_sigterm_with_a_page_an_upload_and_two_downloads_open(tmp_path: Path) -> None:
    """Connections that would never end by themselves: a client that sends no more, one that reads no more, a page; and
    a Hub that sends no more of a model."""
    written = models.write(tmp_path / "small", models.small(hidden_size=384, intermediate_size=1536))
    with ExitStack() as open_:
        hub = open_.enter_context(loopback.serve())
        hub.name, hub.stalls = SMALL, 1000
        hub.files = {path.name: path.read_bytes() for path in written.iterdir()}
        known = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
        app, process = open_.enter_context(server_in(tmp_path, **known))
        visitor = open_.enter_context(Visitor(app.url))
        place = ("127.0.0.1", int(app.url.split(":")[2].strip("/")))
        kept = visitor.upload(bytes(30_000_000), "large.bin")["path"]
        page = open_.enter_context(visitor.http.stream("GET", f"gradio_api/heartbeat/{visitor.session}"))
        assert next(page.iter_lines()) == "data: ALIVE"

        reader = open_.enter_context(socket.create_connection(place))
        reader.sendall(f"GET /gradio_api/file={kept} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert reader.recv(15) == b"HTTP/1.1 200 OK"

        sender = open_.enter_context(socket.create_connection(place))
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n"
        part = '--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        head += f"Content-Type: multipart/form-data; boundary=x\r\n\r\n{part}"
        sender.sendall(head.encode() + bytes(200_000))
        until(lambda: sum(path.is_file() for path in (tmp_path / "temporary").rglob("*")) == 2)

        fn = visitor.handler("Model", "input")
        opening = visitor.messages(fn, visitor.values(fn, Model=SMALL))
        assert any("Downloading" in str(message) for message in opening)
        terminate(app, process, tmp_path)
        opening.close()  # type: ignore[attr-defined]
