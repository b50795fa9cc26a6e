"""mask, as a person would run it: one mask, many draws, curves, and the patches that decide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vitmsn import checkpoint, cli
from vitmsn.encoder import Encoder

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Capture = pytest.CaptureFixture[str]


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


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
    assert found["cross_entropy"] > 0
    assert "similarity" in run("mask", file, "--model", model, *how)


def test_the_similarity_of_a_mask(run: Run, model: str, pictures: Path) -> None:
    file = pictures / "blue" / "0.png"
    [found] = run.json("mask", file, "--model", model, "--paint", "1.1-4.3")["pictures"]
    encoder = Encoder.from_pretrained(model)
    full, masked = encoder.embed(file)[0], encoder.embed(file, keep_indices=[3, 7, 11, 15])[0]
    expected = full @ masked / np.linalg.norm(full) / np.linalg.norm(masked)
    assert found["similarity"] == pytest.approx(expected, abs=1e-3)


def test_mask_gives_the_centered_similarity_and_that_of_other_pictures(
    run: Run, model: str, pictures: Path, tmp_path: Path
) -> None:
    kept, file = tmp_path / "model", pictures / "blue" / "0.png"
    shutil.copytree(model, kept)
    mean = torch.randn(16, generator=torch.Generator().manual_seed(4))
    save_file({"feature_mean": mean}, kept / checkpoint.FEATURE_MEAN)
    how = ("mask", file, "--model", kept, "--paint", "1.1-4.3")
    [found] = run.json(*how)["pictures"]
    encoder, around = Encoder.from_pretrained(kept), mean.numpy()
    full, masked = encoder.embed(file)[0], encoder.embed(file, keep_indices=[3, 7, 11, 15])[0]
    one, two = full - around, masked - around
    expected = float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert found["similarity_centered"] == pytest.approx(expected, abs=1e-3)
    assert found["similarity_centered_mean"] == found["similarity_centered_least"] == found["similarity_centered"]
    other = float(full @ around / (full @ full))
    assert found["similarity_others"] == pytest.approx(other, abs=1e-3)
    said = run(*how)
    assert "centered" in said and f"a similarity of about {other:.2f}, and centered on the feature mean about 0" in said
    [curve] = run.json("mask", file, "--model", kept, "--curve", "--draws", 2)["pictures"]
    assert np.shape(curve["similarity_centered"]) == (20, 2)
    assert curve["similarity_others"] == found["similarity_others"]
    (kept / checkpoint.FEATURE_MEAN).unlink()
    [found] = run.json(*how)["pictures"]
    assert found["similarity_centered"] is None and found["similarity_others"] is None
    assert "has no feature mean" in run(*how)
    assert "has no feature mean" in run("mask", file, "--model", kept, "--curve", "--draws", 1)


def test_how_robust_a_picture_is_over_draws(run: Run, model: str, pictures: Path) -> None:
    from vitmsn import robustness

    file = pictures / "blue" / "0.png"
    [found] = run.json("mask", file, "--model", model, "--draws", 4, "--ratio", 0.5)["pictures"]
    assert found["draws"] == 4 and 0 <= found["answer_kept"] <= 1
    assert found["similarity_least"] <= found["similarity_mean"] <= 1
    encoder = Encoder.from_pretrained(model)
    kept = robustness.views(encoder, file, np.array([[0, 1, 2, 3, 8, 9, 10, 11]]))
    assert kept.similarity[0] <= 1  # the library takes paths, as the command does


def test_the_curve(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "curve.png"
    [found] = run.json("mask", file, "--model", model, "--curve", "--draws", 2, "--out", out)["pictures"]
    assert found["mask_ratio"][0] == 0 and found["mask_ratio"][-1] == 0.95 and np.shape(found["similarity"]) == (20, 2)
    assert found["similarity"][0] == pytest.approx([1, 1]) and np.shape(found["cross_entropy"]) == (20, 2)
    assert size_of(out)[0] > 400


@pytest.mark.parametrize("by", [[], ["relevance"]])
def test_search_finds_the_deciding_patches(run: Run, model: str, pictures: Path, tmp_path: Path, by: list[str]) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "keeps.png"
    [found] = run.json("mask", file, "--model", model, "--out", out, "--search", *by)["pictures"]
    assert found["answer"] in ("ant", "bee", "cat") and found["patches"] == 16 and size_of(out) == size_of(file)
    kept = [(row - 1) * 4 + column - 1 for row, column in found["keeps"]]
    assert Encoder.from_pretrained(model).classify(file, keep_indices=kept)[0].labels[0] == found["answer"]
    assert "fewest found" in run("mask", file, "--model", model, "--search")


def test_too_many_draws_are_refused(capsys: Capture, model: str, pictures: Path) -> None:
    assert cli.main(["mask", str(pictures / "blue" / "0.png"), "--model", model, "--draws", "65"]) == 2
    assert "--draws is 65; it must be from 1 to 64" in capsys.readouterr().err
