"""SIGTERM while a job of each kind runs: exit 0 within seconds, nothing left behind."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.app import PATIENCE, server_in
from tests.support.visitor import Visitor, classes, png
from vitmsn import bundle, gallery
from vitmsn.archive import read_zip
from vitmsn.encoder import Encoder

SECONDS = 10.0  # the most that an end takes, on a machine that is not busy
BUSY = 3.0  # times as long on one that is
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


def starts(message: Message) -> bool:
    return message["msg"] == "process_starts"


def steps(message: Message) -> bool:
    return message["msg"] == "progress" and message["progress_data"][0]["index"] > 0


def read(message: Message) -> bool:
    """The zip is nearly read: learning, or UMAP, comes next."""
    return steps(message) and message["progress_data"][0]["index"] > 0.9 * message["progress_data"][0]["length"]


JOBS: dict[str, tuple[Job, Callable[[Message], bool]]] = {
    "classify": (classifying, starts),
    "masking curve": (endpoint("mask_curve", partial(png, 1), "random", 16), steps),
    "stream of curves": (
        click("Measure the curves", "masking"),
        lambda message: message["msg"] == "process_generating",
    ),
    "few-shot fit": (endpoint("few_shot", partial(classes, [f"c{n}" for n in range(20)], 10), [], "logistic", 5), read),
    "map": (endpoint("map", partial(classes, ["a", "b"], 60), "umap"), read),
    "saved set": (saved_set, steps),
    "live training": (click("Train it now", "learn"), lambda message: message["msg"] == "process_completed"),
}


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
        own = psutil.Process(process.pid)
        deadline = time.monotonic() + PATIENCE
        while kind == "live training" and not own.children():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = own.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(timeout=PATIENCE) == 0, app.said()
        seconds = time.monotonic() - began
        messages.close()  # type: ignore[attr-defined]
        assert seconds < SECONDS * BUSY, f"{kind}: {seconds:.1f} s"
        assert not psutil.wait_procs(children, timeout=PATIENCE)[1]
        left = [path for path in (tmp_path / "temporary").rglob("*") if path.is_file() or "vitmsn" in path.name]
        assert left == []  # Gradio makes an empty folder of its own
        assert "Traceback" not in app.said() and "terminate called" not in app.said()
