"""What `main` makes of a command: its exit code, and one line on stderr for whatever goes wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from vitmsn import cli
from vitmsn.cli import classify

Capture = pytest.CaptureFixture[str]


def test_the_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "vitmsn"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "the following arguments are required: COMMAND" in done.stderr


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
