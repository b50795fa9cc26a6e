"""Every format is read, every fault is refused by name, and saved checkpoints load again."""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import pickle
import random
import stat
import struct
import zipfile
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitmsn import checkpoint, limits
from vitmsn.checkpoint.layouts import CANONICAL, HUGGING_FACE_4, HUGGING_FACE_5, LAYOUTS, META, Layout
from vitmsn.config import VARIANTS, ViTMSNConfig
from vitmsn.errors import CheckpointError
from vitmsn.model import MSNHead, ViTMSNModel

# heads are 64 wide, so that their number follows from the shapes
CONFIG = ViTMSNConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=96, image_size=12, patch_size=4
)


def backbone(config: ViTMSNConfig = CONFIG) -> dict[str, Tensor]:
    return {key: torch.randn(shape) for key, shape in config.shapes().items()}


def head() -> dict[str, Tensor]:
    return MSNHead(64, hidden=10, output=6, prototypes=7).state_dict()


def foreign(tensors: dict[str, Tensor], layout: Layout, prefix: str = "") -> dict[str, Tensor]:
    """The same tensors as another family of files would hold them."""
    out = {}
    for key, tensor in tensors.items():
        names = layout.names(key)
        out |= {prefix + n: t.clone() for n, t in zip(names, tensor.chunk(len(names)), strict=True)}
    return out


def assert_equal(loaded: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(loaded) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(loaded[key], tensor), key
        assert loaded[key].dtype == tensor.dtype, key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder to damage."""
    place = tmp_path / "model"
    checkpoint.save(place, CONFIG, backbone())
    return place


def edit(file: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


# --- Layouts ------------------------------------------------------------------------------------------------------


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


def write_shards(folder: Path, stored: dict[str, Tensor], weights: str = "model.safetensors") -> dict[str, str]:
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    stem, ending = weights.split(".")
    places = {}
    for number in range(3):
        name = f"{stem}-0000{number + 1}-of-00003.{ending}"
        part = dict(list(stored.items())[number::3])
        (save_file if ending == "safetensors" else torch.save)(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / f"{weights}.index.json").write_text(json.dumps({"weight_map": places}))
    return places


def test_safetensors_are_preferred(folder: Path) -> None:
    torch.save({"anything": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert checkpoint.load(folder).tensors.keys() == CONFIG.shapes().keys()


# --- Meta ---------------------------------------------------------------------------------------------------------


def meta_file(path: Path, **changes: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A training checkpoint as the original code writes it (DataParallel prefixes, optimizer and all)."""
    target, msn = backbone(), head()
    projector = {f"module.fc.{k.removeprefix('projector.')}": t for k, t in msn.items() if k.startswith("projector.")}
    state = OrderedDict(foreign(target, META, "module.") | projector)
    anchor = OrderedDict((key, torch.zeros_like(tensor)) for key, tensor in state.items())
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))])
    content: dict[str, Any] = {
        "encoder": anchor,
        "target_encoder": state,
        "prototypes": msn["prototypes"],
        "opt": optimizer.state_dict(),
        "epoch": 800,
        "loss": 2.5,
        "batch_size": 16,
        "world_size": 64,
        "lr": 1e-3,
        "temperature": 0.2,
    }
    torch.save({key: value for key, value in (content | changes).items() if value is not ...}, path)
    return target, msn


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


# --- Saving -------------------------------------------------------------------------------------------------------


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


