"""Saved checkpoints load again, a failed save changes nothing, and the embedded models open by their names."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.checkpoints import CONFIG, assert_equal, backbone, head
from vitmsn import checkpoint
from vitmsn.config import VARIANTS
from vitmsn.errors import CheckpointError
from vitmsn.model import ViTMSNModel


def test_everything_saved_comes_back(tmp_path: Path) -> None:
    tensors = backbone() | {"embeddings.mask_token": torch.randn(1, 1, 64)}
    config = CONFIG.with_labels(id2label={0: "Kätzchen", 1: "<b>"})
    linear = {"weight": torch.randn(2, 64), "bias": torch.randn(2)}
    card = {"not_sure_below": 0.25, "kinds": {"cat": ["Kätzchen"]}}
    mean, msn = torch.randn(64), head()
    checkpoint.save(
        tmp_path / "a" / "b",
        config,
        tensors,
        classifier=linear,
        msn_head=msn,
        feature_mean=mean,
        processor={"size": {"height": 12, "width": 12}},
        card=card,
        temperature=0.07,
        sharpening=0.5,
    )
    loaded = checkpoint.load(str(tmp_path / "a" / "b"))
    assert loaded.config == config
    assert_equal(loaded.tensors, tensors)
    assert_equal(loaded.classifier, linear)
    assert_equal(loaded.msn_head, msn)
    assert loaded.feature_mean is not None and torch.equal(loaded.feature_mean, mean)
    assert loaded.processor == {"size": {"height": 12, "width": 12}} == checkpoint.read_processor(tmp_path / "a" / "b")
    assert loaded.card == card
    assert (loaded.temperature, loaded.sharpening) == (0.07, 0.5)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a" / "b").iterdir()}
    assert modes == {0o666 & ~umask()}


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_written_keys_are_those_of_transformers_4(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "backbone", CONFIG, backbone())
    linear = {"weight": torch.randn(2, 64), "bias": torch.randn(2)}
    checkpoint.save(tmp_path / "classifier", CONFIG, backbone(), classifier=linear)
    plain, prefixed = (load_file(tmp_path / kind / "model.safetensors") for kind in ("backbone", "classifier"))
    assert "encoder.layer.1.attention.attention.query.weight" in plain
    assert set(prefixed) == {f"vit.{key}" for key in plain} | {"classifier.weight", "classifier.bias"}
    described = json.loads((tmp_path / "classifier" / "config.json").read_text())
    assert described["architectures"] == ["ViTMSNForImageClassification"]
    assert described["model_type"] == "vit_msn"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_halves_the_file(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors, msn = backbone(), head()
    msn["projector.bn1.running_var"].fill_(1e6)  # more than float16 holds
    checkpoint.save(tmp_path / "full", CONFIG, tensors)
    checkpoint.save(tmp_path / "half", CONFIG, tensors, msn_head=msn, dtype=dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert 0.5 <= sizes[1] / sizes[0] < 0.55
    loaded = checkpoint.load(tmp_path / "half")
    assert_equal(loaded.tensors, {key: tensor.to(dtype).float() for key, tensor in tensors.items()})
    assert torch.equal(loaded.msn_head["projector.bn1.running_var"], msn["projector.bn1.running_var"])
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_saving_again_leaves_no_head_of_an_earlier_model(tmp_path: Path) -> None:
    checkpoint.save(
        tmp_path,
        CONFIG,
        backbone(),
        msn_head=head(),
        feature_mean=torch.zeros(64),
        card={"a": 1},
        processor={"size": 1},
    )
    (tmp_path / "README.md").write_text("mine")
    checkpoint.save(tmp_path, CONFIG, backbone())
    loaded = checkpoint.load(tmp_path)
    assert loaded.msn_head == loaded.card == {} and loaded.feature_mean is None
    assert loaded.processor == {"size": 1}
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_failed_save_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpoint.save(folder, CONFIG, backbone())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layernorm.bias": None}, "lacks layernorm.bias"),
        ({"pooler.weight": torch.zeros(1)}, "unknown pooler.weight"),
        ({"layernorm.bias": torch.zeros(65)}, r"layernorm.bias of shape \(65,\)"),
        ({"layernorm.bias": torch.full((64,), torch.nan)}, "layernorm.bias is not finite"),
        ({"layernorm.bias": torch.full((64,), 1e6)}, "layernorm.bias is not finite as torch.float16"),
    ],
)
def test_save_refuses_what_load_would_refuse(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in (backbone() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        checkpoint.save(tmp_path / "model", CONFIG, tensors, dtype=torch.float16)
    assert not list(tmp_path.glob("*/*"))


def test_embedded_models_open_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (checkpoint.EMBEDDED, checkpoint.MSN_ONLY):
        loaded = checkpoint.load(name)
        assert loaded.msn_head and loaded.source == name
        assert bool(loaded.classifier) == (name == checkpoint.EMBEDDED)  # no labels, no classifier
        assert checkpoint.read_processor(name) == checkpoint.read_processor(checkpoint.embedded(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / checkpoint.EMBEDDED).mkdir()  # what is here comes first
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        checkpoint.load(checkpoint.EMBEDDED)


def test_a_missing_embedded_model_is_named() -> None:
    with pytest.raises(CheckpointError, match="embedded model 'no-such-model' is not installed"):
        checkpoint.embedded("no-such-model")


def test_shapes_of_the_published_variants_are_those_of_the_network() -> None:
    for name, config in VARIANTS.items():
        with torch.device("meta"):
            network = ViTMSNModel(config, use_mask_token=True)
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        assert shapes == config.shapes(mask_token=True), name
