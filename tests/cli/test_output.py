"""Tables, progress and output files."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitmsn import cli
from vitmsn.cli import output

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Picture = Callable[..., Image.Image]
Capture = pytest.CaptureFixture[str]


def test_an_unwritable_output_is_an_error(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "answers.json"
    assert cli.main(["classify", str(pictures), "--model", model, "--out", str(out)]) == 2
    assert re.fullmatch(r"vitmsn: .*file.*\n", capsys.readouterr().err)


def test_control_characters_in_names_are_removed(run: Run, model: str, tmp_path: Path, picture: Picture) -> None:
    picture((9, 9, 9), 0).save(tmp_path / "a\x1b[2J.png")
    shown = run("classify", tmp_path, "--model", model)
    assert "\x1b" not in shown and "a\N{REPLACEMENT CHARACTER}[2J.png" in shown


def test_tables_line_up() -> None:
    shown = output.table(("file", "share", "word"), [("a", "9.5 %", "x"), ("long", "10.0 %", "")])
    assert shown == "file   share  word\na      9.5 %  x\nlong  10.0 %"


def test_progress_is_a_line_on_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.Bar, "open", False)  # and so again after the test
    output.Bar("quiet")(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = output.Bar("loud\x07")
    bar(15, 30)
    bar.named("next", 30, 30)
    half, whole = capsys.readouterr().err.split("\r")[1:]
    assert half == f"loud\N{REPLACEMENT CHARACTER} [{'=' * 15}{' ' * 15}] 15/30\033[K"
    assert whole == f"next [{'=' * 30}] 30/30\033[K\n"
    monkeypatch.setattr(bar, "began", time.monotonic() - 100)
    bar(1, 31)
    bar(10, 1000)
    assert [line.rpartition(", ")[2] for line in capsys.readouterr().err.split("\r")[1:]] == [
        "50 min left\033[K",
        "2 h 45 min left\033[K",
    ]


def test_a_line_and_its_end_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the two would put "interrupted" at the end of the line."""
    written: list[str] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "write", written.append)
    monkeypatch.setattr(output.Bar, "open", False)
    output.say("one")
    output.Bar("bar")(1, 2)
    output.say("under it")
    output.Bar("bar")(2, 2)
    assert [line.count("\n") for line in written] == [1, 0, 2, 1]
    assert written[0] == "vitmsn: one\n" and written[2] == "\nvitmsn: under it\n" and written[3].endswith("\n")


def test_names_of_any_bytes_and_letters_in_every_output(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    answer = output.Result({"files": [odd, {"name": "猫 \U0001f408"}], odd: 1}, ("file", "n"), [(odd, 1), ("猫", 2)])
    assert json.loads(output.as_json(answer.data)) == {"files": ["caf\\xe9", {"name": "猫 \U0001f408"}], "caf\\xe9": 1}
    assert "caf\\xe9" in output.table(answer.header, answer.rows)
    output.write_table(answer, str(tmp_path / "t.csv"))
    assert (tmp_path / "t.csv").read_bytes() == "\ufefffile,n\r\ncaf\\xe9,1\r\n猫,2\r\n".encode()
    output.write_table(answer, str(tmp_path / "t.json"))
    assert json.loads((tmp_path / "t.json").read_bytes()) == json.loads(output.as_json(answer.data))
