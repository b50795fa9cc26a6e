"""The app in a process of its own, started as a user starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # timeout in seconds that only a hang exceeds, even on a slow, busy machine


@dataclass
class Served:
    """The real app in a process of its own."""

    url: str
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def serving(log: Path, *options: str) -> Iterator[Served]:
    """`python app.py` as a user starts it, with these options, on a free port, ready."""
    app = Served(f"http://127.0.0.1:{free_port()}/", log)
    environment = {**os.environ, "GRADIO_SERVER_PORT": app.url.split(":")[2].strip("/"), "PYTHONUNBUFFERED": "1"}
    with app.log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py", *options], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(app.url):
            assert process.poll() is None, f"app.py ended with {process.returncode}:\n{app.said()}"
            assert time.monotonic() < deadline, f"app.py does not answer at {app.url}:\n{app.said()}"
            time.sleep(0.1)
        yield app
        assert process.poll() is None, f"app.py ended with {process.returncode}:\n{app.said()}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(true: Callable[[], object]) -> None:
    """Wait until a condition holds, at most `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def server_in(
    folder: Path, port: int | None = None, **environment: str
) -> Iterator[tuple[Served, subprocess.Popen[bytes]]]:
    """The app in a process of its own, ready, with all its files and its log in `folder`; ended with the block."""
    app = Served(f"http://127.0.0.1:{port or free_port()}/", folder / "app.log")
    temporary = folder / "temporary"
    temporary.mkdir()
    own = {
        "GRADIO_SERVER_PORT": app.url.split(":")[2].strip("/"),
        "GRADIO_TEMP_DIR": str(temporary),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
    }
    with app.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **own, **environment}, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(f"{app.url}healthz"):
            assert process.poll() is None, f"app.py ended with {process.returncode}:\n{app.said()}"
            assert time.monotonic() < deadline, f"app.py does not answer at {app.url}:\n{app.said()}"
            time.sleep(0.1)
        yield app, process
    finally:
        process.kill()
        process.wait()
