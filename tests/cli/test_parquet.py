"""embed and classify to Parquet: by one process, again, and by two."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.app import PATIENCE
from vitmsn import cli, parquet
from vitmsn.encoder import Encoder

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
ROOT = Path(__file__).parents[2]


def test_a_folder_to_parquet_and_again(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    (pictures / "blue" / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "vectors.parquet"
    found = run.json("embed", pictures, "--model", model, "--out", out)
    assert (found["pictures"], found["parts"]) == (10, 1) and found["skipped"][0]["file"].endswith("bad.png")
    files, rows = parquet.load(out)
    np.testing.assert_allclose(rows, Encoder.from_pretrained(model).embed(files), atol=1e-4)
    said = run("embed", pictures, "--model", model, "--out", out)
    assert said == f"10 pictures in 1 parts of {out}; 1 files skipped\n"
    named = run.json("classify", pictures, "--model", model, "--out", tmp_path / "named.parquet")
    assert named["pictures"] == 10


def test_several_processes_need_parquet(
    model: str, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["embed", str(pictures), "--model", model]) == 2
    assert "give --out NAME.parquet" in capsys.readouterr().err


def test_two_processes_split_the_work(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    words = ["embed", str(pictures), "--model", model, "--device", "cpu", "--json", "--out", str(shared)]
    script = f"import sys, vitmsn.parquet, vitmsn.cli; vitmsn.parquet.PART = 4; sys.exit(vitmsn.cli.main({words!r}))"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # what `accelerate launch` gives them:
    here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**here, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=PATIENCE) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    answer = json.loads(said[0][0])
    assert (answer["pictures"], answer["parts"]) == (10, 3) and said[1][0] == ""  # one answers for both
    run("embed", pictures, "--model", model, "--out", whole)
    (files, rows), (same, others) = parquet.load(whole), parquet.load(shared)
    assert files == same
    np.testing.assert_allclose(rows, others, atol=1e-5)  # batches of another size
