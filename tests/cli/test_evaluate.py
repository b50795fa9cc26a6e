"""map and lowshot, as a person would run them, on a small model and pictures made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

RED = 200, 40, 40
Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Picture = Callable[..., Image.Image]
Capture = pytest.CaptureFixture[str]


def test_map(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run.json("map", pictures, "--model", model, "--out", tmp_path / "m.png")
    assert len(found["points"]) == 10 and found["points"][0].keys() == {"file", "label", "x", "y"}
    assert {point["label"] for point in found["points"]} == {"blue", "red"}
    with Image.open(tmp_path / "m.png") as drawn:
        assert drawn.width > 100
    shown = run("map", pictures, "--model", model, "--limit", 6, "--out", tmp_path / "m.csv")
    assert shown.splitlines()[0].split() == ["class", "pictures", "x", "y"]
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 7


def test_map_skips_bad_pictures(run: Run, model: str, pictures: Path) -> None:
    (pictures / "blue" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (pictures / "blue" / "notes.txt").write_text("no picture")
    found = run.json("map", pictures, "--model", model)
    assert len(found["points"]) == 10
    assert {one["file"] for one in found["skipped"]} == {"blue/bad.png", "blue/notes.txt"}


def test_lowshot(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    words = ("lowshot", pictures, "--model", model, "--shots", 1, 2, 9, "--held-out", 0.4)
    outs = ("--figure", tmp_path / "curve.png", "--out", tmp_path / "table.csv")
    found = run.json(*words, "--baselines", *outs)
    assert [report["model"] for report in found["reports"]] == [model, "random weights"]
    first = found["reports"][0]
    assert (first["train"], first["test"], first["classes"]) == (6, 4, 2)
    assert {row["features"] for row in first["rows"]} == {"post-layernorm", "raw-pixels"}
    assert {row["protocol"] for row in first["rows"]} == {
        "1 image per class", "2 images per class", "kNN, k = 20", "linear, all labels"
    }  # fmt: skip
    assert first["notes"] == ["left out 9 images per class: blue has 3 pictures"]
    assert all(0 <= row["accuracy"] <= 1 for row in first["rows"])
    with Image.open(tmp_path / "curve.png") as drawn:
        assert drawn.width > 100
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 12
    shown = run(*words)
    assert "6 pictures to train on, 4 to test on" in shown


def test_lowshot_with_a_separate_test_set(run: Run, model: str, pictures: Path) -> None:
    features = ("--features", "pre-layernorm", "raw-pixels")
    found = run.json("lowshot", pictures, "--test", pictures, "--model", model, "--shots", 1, *features)
    [report] = found["reports"]
    assert (report["train"], report["test"]) == (10, 10)
    assert [row["features"] for row in report["rows"]] == 3 * ["pre-layernorm"] + 3 * ["raw-pixels"]
