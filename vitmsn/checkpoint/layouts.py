"""Key tables: how each family of files names its tensors, which family a file is of, and its config from shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitmsn.checkpoint.safe import StoredTensor, open_shards, open_weights, tensor_entries
from vitmsn.config import ViTMSNConfig
from vitmsn.errors import CheckpointError


@dataclass(frozen=True)
class Layout:
    """Names of one family of files: a table from canonical module names to its own; absent names are the same.

    Three names for one mean query, key and value apart, which we keep in one matrix.
    """

    name: str
    layers: str  # prefix of a layer's number
    table: Mapping[str, str | tuple[str, str, str]]

    def names(self, key: str) -> tuple[str, ...]:
        """A canonical key in this layout: ``layers.3.mlp.fc1.bias`` -> ``("blocks.3.mlp.fc1.bias",)``."""
        match = re.fullmatch(r"(?:layers\.(\d+)\.)?(.+?)(\.weight|\.bias)?", key)
        assert match is not None
        layer, module, leaf = match.groups()
        theirs = self.table.get(module, module)
        stem = "" if layer is None else f"{self.layers}.{layer}."
        return tuple(f"{stem}{name}{leaf or ''}" for name in ((theirs,) if isinstance(theirs, str) else theirs))


CANONICAL = Layout("vitmsn", "layers", {})
HUGGING_FACE_4 = Layout(  # and what 5.x still writes
    "Hugging Face 4.x",
    "encoder.layer",
    {
        "attention.qkv": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        "attention.output": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
)
HUGGING_FACE_5 = Layout(
    "Hugging Face 5.x",
    "layers",
    {
        "attention.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        "attention.output": "attention.o_proj",
    },
)
META = Layout(
    "Meta",
    "blocks",
    {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm_before": "norm1",
        "attention.qkv": "attn.qkv",
        "attention.output": "attn.proj",
        "layernorm_after": "norm2",
        "layernorm": "norm",
    },
)
LAYOUTS = (HUGGING_FACE_4, HUGGING_FACE_5, META, CANONICAL)


# --- A model's tensors, whatever its layout -----------------------------------------------------------------------


@dataclass
class Weights:
    """All tensors of one model, by the names of its layout (wrapping prefixes removed)."""

    entries: dict[str, StoredTensor]
    layout: Layout
    temperature: Any = None  # what a Meta dictionary says
    self_contained: bool = False  # a Meta dictionary has its own architecture; a config.json beside it does not count


# Prefixes of names when the network is part of another module. transformers 4 has an "encoder" of its own.
WRAPPERS = re.compile(r"^(?:module\.|model\.|backbone\.|vit\.|encoder\.(?!layer\.))+")


def gather(path: Path) -> Weights:
    entries, rest = (open_shards(path), {}) if path.suffix == ".json" else open_weights(path)
    plain: dict[str, StoredTensor] = {}
    for key, entry in entries.items():
        name = WRAPPERS.sub("", key.replace("_orig_mod.", ""))
        if name in plain:
            raise CheckpointError(f"{path} has both {plain[name].key!r} and {key!r}; only one of them can count.")
        plain[name] = entry
    layout = _layout(path, plain)
    if layout is META:
        plain = {re.sub(r"^fc\.", "projector.", name): entry for name, entry in plain.items()}
    if "prototypes" in rest:
        plain |= tensor_entries(path, {"prototypes": rest["prototypes"]})
    return Weights(plain, layout, rest.get("temperature"), self_contained="meta" in rest)


def _layout(path: Path, present: Iterable[str]) -> Layout:
    """The layout that the names of the first layer fit best."""
    first = [f"layers.0.{module}.weight" for module in ("attention.qkv", "attention.output", "mlp.fc2")]
    present = set(present)
    hits = [sum(name in present for key in first for name in layout.names(key)) for layout in LAYOUTS]
    if max(hits):
        return LAYOUTS[hits.index(max(hits))]
    needed = ", ".join(f"{layout.names(first[0])[0]} ({layout.name})" for layout in LAYOUTS)
    found = ", ".join(sorted(present)[:3]) or "nothing"
    raise CheckpointError(f"{path} is no ViT-MSN: it holds {found}; one of {needed} is needed.")


def depth(weights: Weights) -> int:
    pattern = re.compile(rf"{re.escape(weights.layout.layers)}\.(\d+)\.")
    return len({match[1] for match in map(pattern.match, weights.entries) if match})


def infer_config(path: Path, weights: Weights) -> ViTMSNConfig:
    """The architecture, from shapes alone: heads are 64 wide (as in all published variants), pictures are square."""

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        name = weights.layout.names(key)[0]
        if name not in weights.entries or len(weights.entries[name].shape) != dimensions:
            raise CheckpointError(f"{path} has no {name} of {dimensions} dimensions, so its architecture is not known.")
        return weights.entries[name].shape

    dim, channels, *patch = shape("embeddings.patch_embeddings.projection.weight", 4)
    patches = shape("embeddings.position_embeddings", 3)[1] - 1
    side = math.isqrt(max(patches, 0))
    if dim % 64 or patches < 1 or side**2 != patches:
        raise CheckpointError(
            f"{path} comes without config.json, and a width of {dim} with {patches} positions does not tell the heads "
            "and the picture size; put its config.json beside it."
        )
    labels = (*weights.entries["classifier.weight"].shape, 0)[0] if "classifier.weight" in weights.entries else None
    return ViTMSNConfig(
        hidden_size=dim,
        num_hidden_layers=depth(weights),
        num_attention_heads=dim // 64,
        intermediate_size=shape("layers.0.mlp.fc1.weight", 2)[0],
        image_size=side * patch[0] if patch[0] == patch[1] else (side * patch[0], side * patch[1]),
        patch_size=patch[0] if patch[0] == patch[1] else (patch[0], patch[1]),
        num_channels=channels,
        qkv_bias=weights.layout.names("layers.0.attention.qkv.bias")[0] in weights.entries,
    ).with_labels(labels)
