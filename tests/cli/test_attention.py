"""attention, as a person would run it: every kind, all heads, side by side, and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitmsn import cli
from vitmsn.encoder import Encoder

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Capture = pytest.CaptureFixture[str]


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("kind", ["cls", "patch", "rollout", "to", "similar", "relevance", "colors"])
def test_attention(run: Run, model: str, pictures: Path, tmp_path: Path, kind: str) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "map.png"
    where = ["--layer", 1, "--head", 2, "--row", 2, "--column", 3, "--size", 24]
    found = run.json("attention", file, "--model", model, "--kind", kind, *where, "--out", out)
    [first] = found["pictures"]
    assert list(first) == ["file", "kind", "layer", "head", "heads", "grid", "map", "label", "half", "entropy", "out"]
    assert first["grid"] == [6, 6] and np.shape(first["map"])[:2] == (6, 6)
    assert first["layer"] == (None if kind in ("rollout", "relevance") else 1)
    assert first["head"] == (2 if kind in ("cls", "patch", "to") else None)
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
    ("option", "value", "word"), [("layer", 3, "0 to 2"), ("head", -2, "-1 to 2"), ("row", 5, "1 to 4")]
)
def test_attention_refuses_missing_layers_and_heads(
    capsys: Capture, model: str, pictures: Path, option: str, value: int, word: str
) -> None:
    file = str(pictures / "blue" / "0.png")
    assert cli.main(["attention", file, "--model", model, f"--{option}", str(value)]) == 2
    assert f"--{option} is {value}; it must be from {word}" in capsys.readouterr().err


def test_every_head_in_a_table(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    from vitmsn import attention

    file, out = pictures / "blue" / "0.png", tmp_path / "heads.png"
    [found] = run.json("attention", file, "--model", model, "--all", "--out", out)["pictures"]
    encoder = Encoder.from_pretrained(model)
    statistics = attention.head_statistics(encoder.model, encoder.tokens(file))
    assert [(one["layer"], one["head"]) for one in found["heads"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    np.testing.assert_allclose([one["distance"] for one in found["heads"]], statistics.distance.flatten(), atol=1e-3)
    assert {one["suggested"] for one in found["heads"]} == {"focused", "alone", "far", "near"}
    assert size_of(out)[0] > 2 * 4 * 8
    assert "worth a look" in run("attention", file, "--model", model, "--all")


def test_side_by_side_and_against_another_model(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    files, out = [pictures / "blue" / f"{n}.png" for n in (0, 1)], tmp_path / "both.png"
    found = run.json("attention", *files, "--model", model, "--compare", "--out", out)["pictures"]
    assert [one["out"] for one in found] == [str(out)] * 2 and size_of(out)[0] == 2 * 24 + 16
    found = run.json("attention", files[0], "--model", model, "--against", model, "--out", out)["pictures"]
    assert len(found) == 2 and found[0]["map"] == found[1]["map"] and model in found[1]["file"]


def test_numbers_combinations_and_proportions(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "maps.npz"
    run("attention", file, "--model", model, "--heads", "1,2", "--head", -1, "--out", out)
    saved = np.load(out)
    np.testing.assert_allclose(saved["map_0"], saved["heads_0"][1].max(0), atol=1e-6)
    [wide] = run.json("attention", file, "--model", model, "--size", 32, "--proportions")["pictures"]
    assert wide["grid"] == [7, 9], "24 x 20 pixels"
    [explained] = run.json("attention", file, "--model", model, "--kind", "relevance", "--label", "bee")["pictures"]
    assert explained["label"] == "bee" and np.sum(explained["map"]) == pytest.approx(1, abs=1e-3)
    lined = tmp_path / "line.png"
    run("attention", file, "--model", model, "--contour", "--keep", 40, "--palette", "cividis", "--out", lined)
    assert size_of(lined) == size_of(file)
