"""What a request to /classify costs beyond decoding the picture and the forward.

    python -m benchmarks classify_request      half a minute on two cores

The app runs in a process of its own and gradio_client asks it over HTTP: upload, queue, answer. Every picture is new,
so nothing comes from the cache. The same pictures are named by the library in this process, one by one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

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
            for _ in range(PATIENCE * 5):
                time.sleep(0.2)
                try:
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                except OSError:
                    if server.poll() is not None:
                        raise SystemExit("The app did not start.") from None
            yield address
        finally:
            server.terminate()


def rows(quick: bool = False) -> Iterator[Row]:
    client_package = peer("gradio_client")
    rounds = 8 if quick else 40
    encoder = Encoder.from_pretrained(None, "cpu")
    with tempfile.TemporaryDirectory() as place, served() as address:
        files = folder(Path(place), rounds + 3)
        client = client_package.Client(address, verbose=False)
        asked, told = count(), count()

        def request() -> object:
            return client.predict(client_package.handle_file(str(files[next(asked)])), api_name="/classify")

        def library() -> object:
            return encoder.classify(files[next(told)])

        request()
        library()
        times = in_turn({"request": request, "library": library}, rounds, wall=True)
    beyond = times["request"] - times["library"]
    said = (milliseconds(times, name) for name in ("request", "library"))
    claim = "a request to /classify beyond decoding and forward, over 40 ms"
    yield Row(claim, *said, Figure.of(beyond / OVERHEAD), most=1.0)
