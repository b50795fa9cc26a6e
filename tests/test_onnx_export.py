"""ONNX files give what torch gives, describe themselves, and are not written where they would not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.support import models
from vitmsn import attention, onnx_export
from vitmsn.encoder import Encoder
from vitmsn.errors import ExportError, FewShotError, InputError, MissingPackageError
from vitmsn.fewshot import CentroidClassifier, FewShotClassifier, KNNClassifier, RidgeClassifier
from vitmsn.fewshot.geometry import softmax

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 20, 24, 3), dtype=np.uint8)
NAMES = ["ant", "bee", "ant", "bee", "cat", "cat", "ant"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    card = {"not_sure_below": 0.4}
    return models.read(models.write(tmp_path_factory.mktemp("models") / "small", models.small(), card=card))


def run(file: Path, pixels: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixel_values": pixels}), strict=True))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_classifier_with_attention(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "exported"
    folder.mkdir(exist_ok=True)
    file = folder / "whole.onnx"
    if not file.exists():
        written = onnx_export.write(file, encoder, attention=True)
        assert written.outputs == ("logits", "embedding", "attention") and written.difference < 1e-4
        assert {path.name for path in folder.iterdir()} == {"whole.onnx", "whole.json"}
    pictures = PICTURES[:count]
    found = run(file, encoder.processor(list(pictures), return_tensors="np")["pixel_values"])
    np.testing.assert_allclose(found["embedding"], encoder.embed(pictures), atol=1e-4)
    np.testing.assert_allclose(softmax(found["logits"]), encoder.scores(encoder.embed(pictures)), atol=1e-4)
    for row, picture in zip(found["attention"], pictures, strict=True):
        expected = attention.cls_attention(encoder.model, encoder.tokens(picture))[0].numpy()
        np.testing.assert_allclose(row, expected, atol=1e-5)
    about = json.loads(file.with_suffix(".json").read_text())
    assert {name: shape[1:] for name, shape in about["outputs"].items()} == {
        name: list(values.shape[1:]) for name, values in found.items()
    }
    assert about["inputs"] == {"pixel_values": ["batch", 3, 16, 16]} and about["grid"] == [4, 4]
    assert about["labels"] == ["ant", "bee", "cat"] and about["sure_from"] == 0.4
    assert about["probabilities"] == "softmax"
    steps = about["preprocessing"]
    assert steps["size"] == {"height": 16, "width": 16} and steps["image_mean"] == list(encoder.processor.image_mean)


def test_a_backbone(tmp_path: Path) -> None:
    encoder = Encoder.random(models.small(), device="cpu")
    written = onnx_export.write(tmp_path / "b.onnx", encoder)
    found = run(written.file, encoder.processor(list(PICTURES), return_tensors="np")["pixel_values"])
    assert list(found) == ["embedding"]
    np.testing.assert_allclose(found["embedding"], encoder.embed(PICTURES), atol=1e-4)
    about = json.loads(written.description.read_text())
    assert about["labels"] == [] and about["probabilities"] is None and about["sure_from"] is None


@pytest.mark.parametrize("head", [RidgeClassifier(), KNNClassifier(n_neighbors=3)], ids=["ridge", "knn"])
def test_a_few_shot_head_gives_its_own_probabilities(encoder: Encoder, tmp_path: Path, head: FewShotClassifier) -> None:
    head.fit(encoder.embed(PICTURES), NAMES)
    written = onnx_export.write(tmp_path / "set.onnx", encoder, head=head, sure_from=0.6)
    queries = np.random.default_rng(5).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    found = run(written.file, encoder.processor(list(queries), return_tensors="np")["pixel_values"])
    np.testing.assert_allclose(softmax(found["logits"]), head.predict_proba(encoder.embed(queries)), atol=1e-3)
    about = json.loads(written.description.read_text())
    assert about["labels"] == ["ant", "bee", "cat"] and about["sure_from"] == 0.6


def test_half_precision_is_half_the_file(encoder: Encoder, tmp_path: Path) -> None:
    wide = Encoder.random(models.small(hidden_size=128, intermediate_size=512), device="cpu")
    whole = onnx_export.write(tmp_path / "whole.onnx", wide)
    half = onnx_export.write(tmp_path / "half.onnx", wide, dtype=torch.float16)
    assert half.bytes < 0.6 * whole.bytes
    pixels = wide.processor(list(PICTURES), return_tensors="np")["pixel_values"]
    found, expected = run(half.file, pixels)["embedding"], run(whole.file, pixels)["embedding"]
    assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    for name in ("no.json", "no"):  # NAME.json is the description's
        with pytest.raises(InputError, match=rf"{name}; its name must end in \.onnx"):
            onnx_export.write(tmp_path / name, encoder)
    with pytest.raises(InputError, match="float32 or float16"):
        onnx_export.write(tmp_path / "no.onnx", encoder, dtype=torch.bfloat16)


def test_a_file_that_gives_other_numbers_is_not_written(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match=r"would give another \w+ than torch for 1 pictures"):
        onnx_export.write(tmp_path / "no.onnx", encoder)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FewShotError, match=r"learned from rows of 2 numbers and .* makes 16"):
        onnx_export.write(tmp_path / "no.onnx", encoder, head=CentroidClassifier().fit([[0, 1], [1, 0]], ["a", "b"]))
    weighted = KNNClassifier().fit(encoder.embed(PICTURES), NAMES, sample_weight=np.arange(1, 8))
    with pytest.raises(FewShotError, match="weighted examples has no ONNX form"):
        onnx_export.write(tmp_path / "no.onnx", encoder, head=weighted)
    with pytest.raises(ExportError, match="cannot be written"):
        onnx_export.write(tmp_path / "nowhere" / "no.onnx", encoder)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        MissingPackageError, match=r"onnxscript, which is not installed; .*: pip install 'vitmsn\[onnx\]'"
    ):
        onnx_export.write(tmp_path / "no.onnx", encoder)
    assert list(tmp_path.iterdir()) == []
