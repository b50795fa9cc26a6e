"""classify, embed, attention, mask and serve, as a person would run them, on a small model and pictures made here."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitmsn import cli
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Capture = pytest.CaptureFixture[str]


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_classify(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run.json("classify", pictures, "--model", model, "--top-k", 2)
    assert found.keys() == {"model", "pictures", "skipped"} and len(found["pictures"]) == 10
    first = found["pictures"][0]
    assert first.keys() == {"file", "labels", "sure", "kind", "sentence"} and len(first["labels"]) == 2
    [expected] = Encoder.from_pretrained(model).classify(first["file"], top_k=2)
    assert [entry["label"] for entry in first["labels"]] == expected.labels
    assert first["labels"][0]["probability"] == pytest.approx(expected.probabilities[0], abs=1e-4)
    shown = run("classify", pictures, "--model", model, "--out", tmp_path / "new" / "a.csv")
    assert shown.splitlines()[0].split() == ["file", "answer", "probability", "sure", "next"]
    with (tmp_path / "new" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row["answer"] for row in rows} <= {"ant", "bee", "cat"}


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


@pytest.mark.parametrize("kind", ["cls", "patch", "rollout"])
def test_attention(run: Run, model: str, pictures: Path, tmp_path: Path, kind: str) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "map.png"
    where = ["--layer", 1, "--head", 2, "--row", 2, "--column", 3, "--size", 24]
    found = run.json("attention", file, "--model", model, "--kind", kind, *where, "--out", out)
    [first] = found["pictures"]
    assert first.keys() == {"file", "kind", "layer", "head", "grid", "map", "entropy", "out"}
    assert first["grid"] == [6, 6] and np.shape(first["map"]) == (6, 6)
    assert (first["layer"], first["head"]) == ((None, None) if kind == "rollout" else (1, 2))
    assert first["out"] == str(out) and size_of(out)[0] == 24
    if kind == "patch":
        from vitmsn import attention

        encoder = Encoder.from_pretrained(model)
        rows = attention.patch_attention(encoder.model, encoder.tokens(file, size=24), 1 * 6 + 2, 0)
        np.testing.assert_allclose(np.ravel(first["map"]), rows[0, 1], atol=1e-4)
    assert "entropy in nats" in run("attention", file, "--model", model, "--kind", kind)


def test_attention_of_several_makes_a_folder(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run.json("attention", pictures, "--model", model, "--out", tmp_path / "maps")
    outs = [one["out"] for one in found["pictures"]]
    assert len(set(outs)) == 10 and all(Path(out).is_file() for out in outs)
    assert {Path(out).name for out in outs} >= {"0-attention.png", "0-attention-2.png"}  # of two folders


@pytest.mark.parametrize(
    ("option", "value", "word"), [("layer", 3, "0 to 2"), ("head", -1, "0 to 2"), ("row", 5, "1 to 4")]
)
def test_attention_that_is_not_there(
    capsys: Capture, model: str, pictures: Path, option: str, value: int, word: str
) -> None:
    file = str(pictures / "blue" / "0.png")
    assert cli.main(["attention", file, "--model", model, f"--{option}", str(value)]) == 2
    assert f"--{option} is {value}; it must be from {word}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "kept"), [(["--kind", "random", "--ratio", 0.5], 8), (["--kind", "focal"], 4), (["--paint", "1.1-2.4"], 8)]
)
def test_mask(run: Run, model: str, pictures: Path, tmp_path: Path, how: list[object], kept: int) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "masked.png"
    [found] = run.json("mask", file, "--model", model, *how, "--out", out)["pictures"]
    assert (found["kept"], found["total"]) == (kept, 16) and -1 <= found["similarity"] <= 1
    assert found["milliseconds_full"] > 0 and found["milliseconds_masked"] > 0
    assert len(found["top_before"]) == len(found["top_after"]) == 3
    assert size_of(out) == size_of(file)
    assert "similarity" in run("mask", file, "--model", model, *how)


def test_the_similarity_of_a_mask(run: Run, model: str, pictures: Path) -> None:
    file = pictures / "blue" / "0.png"
    [found] = run.json("mask", file, "--model", model, "--paint", "1.1-4.3")["pictures"]
    encoder = Encoder.from_pretrained(model)
    full, masked = encoder.embed(file)[0], encoder.embed(file, keep_indices=[3, 7, 11, 15])[0]
    expected = full @ masked / np.linalg.norm(full) / np.linalg.norm(masked)
    assert found["similarity"] == pytest.approx(expected, abs=1e-3)


def test_serve_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def serve(*given: Any) -> int:
        asked.append(given)
        return 0

    page = types.ModuleType("vitmsn.ui.build")
    page.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vitmsn.ui.build", page)
    assert cli.main(["serve", "--model", "folder", "--host", "0.0.0.0", "--port", "7861"]) == 0
    assert asked == [("folder", "0.0.0.0", 7861)]
