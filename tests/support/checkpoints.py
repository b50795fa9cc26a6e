"""Small checkpoints to write, damage and compare."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitmsn.checkpoint.layouts import META, Layout
from vitmsn.config import ViTMSNConfig
from vitmsn.msn_head import MSNHead

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


def edit(file: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


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


def torch_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


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
