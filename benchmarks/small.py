"""What the forward benchmarks share: ViT-S/16 at 224 pixels with random weights, plain, packed and as peers have it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks import has_bfloat16, peer
from vitmsn import extras
from vitmsn.backend import prepare
from vitmsn.config import VARIANTS
from vitmsn.model import ViTMSNModel
from vitmsn.packed import NotPacked, PackedModel, pack

CONFIG = VARIANTS["small-16"]
SIDE = 224
DTYPES = {"float32": torch.float32, **({"bfloat16": torch.bfloat16} if has_bfloat16() else {})}


def batches(quick: bool) -> dict[int, int]:
    """Pictures at once -> rounds."""
    return {1: 10, 8: 4} if quick else {1: 30, 8: 12, 32: 6}


def pictures(batch: int) -> Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@cache
def plain(dtype: str = "float32") -> ViTMSNModel:
    if dtype != "float32":
        return copy.deepcopy(plain()).to(DTYPES[dtype])
    torch.manual_seed(0)
    return ViTMSNModel(CONFIG).eval()


@cache
def packed(dtype: str) -> PackedModel:
    found = pack(plain(dtype))
    if isinstance(found, NotPacked):
        raise SystemExit(f"Nothing to measure: {found.reason}.")
    return found


def backends() -> list[str]:
    """What can compute here."""
    return ["torch", *(["openvino"] if extras.installed("openvino") else [])]


@cache
def forward(dtype: str, backend: str) -> Callable[..., Any]:
    """The forward of a backend: (pixels, kept patches or None, whether every layer's tokens are wanted)."""
    found = prepare(plain(dtype), backend)
    if found.engine not in ("packed", "openvino"):
        raise SystemExit(f"Nothing to measure: {found.engine}.")
    return found.compute


@cache
def theirs() -> torch.nn.Module:
    """transformers' model with random weights of its own, as it is shipped (SDPA, float32)."""
    transformers = peer("transformers")
    model = transformers.ViTMSNModel(transformers.ViTMSNConfig(**CONFIG.to_dict())).eval()
    return model


def operations(tokens: int) -> float:
    """Multiplications and additions of one picture's forward, those of matrices."""
    width, depth, patch = CONFIG.hidden_size, CONFIG.num_hidden_layers, CONFIG.patch_size
    linear = 2 * tokens * width * (4 * width + 2 * CONFIG.intermediate_size)
    attention = 4 * tokens**2 * width
    assert isinstance(patch, int)
    return depth * (linear + attention) + 2 * (tokens - 1) * 3 * patch**2 * width
