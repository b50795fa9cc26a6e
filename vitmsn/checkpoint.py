"""Every checkpoint format in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitmsn.config import ViTMSNConfig
from vitmsn.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, whatever its format was."""

    source: str
    config: ViTMSNConfig
    tensors: dict[str, Tensor]
    classifier: dict[str, Tensor] = field(default_factory=dict)
    msn_head: dict[str, Tensor] = field(default_factory=dict)
    feature_mean: Tensor | None = None
    processor: dict[str, Any] | None = None
    card: dict[str, Any] = field(default_factory=dict)
    temperature: float = 0.1
    sharpening: float = 0.25


def embedded(name: str = "vit-msn-tiny-8-64") -> Path:
    """The folder of a model that comes with the package: beside it in a checkout, inside it in a wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here / "assets" / name, here.parent / "assets" / name):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(f"The embedded model {name!r} is not installed; give a folder or a hub id instead.")


def read_processor(name_or_path: str | Path) -> dict[str, Any] | None:
    path = Path(name_or_path) / "preprocessor_config.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def load(name_or_path: str | Path) -> Checkpoint:
    folder = Path(name_or_path)
    config = ViTMSNConfig.from_dict(json.loads((folder / "config.json").read_text("utf-8")))
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    classifier = {
        name.removeprefix("classifier."): tensors.pop(name) for name in list(tensors) if name.startswith("classifier.")
    }
    tensors = _fuse({name.removeprefix("vit."): tensor for name, tensor in tensors.items()})
    head_file, mean_file, card_file = (
        folder / "msn_head.safetensors",
        folder / "feature_mean.safetensors",
        folder / "vitmsn.json",
    )
    head = {name: tensor.float() for name, tensor in load_file(head_file).items()} if head_file.is_file() else {}
    mean = load_file(mean_file)["feature_mean"].float() if mean_file.is_file() else None
    card = json.loads(card_file.read_text("utf-8")) if card_file.is_file() else {}
    return Checkpoint(str(folder), config, tensors, classifier, head, mean, read_processor(folder), card)


_PARTS = (
    ("attention.output", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)


def _fuse(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".attention.attention.query." in name:
            parts = [tensors[name.replace("query", part)] for part in ("query", "key", "value")]
            name, tensor = name.replace("attention.attention.query", "attention.qkv"), torch.cat(parts)
        elif ".attention.attention." in name:
            continue
        name = name.replace("encoder.layer.", "layers.").replace("attention.output.dense", "attention.output")
        name = name.replace(".output.dense", ".mlp.fc2") if "attention" not in name else name
        out[name.replace("intermediate.dense", "mlp.fc1")] = tensor
    return out


def save(
    folder: str | Path,
    config: ViTMSNConfig,
    tensors: Mapping[str, Tensor],
    classifier: Mapping[str, Tensor] | None = None,
    msn_head: Mapping[str, Tensor] | None = None,
    feature_mean: Tensor | None = None,
    processor: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    temperature: float = 0.1,
    sharpening: float = 0.25,
) -> None:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out: dict[str, Tensor] = {}
    prefix = "vit." if classifier else ""
    for name, tensor in tensors.items():
        name = name.replace("layers.", "encoder.layer.") if name.startswith("layers.") else name
        for ours, theirs in _PARTS:
            name = name.replace(ours, theirs)
        if "attention.qkv" in name:
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out[prefix + name.replace("attention.qkv", f"attention.attention.{part}")] = chunk
        else:
            out[prefix + name] = tensor
    out |= {f"classifier.{name}": tensor for name, tensor in (classifier or {}).items()}
    _write(folder / "model.safetensors", out, dtype, {"format": "pt"})
    if msn_head:
        meta = {"format": "pt", "temperature": str(temperature), "sharpening": str(sharpening)}
        _write(folder / "msn_head.safetensors", msn_head, dtype, meta)
    if feature_mean is not None:
        _write(folder / "feature_mean.safetensors", {"feature_mean": feature_mean}, torch.float32, {"format": "pt"})
    for name, values in (("preprocessor_config.json", processor), ("vitmsn.json", card)):
        if values:
            (folder / name).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    architecture = "ViTMSNForImageClassification" if classifier else "ViTMSNModel"
    values = config.to_dict() | {"architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _write(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype, metadata: dict[str, str]) -> None:
    cast = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    save_file(cast, path, metadata=metadata)
