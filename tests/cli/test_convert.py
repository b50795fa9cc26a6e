"""convert: model folders and ONNX files, as a person would run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from vitmsn import checkpoint, cli
from vitmsn.image import ViTMSNImageProcessor

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Picture = Callable[..., Image.Image]
Capture = pytest.CaptureFixture[str]


def test_convert(run: Run, model: str, tmp_path: Path) -> None:
    target = tmp_path / "half"
    found = run.json("convert", model, target, "--dtype", "float16")
    assert found["parts"] == ["backbone", "classifier", "MSN head", "feature mean"]
    before, after = checkpoint.load(model), checkpoint.load(target)
    assert after.config == before.config and after.processor == before.processor
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor.half().float())
    size = (target / "model.safetensors").stat().st_size
    assert size < 0.7 * (Path(model) / "model.safetensors").stat().st_size
    assert "loads here and in transformers" in run("convert", model, target)


def test_convert_to_onnx_with_a_saved_set(
    run: Run, model: str, pictures: Path, tmp_path: Path, picture: Picture
) -> None:
    bundle, target = tmp_path / "set.zip", tmp_path / "set.onnx"
    run("fewshot", "train", pictures, "--model", model, "--out", bundle)
    found = run.json("convert", model, target, "--set", bundle, "--dtype", "float16", "--attention")
    assert found["outputs"] == ["logits", "embedding", "attention"] and found["labels"] == ["blue", "red"]
    assert found["bytes"] == target.stat().st_size and found["checked_at_batches"] == [1, 2, 5]
    query = tmp_path / "query.png"
    picture((200, 40, 40), 77).save(query)
    [said] = run.json("fewshot", "predict", bundle, query, "--model", model)["predictions"]
    about = json.loads(target.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    pixels = ViTMSNImageProcessor.from_dict(about["preprocessing"])([str(query)], return_tensors="np")["pixel_values"]
    [logits] = session.run(["logits"], {"pixel_values": pixels})
    shares = np.exp(logits[0] - logits[0].max())
    np.testing.assert_allclose(shares / shares.sum(), list(said["probabilities"].values()), atol=0.01)
    assert said["closest"] == about["labels"][int(logits.argmax())] == "red"


def test_what_convert_cannot_do_is_named(run: Run, model: str, tmp_path: Path, capsys: Capture) -> None:
    for words in (("--set", "x.zip"), ("--attention",), ("--re-embed",)):
        assert cli.main(["convert", model, str(tmp_path / "folder"), *words]) == 2
        assert f"{words[0]} is for an ONNX file" in capsys.readouterr().err
    assert cli.main(["convert", model, str(tmp_path / "a.onnx"), "--dtype", "bfloat16"]) == 2
    assert "float32 or float16" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
