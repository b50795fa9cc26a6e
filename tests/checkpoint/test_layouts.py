"""Every layout, ending and precision is read: alone, sharded, wrapped, nested, or from the original training code."""

from __future__ import annotations

import argparse
import functools
import json
import os
import zipfile
from collections import Counter, namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.checkpoints import CONFIG, assert_equal, backbone, foreign, meta_file, write_shards
from vitmsn import checkpoint
from vitmsn.checkpoint.layouts import CANONICAL, HUGGING_FACE_4, HUGGING_FACE_5, LAYOUTS, META, Layout
from vitmsn.errors import CheckpointError


@pytest.mark.parametrize(
    ("key", "four", "five", "meta"),
    [
        ("embeddings.cls_token", "=", "=", "cls_token"),
        ("embeddings.mask_token", "=", "=", "="),
        ("embeddings.position_embeddings", "=", "=", "pos_embed"),
        ("embeddings.patch_embeddings.projection.weight", "=", "=", "patch_embed.proj.weight"),
        ("layernorm.bias", "=", "=", "norm.bias"),
        ("layers.3.layernorm_before.weight", "encoder.layer.3.layernorm_before.weight", "=", "blocks.3.norm1.weight"),
        ("layers.3.layernorm_after.bias", "encoder.layer.3.layernorm_after.bias", "=", "blocks.3.norm2.bias"),
        (
            "layers.10.attention.qkv.bias",
            "encoder.layer.10.attention.attention.query.bias encoder.layer.10.attention.attention.key.bias "
            "encoder.layer.10.attention.attention.value.bias",
            "layers.10.attention.q_proj.bias layers.10.attention.k_proj.bias layers.10.attention.v_proj.bias",
            "blocks.10.attn.qkv.bias",
        ),
        (
            "layers.0.attention.output.weight",
            "encoder.layer.0.attention.output.dense.weight",
            "layers.0.attention.o_proj.weight",
            "blocks.0.attn.proj.weight",
        ),
        ("layers.0.mlp.fc1.weight", "encoder.layer.0.intermediate.dense.weight", "=", "blocks.0.mlp.fc1.weight"),
        ("layers.0.mlp.fc2.bias", "encoder.layer.0.output.dense.bias", "=", "blocks.0.mlp.fc2.bias"),
    ],
)
def test_key_tables(key: str, four: str, five: str, meta: str) -> None:
    for layout, names in ((HUGGING_FACE_4, four), (HUGGING_FACE_5, five), (META, meta), (CANONICAL, "=")):
        assert layout.names(key) == tuple((key if names == "=" else names).split())


@pytest.mark.parametrize("ending", [".safetensors", ".bin", ".pt", ".pth", ".pth.tar"])
@pytest.mark.parametrize("prefix", ["", "vit.", "module."])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_single_file_of_any_layout(layout: Layout, prefix: str, ending: str, tmp_path: Path) -> None:
    tensors, path = backbone(), tmp_path / f"weights{ending}"
    (save_file if ending == ".safetensors" else torch.save)(foreign(tensors, layout, prefix), path)
    loaded = checkpoint.load(path)
    assert loaded.config == CONFIG
    assert loaded.source == str(path)
    assert loaded.classifier == loaded.msn_head == loaded.card == {}
    assert loaded.feature_mean is None and loaded.processor is None
    assert_equal(loaded.tensors, tensors)


