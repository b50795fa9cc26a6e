"""Pictures and models by name: what is skipped, and what is a mistake."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from vitmsn import cli
from vitmsn import encoder as encoder_module
from vitmsn.config import ViTMSNConfig
from vitmsn.model import ViTMSNModel

LOOKING = ["classify", "embed", "attention", "mask"]
Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Capture = pytest.CaptureFixture[str]


def test_bad_files_are_skipped_and_reported(capsys: Capture, model: str, pictures: Path) -> None:
    (pictures / "blue" / "notes.txt").write_text("no picture")
    (pictures / ".hidden").mkdir()
    (pictures / ".hidden" / "x.png").write_text("never looked at")
    assert cli.main(["embed", str(pictures), str(pictures / "gone.png"), "--model", model, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert len(found["files"]) == 10
    assert [Path(one["file"]).name for one in found["skipped"]] == ["notes.txt", "gone.png"]
    assert "is not there" in found["skipped"][1]["reason"] and shown.err.count("vitmsn: skipped ") == 2


def test_no_usable_input_exits_with_1(run: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for command in LOOKING:
        found = run.json(command, tmp_path / "a.png", "--model", model, code=1)
        assert len(found["skipped"]) == 1


def test_an_empty_folder_is_an_error(capsys: Capture, model: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.main(["classify", str(tmp_path / "empty"), "--model", model]) == 2
    assert "holds no files" in capsys.readouterr().err


def test_random_weights_by_name(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch, small: ViTMSNConfig) -> None:
    monkeypatch.setitem(encoder_module.VARIANTS, "tiny-8-64", small)
    assert run.json("embed", pictures / "blue", "--model", "random")["model"] == "random weights"


def test_library_warnings_are_printed_as_lines(
    capsys: Capture, pictures: Path, tmp_path: Path, small: ViTMSNConfig
) -> None:
    bare = tmp_path / "bare"
    ViTMSNModel(small).save_pretrained(bare)
    (bare / "preprocessor_config.json").unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["embed", str(pictures / "blue" / "0.png"), "--model", str(bare)]) == 0
    assert re.fullmatch(r"vitmsn: .*no preprocessor_config\.json.*\n", capsys.readouterr().err)