# --- Faults of tensors --------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: t.pop("layernorm.weight"), "lacks layernorm.weight"),
    "missing, of the attention": (
        lambda t: t.pop("encoder.layer.0.attention.attention.query.weight"),
        "lacks encoder.layer.0.attention.attention.query.weight",
    ),
    "missing layer": (
        lambda t: [t.pop(key) for key in list(t) if "layer.1." in key],
        "has 1 layers but its config says 2",
    ),
    "unknown": (lambda t: t.update({"pooler.dense.bias": torch.zeros(2)}), "unknown pooler.dense.bias"),
    "both": (
        lambda t: t.update({"layernorm.gain": t.pop("layernorm.weight")}),
        "lacks layernorm.weight and has the unknown layernorm.gain",
    ),
    "mis-shaped": (
        lambda t: t.update({"layernorm.weight": torch.zeros(1, 64)}),
        r"layernorm.weight of shape \(1, 64\); this network needs \(64,\)",
    ),
    "transposed": (
        lambda t: t.update({"encoder.layer.1.output.dense.weight": torch.zeros(96, 64)}),
        r"encoder.layer.1.output.dense.weight of shape \(96, 64\)",
    ),
    "NaN": (lambda t: t["layernorm.bias"].fill_(torch.nan), "NaN or infinite values in layernorm.bias"),
    "infinite": (
        lambda t: t["encoder.layer.1.attention.attention.key.bias"].__setitem__(3, -torch.inf),
        "infinite values in encoder.layer.1.attention.attention.key.bias",
    ),
    "too large for float32": (
        lambda t: t.update({"layernorm.bias": torch.full((64,), 1e300, dtype=torch.float64)}),
        "infinite values in layernorm.bias",
    ),
    "whole numbers": (
        lambda t: t.update({"layernorm.bias": torch.zeros(64, dtype=torch.int64)}),
        "layernorm.bias of type I64",
    ),
    "eight bits": (
        lambda t: t.update({"layernorm.bias": torch.zeros(64).to(torch.float8_e4m3fn)}),
        "layernorm.bias of type F8_E4M3",
    ),
    "twice, prefixed": (
        lambda t: t.update({"vit.layernorm.bias": torch.zeros(64)}),
        "both 'layernorm.bias' and 'vit.layernorm.bias'|both 'vit.layernorm.bias' and 'layernorm.bias'",
    ),
    "classifier of another size": (
        lambda t: t.update({"classifier.weight": torch.zeros(3, 64), "classifier.bias": torch.zeros(3)}),
        r"classifier.weight of shape \(3, 64\); this network needs \(2, 64\)",
    ),
    "half a classifier": (lambda t: t.update({"classifier.weight": torch.zeros(2, 64)}), "lacks classifier.bias"),
    "nothing": (lambda t: t.clear(), "it holds nothing"),
    "another network": (
        lambda t: (t.clear(), t.update({"conv1.weight": torch.zeros(3)})),
        "no ViT-MSN: it holds conv1.weight",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_tensors_are_named(fault: str, folder: Path) -> None:
    change, message = FAULTS[fault]
    edit(folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("msn_head.safetensors", lambda t: t.pop("projector.bn1.bias"), "MSN head.*lacks projector.bn1.bias"),
        ("msn_head.safetensors", lambda t: t.update({"queue": torch.zeros(2)}), "MSN head.*unknown queue"),
        ("msn_head.safetensors", lambda t: t["prototypes"].fill_(torch.nan), "NaN or infinite values in prototypes"),
        (
            "msn_head.safetensors",
            lambda t: t.update({"prototypes": torch.zeros(7, 5)}),
            r"prototypes of shape \(7, 5\); this network needs \(7, 6\)",
        ),
        (
            "msn_head.safetensors",
            lambda t: t.update({"projector.fc1.weight": torch.zeros(10, 32)}),
            r"projector.fc1.weight of shape \(10, 32\)",
        ),
        ("feature_mean.safetensors", lambda t: t.update({"feature_mean": torch.zeros(63)}), r"\(63,\)"),
        ("feature_mean.safetensors", lambda t: t.update({"mean": t.pop("feature_mean")}), "lacks feature_mean"),
    ],
)
def test_faults_of_extras_are_named(
    file: str, change: Callable[[dict[str, Tensor]], Any], message: str, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, CONFIG, backbone(), msn_head=head(), feature_mean=torch.zeros(64))
    edit(tmp_path / file, change)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("value", ["hot", "0", "-1", "nan", "inf"])
def test_an_impossible_temperature_is_refused_by_name(value: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, CONFIG, backbone(), msn_head=head())
    save_file(head(), tmp_path / "msn_head.safetensors", metadata={"temperature": value})
    with pytest.raises(CheckpointError, match=f"temperature '{value}'"):
        checkpoint.load(tmp_path)


# --- Faults of files ----------------------------------------------------------------------------------------------


