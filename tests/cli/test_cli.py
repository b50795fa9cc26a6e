"""What `main` makes of a command: its exit code, and one line on stderr for whatever goes wrong."""

from __future__ import annotations

import argparse
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.app import PATIENCE, ROOT
from vitmsn import cli
from vitmsn.cli import classify

Capture = pytest.CaptureFixture[str]


def test_the_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "vitmsn"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("usage: python -m vitmsn") and "name what is in pictures" in done.stderr


def test_errors_are_one_line_and_exit_2(capsys: Capture) -> None:
    assert cli.main(["classify", "x.png", "--model", "no/such/model"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("vitmsn: 'no/such/model' is no file or folder")
    assert shown.err.count("\n") == 1


def test_ctrl_c_exits_with_130(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(options: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(classify, "classify", stop)
    assert cli.main(["classify", "x.png"]) == 130
    assert capsys.readouterr().err == "vitmsn: interrupted\n"


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "pictures", "--out", "made.npz"],
        ["map", "pictures", "--out", "made.csv"],
        ["pretrain", "digits", "--epochs", "1000", "--log-every", "1", "--out", "made"],
    ],
)
def test_ctrl_c_in_a_terminal_ends_in_one_line_and_leaves_nothing_half_written(
    command: list[str], tmp_path: Path
) -> None:
    for number in range(400):
        path = tmp_path / "pictures" / "some" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((300, 300, 3), number % 250, np.uint8)).save(path)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vitmsn", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    os.close(theirs)
    shown = b""
    try:
        while b"/" not in shown.rpartition(b"]")[2] and b"vitmsn: " not in shown:  # a bar, or a line about a step
            shown += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        try:
            while more := os.read(ours, 1000):
                shown += more
        except OSError:  # the terminal's other end is closed
            pass
        assert process.wait(timeout=PATIENCE) == 130
        assert process.stdout is not None and process.stdout.read() == b""
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        assert process.stdout is not None
        process.stdout.close()
    lines = shown.decode().replace("\r\n", "\n").splitlines()
    assert lines[-1] == "vitmsn: interrupted" and "Traceback" not in shown.decode()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"}
    assert not [name for name in left if name.startswith((".", "made")) or name.endswith((".tmp", ".partial"))]