def test_single_file_uses_the_config_beside_it(tmp_path: Path) -> None:
    config = replace(CONFIG, num_attention_heads=4, layer_norm_eps=1e-3, hidden_act="relu")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "preprocessor_config.json").write_text('{"size": 12}')
    torch.save(foreign(backbone(), HUGGING_FACE_4), tmp_path / "pytorch_model.bin")
    loaded = checkpoint.load(tmp_path / "pytorch_model.bin")
    assert loaded.config == config
    assert loaded.processor == {"size": 12} == checkpoint.read_processor(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_architecture_of_a_single_file_is_inferred_from_shapes(prefix: str, tmp_path: Path) -> None:
    config = replace(
        CONFIG, hidden_size=128, num_attention_heads=2, num_channels=1, patch_size=2, image_size=8, qkv_bias=False
    )
    torch.save(foreign(backbone(config), META, prefix), tmp_path / "weights.pth")
    assert checkpoint.load(tmp_path / "weights.pth").config == config


@pytest.mark.parametrize("layout", [HUGGING_FACE_4, HUGGING_FACE_5], ids=lambda layout: layout.name)
@pytest.mark.parametrize("mixed", [False, True])
def test_classifiers_with_whole_and_with_mixed_prefixes(layout: Layout, mixed: bool, tmp_path: Path) -> None:
    tensors = backbone()
    stored = foreign(tensors, layout, "vit.")
    if mixed:  # 5.x leaves the prefix out for the layers alone
        stored = {k.removeprefix("vit.") if f"{layout.layers}." in k else k: tensor for k, tensor in stored.items()}
    linear = {"weight": torch.randn(5, 64), "bias": torch.randn(5)}
    stored |= {f"classifier.{key}": tensor for key, tensor in linear.items()}
    save_file(stored, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert loaded.config.num_labels == 5
    assert_equal(loaded.tensors, tensors)
    assert_equal(loaded.classifier, linear)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_every_precision_becomes_float32(dtype: torch.dtype, ending: str, tmp_path: Path) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in backbone().items()}
    (save_file if ending == ".safetensors" else torch.save)(foreign(tensors, HUGGING_FACE_4), tmp_path / f"w{ending}")
    loaded = checkpoint.load(tmp_path / f"w{ending}")
    assert_equal(loaded.tensors, {key: tensor.float() for key, tensor in tensors.items()})


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_shards(weights: str, tmp_path: Path) -> None:
    tensors = backbone()
    stored = foreign(tensors, HUGGING_FACE_4)
    places = write_shards(tmp_path, stored, weights)
    assert len(set(places.values())) == 3
    assert_equal(checkpoint.load(tmp_path).tensors, tensors)


def test_safetensors_are_preferred(folder: Path) -> None:
    torch.save({"anything": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert checkpoint.load(folder).tensors.keys() == CONFIG.shapes().keys()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "model.", "backbone.", "encoder.", "model.vit.", "module.model._orig_mod.backbone."]
)
def test_wrapper_prefixes_are_removed(layout: Layout, prefix: str, tmp_path: Path) -> None:
    tensors = backbone()
    save_file(foreign(tensors, layout, prefix), tmp_path / "a.safetensors")
    loaded = checkpoint.load(tmp_path / "a.safetensors")
    assert_equal(loaded.tensors, tensors)
    assert loaded.config == CONFIG


def test_prefixes_of_a_compiled_part_and_a_wrapped_classifier(tmp_path: Path) -> None:
    tensors, linear = backbone(), {"weight": torch.randn(3, 64), "bias": torch.randn(3)}
    named = foreign(tensors, HUGGING_FACE_5, "model.vit._orig_mod.")
    named |= {f"model.classifier.{name}": tensor for name, tensor in linear.items()}
    named["model.vit._orig_mod.layers.0._orig_mod.mlp.fc1.bias"] = named.pop(
        "model.vit._orig_mod.layers.0.mlp.fc1.bias"
    )
    save_file(named, tmp_path / "a.safetensors")
    loaded = checkpoint.load(tmp_path / "a.safetensors")
    assert_equal(loaded.tensors, tensors)
    assert_equal(loaded.classifier, linear)


def test_two_networks_with_different_prefixes_are_not_mixed(tmp_path: Path) -> None:
    both = {prefix + name: tensor for prefix in ("model.", "backbone.") for name, tensor in backbone().items()}
    save_file(both, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"has both 'backbone\..*' and 'model\..*'; only one of them can count"):
        checkpoint.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("container", ["state_dict", "model", "teacher"])
@pytest.mark.parametrize("ending", [".pt", ".pth", ".tar", ".ckpt"])
def test_tensors_nested_in_a_training_checkpoint(container: str, ending: str, tmp_path: Path) -> None:
    tensors = backbone()
    saved = {container: foreign(tensors, META, "module.backbone."), "epoch": 3, "student": {"a": torch.zeros(1)}}
    saved |= {"args": argparse.Namespace(lr=0.1, out=[1, {"a": 2}]), "optimizer": {"state": {0: torch.ones(2)}}}
    torch.save(saved, tmp_path / f"a{ending}")
    assert_equal(checkpoint.load(tmp_path / f"a{ending}").tensors, tensors)


def test_two_nested_dictionaries_of_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"model": backbone(), "teacher": backbone()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="weights under both 'model' and 'teacher'; save the ones you mean"):
        checkpoint.load(tmp_path / "a.pt")


class Hyperparameters(dict[str, Any]):
    """As Lightning's AttributeDict: a dictionary of a class of its own, with a state."""