def raw(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def test_a_duplicate_key_in_the_header_is_named(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + length].strip()
    first = json.dumps({"layernorm.bias": json.loads(header)["layernorm.bias"]}).encode()[1:-1]
    (folder / "model.safetensors").write_bytes(raw(header[:-1] + b"," + first + b"}", content[8 + length :]))
    with pytest.raises(CheckpointError, match=r"model.safetensors has 'layernorm.bias' twice"):
        checkpoint.load(folder)


def test_truncated_files_are_refused_by_name(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    for length in (0, 4, 8, 100, 5000, len(content) - 1):
        (folder / "model.safetensors").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model.safetensors is truncated"):
            checkpoint.load(folder)


@pytest.mark.parametrize(
    "content",
    [
        raw(b"{}" + b" " * 100)[:20],
        struct.pack("<Q", 2**63) + b"{}",
        raw(b"[1, 2]"),
        raw(b"[" * 100_000),
        raw(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', b"1234"),
        raw(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', b"12345678"),
        raw(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', b"12345678"),
        raw(b'{"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}', b"1234"),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
)
def test_broken_headers_are_refused_by_name(content: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.safetensors is truncated or is no safetensors file"):
        checkpoint.load(folder)


def torch_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def zipped_again(content: bytes, compression: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return stream.getvalue()


class Spy:
    """Unpickling this would leave a trace."""

    trace = ""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.trace,)


def sparse() -> dict[str, Tensor]:
    tensors = foreign(backbone(), HUGGING_FACE_4)
    indices, values = torch.tensor([[0], [0]]), torch.tensor([1.0])
    key = "encoder.layer.0.output.dense.weight"
    tensors[key] = torch.sparse_coo_tensor(indices, values, (64, 96), check_invariants=True)
    return tensors


PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "truncated, damaged or not written by torch.save"),
    "no zip": (lambda: pickle.dumps({"a": 1}), "truncated, damaged or not written by torch.save"),
    "truncated": (lambda: torch_bytes(foreign(backbone(), HUGGING_FACE_4))[:-500], "truncated, damaged"),
    "compressed": (
        lambda: zipped_again(torch_bytes(foreign(backbone(), HUGGING_FACE_4)), zipfile.ZIP_DEFLATED),
        "has the compressed entry 'archive/data.pkl'",
    ),
    "another zip": (lambda: zip_of({"readme.txt": b"hello"}), "zip without a table of tensors"),
    "a picture's bytes": (lambda: b"\xff\xd8\xff\xe0" + bytes(500), "truncated, damaged"),
    "code": (lambda: torch_bytes({"a": Spy()}), "asks for 'posix mkdir', which could be code"),
    "a model": (lambda: torch_bytes(torch.nn.Linear(2, 2)), "could be code"),
    "sparse": (lambda: torch_bytes(sparse()), "asks for a sparse tensor"),
    "a bytearray": (lambda: torch_bytes({"a": bytearray(3)}), "asks for 'builtins bytearray'|bytearray"),
    "a list": (lambda: torch_bytes([torch.zeros(2)]), "holds a list; a dictionary"),
    "numbers": (lambda: torch_bytes({"epoch": 3}), "has int under 'epoch'"),
    "nameless": (lambda: torch_bytes({3: torch.zeros(2)}), "has Tensor under 3"),
    "quantised": (
        lambda: torch_bytes({"a": torch.zeros(2, dtype=torch.complex64)}),
        "no ViT-MSN: it holds a",
    ),
    "spread thin": (
        lambda: torch_bytes(foreign(backbone(), HUGGING_FACE_4) | {"layernorm.bias": torch.zeros(1).expand(64)}),
        "'layernorm.bias' spread over less data",
    ),
    "bad head": (lambda: torch_bytes({"target_encoder": {"module.norm.bias": "text"}}), "has str under"),
}


def zip_of(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize("fault", PICKLES)
def test_faults_of_pickles_are_named_and_run_nothing(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spy, "trace", str(tmp_path / "trace"))
    make, message = PICKLES[fault]
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(make())
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert "weights.pth.tar" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda places, folder: (folder / "model-00002-of-00003.safetensors").unlink(),
            "00002-of-00003.*cannot be opened",
        ),
        (
            lambda places, folder: places.update({"layernorm.bias": "../outside.safetensors"}),
            "points to '../outside.safetensors'",
        ),
        (lambda places, folder: places.pop("layernorm.bias"), "has the unknown layernorm.bias"),
        (lambda places, folder: places.update(extra="model-00001-of-00003.safetensors"), "lacks extra"),
        (lambda places, folder: places.clear(), "no weight_map"),
    ],
)
def test_faults_of_shards_are_named(
    change: Callable[[dict[str, str], Path], Any], message: str, tmp_path: Path
) -> None:
    places = write_shards(tmp_path, foreign(backbone(), HUGGING_FACE_4))
    change(places, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[1]", "holds a JSON list"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"model_type": "bert"}', "describes a 'bert' model"),
        ('{"hidden_size": "wide"}', "hidden_size is 'wide'"),
        ('{"hidden_size": 1e999}', "hidden_size is inf"),
        ('{"num_labels": 1000000000000}', "num_labels is 1000000000000"),
        ('{"num_hidden_layers": 1000000000000}', "2 layers but its config says 1000000000000"),
        ('{"hidden_size": 128, "num_hidden_layers": 2}', "128 cannot be shared by 12 heads"),
        ('{"hidden_size": 96, "num_hidden_layers": 2}', "this network needs"),
    ],
)
def test_faults_of_the_config_are_named(text: str, message: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "vitmsn.json"])
def test_faults_of_other_json_are_named(name: str, folder: Path) -> None:
    (folder / name).write_text("{")
    with pytest.raises(CheckpointError, match=f"{name} cannot be read as JSON"):
        checkpoint.load(folder)


def test_sizes_are_checked_before_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(limits, "MAX_CHECKPOINT_BYTES", size - 1)
    with pytest.raises(CheckpointError, match=f"to {size:,} bytes; at most {size - 1:,}"):
        checkpoint.load(folder)


def test_size_limit_covers_all_shards_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, foreign(backbone(), HUGGING_FACE_4))
    largest = max(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    monkeypatch.setattr(limits, "MAX_CHECKPOINT_BYTES", largest + 1)
    with pytest.raises(CheckpointError, match="takes the model to"):
        checkpoint.load(tmp_path)


def test_places_that_hold_no_model_are_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty has no config.json"):
        checkpoint.load(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model has no weights; one of model.safetensors, "):
        checkpoint.load(folder)
    (tmp_path / "weights.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"weights.onnx has an unknown ending"):
        checkpoint.load(tmp_path / "weights.onnx")
    for name in ("nowhere", "a/b/c", "../x/y", "x" * 5000, "owner/..", "nul\0l", ""):
        with pytest.raises(CheckpointError, match="no file or folder here and no hub id"):
            checkpoint.load(name)


def test_positions_of_a_non_square_grid_need_a_config(tmp_path: Path) -> None:
    config = replace(CONFIG, image_size=(12, 8))
    torch.save(foreign(backbone(config), META), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"width of 64 with 6 positions .* put its config.json beside it"):
        checkpoint.load(tmp_path / "weights.pth")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert checkpoint.load(tmp_path / "weights.pth").config == config


@pytest.mark.parametrize("ending", [".safetensors", ".pth.tar", ".json"])
def test_damaged_files_raise_checkpoint_errors(ending: str, tmp_path: Path) -> None:
    lone, described = tmp_path / f"lone{ending}", tmp_path / "model" / "config.json"
    if ending == ".pth.tar":
        meta_file(lone)
    else:
        save_file(foreign(backbone(), HUGGING_FACE_4), lone)
    checkpoint.save(described.parent, CONFIG, backbone())
    path, loaded = (described, described.parent) if ending == ".json" else (lone, lone)
    content, said = path.read_bytes(), []
    for seed in range(60):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(rng.choice((1, 3, 30))):
            place = rng.choice((rng.randrange(min(len(content), 5000)), len(content) - 1 - rng.randrange(500)))
            damaged[place] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            checkpoint.load(loaded)
        except CheckpointError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not any("\n" in sentence for sentence in said)


def test_loaded_tensors_do_not_depend_on_the_file(folder: Path) -> None:
    loaded = checkpoint.load(folder)
    before = {key: tensor.clone() for key, tensor in loaded.tensors.items()}
    file = folder / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    assert_equal(loaded.tensors, before)


# --- Places -------------------------------------------------------------------------------------------------------


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


class Hub(BaseHTTPRequestHandler):
    """A local server with the parts of the hub that a download needs."""

    files: dict[str, bytes] = {}  # noqa: RUF012 (set by the fixture)
    asked: list[str] = []  # noqa: RUF012
    commit = "0123456789abcdef0123456789abcdef01234567"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        tree = [{"type": "file", "path": n, "size": len(c), "oid": n} for n, c in self.files.items()]
        siblings = [{"rfilename": n, "size": len(c), "blobId": n} for n, c in self.files.items()]
        if path.startswith("/api/models/owner/name"):
            listing: Any = {"id": "owner/name", "sha": self.commit, "siblings": siblings}
            self.answer(json.dumps(tree if "/tree/" in path else listing).encode(), "application/json")
        elif path.startswith("/owner/name/resolve/") and path.split("/")[-1] in self.files:
            self.asked.append(path.split("/")[-1])
            self.answer(self.files[path.split("/")[-1]], "application/octet-stream")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content):x}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    huggingface_hub.utils.disable_progress_bars()
    monkeypatch.setattr(Hub, "asked", [])
    yield server
    huggingface_hub.utils.enable_progress_bars()
    server.shutdown()
    server.server_close()


def served(folder: Path, *left_out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in left_out}


def test_a_hub_model_is_fetched_once_and_then_read_without_a_network(
    hub: ThreadingHTTPServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = {"pytorch_model.bin": b"not wanted", "modeling.py": b"raise SystemExit", "README.md": b"not wanted"}
    monkeypatch.setattr(Hub, "files", served(folder) | extras | {"preprocessor_config.json": b'{"size": 12}'})
    loaded = checkpoint.load("owner/name")
    assert loaded.source == "owner/name" and loaded.processor == {"size": 12}
    assert_equal(loaded.tensors, checkpoint.load(folder).tensors)
    assert not {"pytorch_model.bin", "modeling.py", "README.md"} & set(Hub.asked)
    assert checkpoint.read_processor("owner/name") == {"size": 12}

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    again = checkpoint.load("owner/name")
    assert again.source == "owner/name (cached copy: the hub cannot be reached)"
    assert_equal(again.tensors, loaded.tensors)


def test_a_hub_model_may_have_only_a_pickle_or_shards(
    hub: ThreadingHTTPServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = checkpoint.load(folder).tensors
    stored = foreign(tensors, HUGGING_FACE_4)
    monkeypatch.setattr(Hub, "files", served(folder, "model.safetensors") | {"pytorch_model.bin": torch_bytes(stored)})
    assert_equal(checkpoint.load("owner/name").tensors, tensors)

    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", stored)
    monkeypatch.setattr(Hub, "files", served(tmp_path / "shards"))
    monkeypatch.setattr(Hub, "commit", "f" * 40)
    assert_equal(checkpoint.load("owner/name").tensors, tensors)


def test_the_size_of_a_hub_model_is_checked_before_download(
    hub: ThreadingHTTPServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "files", served(folder))
    monkeypatch.setattr(limits, "MAX_CHECKPOINT_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"owner/name is .* bytes .*; at most 1,000 are downloaded"):
        checkpoint.load("owner/name")
    assert Hub.asked == []


def test_missing_hub_models_are_named(hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="The hub shows no model 'owner/other'"):
        checkpoint.load("owner/other")
    monkeypatch.setattr(Hub, "files", {"config.json": b"{}"})
    with pytest.raises(CheckpointError, match="owner/name has no weights"):
        checkpoint.load("owner/name")


def test_no_network_and_no_cache_is_reported() -> None:
    with pytest.raises(CheckpointError, match=r"owner/name cannot be fetched .* and is not in the cache; connect"):
        checkpoint.load("owner/name")


# --- Wrapped and nested -------------------------------------------------------------------------------------------


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
