"""fewshot, as a person would run them, on a small model and pictures made here."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vitmsn import checkpoint, cli, fewshot
from vitmsn.cli import parser
from vitmsn.config import ViTMSNConfig
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel

RED = 200, 40, 40
Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Picture = Callable[..., Image.Image]
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("method", ["auto", "knn", "logistic"])
def test_fewshot(run: Run, model: str, pictures: Path, tmp_path: Path, method: str, picture: Picture) -> None:
    bundle = tmp_path / "b" / "classes.zip"
    told = run.json("fewshot", "train", pictures, "--model", model, "--method", method, "--k", 3, "--out", bundle)
    assert told["classes"] == [
        {"label": name, "examples": 5, "different": 5, "accuracy": 1.0} for name in ("blue", "red")
    ]
    assert told["leave_one_out"]["right"] == told["leave_one_out"]["total"] == 10
    query = tmp_path / "query.png"
    picture(RED, 77).save(query)
    found = run.json("fewshot", "predict", bundle, query, "--model", model, "--caution", 0)
    [answer] = found["predictions"]
    assert found["classes"] == told["classes"] and found["method"] == told["method"]
    assert answer["label"] in ("red", None) and 0.5 < answer["probability"] <= 1
    assert [one["label"] for one in answer["neighbors"]] == ["red"] * 3
    shown = run("fewshot", "predict", bundle, query, "--model", model, "--out", tmp_path / "a.csv")
    assert "query.png" in shown and "most similar example" in (tmp_path / "a.csv").read_text()


def test_fewshot_as_a_checkpoint(run: Run, model: str, pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    folder, bundle = tmp_path / "model", tmp_path / "b.zip"
    words = ("fewshot", "train", pictures, "--model", model, "--out", bundle, "--method")
    told = run.json(*words, "ridge", "--checkpoint", folder)
    assert told["method"] == "ridge" and "finds the same closest class" in told["said"][-1]
    assert any("of each class" in line for line in told["said"])
    files = sorted(pictures.rglob("*.png"))
    named = run.json("classify", *files, "--model", folder)["pictures"]
    predicted = run.json("fewshot", "predict", bundle, *files, "--model", model, "--caution", 0)["predictions"]
    assert [one["labels"][0]["label"] for one in named] == [one["closest"] for one in predicted]
    assert cli.main([str(word) for word in (*words, "knn", "--checkpoint", tmp_path / "no")]) == 2
    assert "cannot be a checkpoint" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_every_classifier_of_the_library_is_an_option() -> None:
    assert parser.FEWSHOT == fewshot.METHODS


def test_fewshot_from_a_zip_and_none_of_these(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    archive = tmp_path / "examples.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in pictures.rglob("*.png"):
            file.write(path, path.relative_to(pictures))
    told = run("fewshot", "train", archive, "--model", model, "--out", tmp_path / "b.zip")
    assert "10 of 10 right (100 %). On new pictures expect" in told
    Image.new("RGB", (20, 20), (20, 255, 20)).save(tmp_path / "green.png")
    words = ("fewshot", "predict", tmp_path / "b.zip", tmp_path / "green.png", "--model", model)
    assert run.json(*words)["predictions"][0]["label"] is None
    assert "none of these" in run(*words)


def test_a_bundle_of_another_model(
    run: Run, capsys: Capture, model: str, pictures: Path, tmp_path: Path, small: ViTMSNConfig
) -> None:
    other, bundle = tmp_path / "other", tmp_path / "b.zip"
    torch.manual_seed(7)
    checkpoint.save(other, small, ViTMSNModel(small).state_dict(), processor=ViTMSNImageProcessor(16).to_dict())
    run("fewshot", "train", pictures, "--model", model, "--out", bundle)
    words = ["fewshot", "predict", str(bundle), str(pictures / "blue"), "--model", str(other)]
    assert cli.main(words) == 2
    assert "was made with" in capsys.readouterr().err
    assert len(run.json(*words, "--re-embed")["predictions"]) == 5
