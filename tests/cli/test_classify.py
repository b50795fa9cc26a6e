"""classify, embed and serve, as a person would run them, on a small model and pictures made here."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitmsn import cli
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Capture = pytest.CaptureFixture[str]


def test_classify(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run.json("classify", pictures, "--model", model, "--top-k", 2)
    assert found.keys() == {"model", "pictures", "skipped"} and len(found["pictures"]) == 10
    first = found["pictures"][0]
    [expected] = Encoder.from_pretrained(model).classify(first["file"], top_k=2)
    assert first == {"file": first["file"], **expected.to_dict()} and len(first["labels"]) == 2
    assert first["closest"] == expected.labels[0] and first["label"] == expected.label
    assert [entry["label"] for entry in first["labels"]] == expected.labels
    assert first["labels"][0]["probability"] == pytest.approx(expected.probabilities[0], abs=1e-4)
    shown = run("classify", pictures, "--model", model, "--out", tmp_path / "new" / "a.csv")
    assert shown.splitlines()[0].split() == ["file", "answer", "closest", "probability", "next"]
    with (tmp_path / "new" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row["closest"] for row in rows} <= {"ant", "bee", "cat"}


def test_classify_without_a_head_says_so(capsys: Capture, tmp_path: Path, pictures: Path, small: ViTMSNConfig) -> None:
    ViTMSNModel(small).save_pretrained(tmp_path / "bare")
    ViTMSNImageProcessor(16).save_pretrained(tmp_path / "bare")
    assert cli.main(["classify", str(pictures), "--model", str(tmp_path / "bare")]) == 2
    assert "without a trained classifier" in capsys.readouterr().err


def test_embed(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    encoder = Encoder.from_pretrained(model)
    files = sorted(str(path) for path in pictures.rglob("*.png"))
    expected = encoder.embed(files)
    found = run.json("embed", pictures, "--model", model, "--out", tmp_path / "e.npz")
    assert found["files"] == files and found["dim"] == 16
    np.testing.assert_allclose(found["embeddings"], expected, atol=1e-3)
    saved = np.load(tmp_path / "e.npz")
    np.testing.assert_allclose(saved["embeddings"], expected, atol=1e-3)
    assert saved["files"].tolist() == files
    before = run.json("embed", files[0], "--model", model, "--pre-layernorm", "--size", 8)
    np.testing.assert_allclose(before["embeddings"], encoder.embed(files[0], size=8, layernorm=False), atol=1e-3)
    assert run("embed", files[0], "--model", model, "--out", tmp_path / "e.csv").endswith("of 16 numbers\n")
    assert len((tmp_path / "e.csv").read_text().splitlines()[1].split(",")) == 17


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_multi_label_and_regression_models(
    run: Run, model: str, pictures: Path, tmp_path: Path, problem_type: str
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"problem_type": problem_type}))
    file = pictures / "blue" / "0.png"
    [expected] = Encoder.from_pretrained(other).classify(file)
    [found] = run.json("classify", file, "--model", other)["pictures"]
    assert found == {"file": str(file), **expected.to_dict()}
    key = "value" if problem_type == "regression" else "probability"
    assert set(found["labels"][0]) == {"label", key}
    header, row = run("classify", file, "--model", other).splitlines()[:2]
    assert key in header
    shown = f"{expected.probabilities[0]:.4g}" if key == "value" else f"{100 * expected.probabilities[0]:.1f} %"
    assert shown in row
