"""ZeroGPU, with the real package `spaces` in its ZeroGPU mode; what is missing is the GPU.

`spaces` changes torch and Gradio for good, so each test has a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.app import PATIENCE, ROOT, Served, answers, free_port
from tests.support.zero_gpu import Scheduler, scheduler
from vitmsn.config import VARIANTS
from vitmsn.ui import zero_gpu

# Everything before "# --" is what app.py does; then the worker gets the CPU for its GPU.
SCRIPT = """
import json, sys, threading
import vitmsn.ui.zero_gpu as zero_gpu
import gradio as gr
import numpy as np
import torch
from spaces.zero import startup
from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.ui.models import MSN_ONLY, RANDOM, Models

models = Models()
encoder = models.start()
zero_gpu.keep_resident(encoder)
resident = next(iter(zero_gpu._resident.values()))
found = {"active": zero_gpu.ACTIVE, "device": str(encoder.device), "resident": str(next(resident.parameters()).device)}
startup()  # what `launch` calls: weights on the GPU go to disk
# -- now as a visitor's request, in a thread of its own
import spaces.zero.torch
spaces.zero.torch.init = lambda uuid: None
spaces.zero.torch.move = lambda callback=None: None
zero_gpu.DEVICE = "cpu"
zero_gpu._resident.clear()
pictures = [np.full((64, 64, 3), 60 * n, np.uint8) for n in range(4)]

def visit():
    for key in (models.default, MSN_ONLY, RANDOM):
        open = models.get(key)
        limits.ZERO_GPU_GFLOPS = 10**9
        here = Encoder.embed(open, pictures)
        tokens = open.tokens(pictures[3])
        open._encodings.clear()
        limits.ZERO_GPU_GFLOPS = 0.001
        keep = np.arange(30)
        borrowed, hidden = open.embed(pictures), open.tokens(pictures[3])
        masked = open.embed(pictures, keep_indices=keep)
        limits.ZERO_GPU_GFLOPS = 10**9
        found[key] = {
            "same": bool(np.allclose(here, borrowed, atol=1e-4)),
            "layers": all(torch.allclose(a, b, atol=1e-3) for a, b in zip(tokens.hidden_states, hidden.hidden_states)),
            "masked": list(masked.shape),
        }

thread = threading.Thread(target=visit)
thread.start()
thread.join()
print(json.dumps(found))
"""


@pytest.fixture
def zero() -> Iterator[Scheduler]:
    with scheduler() as running:
        yield running


def test_large_forwards_run_in_the_process_that_borrows_the_gpu(zero: Scheduler, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=zero.environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("active") is True
    assert found.pop("device") == "cpu" and found.pop("resident").startswith("cuda")
    assert found.keys() == {"vit-msn-tiny-8-64", "vit-msn-tiny-8-64-msn-only", "random"}
    for key, one in found.items():
        assert one == {"same": True, "layers": True, "masked": [4, 192]}, key
    assert zero.paths().count("/startup-report") == 1
    assert zero.paths().count("/schedule") == 9 == zero.paths().count("/release")
    assert "/allow" in zero.paths()
    assert {asked["durationSeconds"] for path, asked in zero.asked if path == "/schedule"} == {"6"}


def test_a_space_serves_the_page_and_says_when_no_gpu_can_be_borrowed(zero: Scheduler, tmp_path: Path) -> None:
    app = Served(f"http://127.0.0.1:{free_port()}/", tmp_path / "app.log")
    environment = {
        **zero.environment(tmp_path),
        "GRADIO_SERVER_PORT": app.url.split(":")[2].strip("/"),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "SYSTEM": "spaces",
        "SPACE_ID": "somebody/vitmsn",
        "SPACE_HOST": "somebody-vitmsn.hf.space",
        "VITMSN_ZERO_GPU_GFLOPS": "1",  # two pictures are more
        "PYTHONUNBUFFERED": "1",
    }
    with app.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(app.url):
            assert process.poll() is None and time.monotonic() < deadline, app.said()
            time.sleep(0.2)
        for wrong in ("demo not found", "CUDA", "Invalid file descriptor", "Traceback"):
            assert wrong not in app.said()
        assert zero.paths() == ["/startup-report"]
        files = []
        for number in range(3):
            Image.new("RGB", (64, 64), (0, 80 * number, 0)).save(tmp_path / f"{number}.png")
            files.append(handle_file(tmp_path / f"{number}.png"))
        client = Client(app.url, verbose=False)
        client.predict(files[0], api_name="/classify")  # a small call stays on the CPU
        assert zero.paths() == ["/startup-report"]
        zero.full = True
        with pytest.raises(AppError, match="needs a GPU for this, and none could be borrowed now"):
            client.predict(files, api_name="/embed")
        zero.full = False
        with pytest.raises(AppError, match="needs a GPU for this"):  # the worker finds no CUDA on this machine
            client.predict(files, api_name="/embed")
        assert zero.paths()[1:] == ["/schedule", "/schedule", "/allow", "/release"]
        client.predict(files[0], api_name="/classify")
        client.close()
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def test_work_is_counted_and_paid_in_short_durations() -> None:
    assert zero_gpu.seconds(1) == 6
    assert zero_gpu.seconds(64 * VARIANTS["large-7"].gigaflops()) < 20
    assert not zero_gpu.ACTIVE  # here, where no Space runs
