"""ZeroGPU's scheduler as the package `spaces` calls it, on this machine and without a GPU."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

# A Space has torch built for CUDA; `spaces` looks for these, and a build for the CPU does not have them.
CUDA_BUILD = """
import torch

def _cuda_init():
    raise RuntimeError("No CUDA GPUs are available")

if torch.version.cuda is None:
    torch.version.cuda, torch._C._cuda_init, torch.cuda._is_in_bad_fork = "12.8", _cuda_init, bool
"""


class Scheduler:
    """What was asked: (path, parameters), in order.

    Attributes:
        full: whether the next request for a GPU is refused, as when none is free.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.full = False
        self.url = ""

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to believe that it is on a ZeroGPU Space."""
        (home / "cgroup").write_text("0::/space\n", encoding="utf-8")
        (home / "sitecustomize.py").write_text(CUDA_BUILD, encoding="utf-8")
        return {
            **os.environ,
            "HOME": str(home),
            "PYTHONPATH": str(home),
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": self.url,
            "ZEROGPU_PROC_SELF_CGROUP_PATH": str(home / "cgroup"),
            "OMP_NUM_THREADS": "1",
        }


@contextmanager
def scheduler() -> Iterator[Scheduler]:
    """Serve one; `allow` is what the forked process asks, when it has the GPU."""
    here = Scheduler()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            address = urlsplit(self.path)
            here.asked.append((address.path, {name: value for name, [value] in parse_qs(address.query).items()}))
            given = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}
            wanted = address.path == "/schedule"
            body = json.dumps(given).encode() if wanted and not here.full else b""
            self.send_response(503 if wanted and here.full else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
