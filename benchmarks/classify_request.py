"""What a request to /classify costs beyond decoding the picture and the forward.

    python -m benchmarks classify_request      half a minute on two cores

The app runs in a process of its own and is asked over HTTP by one connection, which stays open: upload, queue, answer.
Every picture is new, so nothing comes from the cache. The same pictures are named by the library in this process, one
by one. gradio_client is timed too: it opens new connections for every request, and prepares TLS for each of them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks import Figure, Row, in_turn, milliseconds, peer
from benchmarks.jpeg_folder import folder
from vitmsn.encoder import Encoder

OVERHEAD = 0.040  # seconds
PATIENCE = 120  # seconds until the page must be there


@contextmanager
def served() -> Iterator[str]:
    """The address of the app in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "vitmsn", "serve", "--port", str(port)]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as server:
        try:
            for _ in range(PATIENCE * 50):
                time.sleep(0.02)
                try:
                    with urllib.request.urlopen(address, timeout=5) as page:
                        page.read()
                    break
                except OSError:
                    if server.poll() is not None:
                        raise SystemExit("The app did not start.") from None
            yield address
        finally:
            server.terminate()


def ask(http: httpx.Client, file: Path) -> str:
    """The last event of a job: its answer."""
    path = http.post("upload", files={"files": (file.name, file.read_bytes(), "image/jpeg")}).json()[0]
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    job = http.post("call/classify", json={"data": [picture, 5]}).raise_for_status().json()["event_id"]
    *_, name, told = filter(None, http.get(f"call/classify/{job}").text.splitlines())
    if name != "event: complete":
        raise SystemExit(f"/classify answered {name} {told}")
    return told


def rows(quick: bool = False) -> Iterator[Row]:
    client_package = peer("gradio_client")
    rounds = 8 if quick else 40
    encoder = Encoder.from_pretrained(None, "cpu")
    with tempfile.TemporaryDirectory() as place, served() as address:
        files = folder(Path(place), 2 * (rounds + 1))
        client = client_package.Client(address, verbose=False)
        by_http, by_client, by_library = iter(files[::2]), iter(files[1::2]), iter(files)
        with httpx.Client(base_url=f"{address}/gradio_api/", timeout=PATIENCE) as http:
            calls: dict[str, Callable[[], object]] = {
                "http": lambda: ask(http, next(by_http)),
                "client": lambda: client.predict(
                    client_package.handle_file(str(next(by_client))), api_name="/classify"
                ),
                "library": lambda: encoder.classify(next(by_library)),
            }
            times = in_turn(calls, rounds, wall=True)
    for name, what, most in (("http", "over HTTP", 1.0), ("client", "by gradio_client", None)):
        beyond = times[name] - times["library"]
        said = (milliseconds(times, each) for each in (name, "library"))
        yield Row(
            f"/classify {what} beyond decoding and forward, over 40 ms", *said, Figure.of(beyond / OVERHEAD), most=most
        )