class Harm:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def lightning(mark: Path) -> dict[str, Any]:
    settings = Hyperparameters(lr=0.1, optimizer=functools.partial(torch.optim.AdamW, lr=0.1), path=mark)
    settings.seen = True  # type: ignore[attr-defined]
    return {
        "pytorch-lightning_version": "2.5.0",
        "state_dict": foreign(backbone(), HUGGING_FACE_4, "model.vit."),
        "hyper_parameters": settings,
        "callbacks": {
            "best": np.float64(0.5),
            "array": np.arange(3),
            "harm": Harm(mark),
            "many": [{1}, (2,), Harm(mark)],
        },
        "loops": {"fit": Counter("abc"), "kind": namedtuple},
    }


def test_a_lightning_checkpoint_is_read_without_running_code(tmp_path: Path) -> None:
    saved, mark = lightning(tmp_path / "harm"), tmp_path / "harm"
    torch.save(saved, tmp_path / "a.ckpt")
    loaded = checkpoint.load(tmp_path / "a.ckpt")
    assert_equal(foreign(loaded.tensors, HUGGING_FACE_4, "model.vit."), saved["state_dict"])
    assert not mark.exists()
    torch.save(saved, tmp_path / "a.pt")  # elsewhere such names are refused
    with pytest.raises(CheckpointError, match="which could be code"):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("what", ["tensors", "names", "whole"])
def test_a_lightning_checkpoint_without_tensors_is_refused(what: str, tmp_path: Path) -> None:
    saved = lightning(tmp_path / "harm")
    if what == "tensors":
        saved["state_dict"]["model.vit.layernorm.bias"] = Harm(tmp_path / "harm")
    elif what == "names":
        saved["state_dict"] = {}
    torch.save(Harm(tmp_path / "harm") if what == "whole" else saved, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"Inert|holds nothing|a dictionary of tensors is needed"):
        checkpoint.load(tmp_path / "a.ckpt")
    assert not (tmp_path / "harm").exists()


def test_a_pickle_cannot_set_attributes_of_library_functions(tmp_path: Path) -> None:
    """A state for `torch._utils._rebuild_tensor_v2` itself would be set on the function, for the whole process."""
    code = b"\x80\x02}X\x05\x00\x00\x00statectorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00evilK\x01sbs."
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        for name, data in (("a/data.pkl", code), ("a/version", b"3\n"), ("a/byteorder", b"little")):
            archive.writestr(name, data)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "a.ckpt")
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")


def test_meta_checkpoint_gives_target_encoder_head_and_temperature(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')  # someone else's
    target, msn = meta_file(tmp_path / "vits16.pth.tar")
    loaded = checkpoint.load(tmp_path / "vits16.pth.tar")
    assert loaded.config == CONFIG
    assert_equal(loaded.tensors, target)
    assert_equal(loaded.msn_head, msn)
    assert (loaded.temperature, loaded.sharpening) == (0.2, 0.25)


@pytest.mark.parametrize("absent", [None, ...])
def test_meta_checkpoint_without_a_target_gives_the_encoder(absent: Any, tmp_path: Path) -> None:
    target, _ = meta_file(tmp_path / "w.pth.tar", target_encoder=absent)
    assert_equal(checkpoint.load(tmp_path / "w.pth.tar").tensors, {k: torch.zeros_like(t) for k, t in target.items()})


def test_meta_checkpoint_without_prototypes_keeps_its_projector(tmp_path: Path) -> None:
    _, msn = meta_file(tmp_path / "w.pth.tar", prototypes=..., temperature=...)
    loaded = checkpoint.load(tmp_path / "w.pth.tar")
    del msn["prototypes"]
    assert_equal(loaded.msn_head, msn)
    assert loaded.temperature == 0.1


@pytest.mark.parametrize("value", [0, -0.1, "warm", float("nan")])
def test_meta_checkpoint_with_a_nonsensical_temperature_is_refused(value: Any, tmp_path: Path) -> None:
    meta_file(tmp_path / "w.pth.tar", temperature=value)
    with pytest.raises(CheckpointError, match=f"temperature '{value}'"):
        checkpoint.load(tmp_path / "w.pth.tar")


def test_meta_checkpoint_becomes_a_folder(tmp_path: Path) -> None:
    meta_file(tmp_path / "w.pth.tar")
    first = checkpoint.load(tmp_path / "w.pth.tar")
    checkpoint.save(tmp_path / "model", first.config, first.tensors, msn_head=first.msn_head, temperature=0.2)
    second = checkpoint.load(tmp_path / "model")
    assert second.config == first.config and second.temperature == first.temperature
    assert_equal(second.tensors, first.tensors)
    assert_equal(second.msn_head, first.msn_head)
