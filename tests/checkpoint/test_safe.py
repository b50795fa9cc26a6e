"""Every fault of a checkpoint is refused by name."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.checkpoints import (
    CONFIG,
    assert_equal,
    backbone,
    edit,
    foreign,
    head,
    meta_file,
    torch_bytes,
    write_shards,
)
from tests.support.zips import zipped
from vitmsn import checkpoint, limits
from vitmsn.checkpoint.layouts import HUGGING_FACE_4, META
from vitmsn.errors import CheckpointError

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
    "another zip": (lambda: zipped({"readme.txt": b"hello"}), "zip without a table of tensors"),
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
