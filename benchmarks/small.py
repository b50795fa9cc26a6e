"""What the forward benchmarks share: ViT-S/16 at 224 pixels with random weights, plain, packed and as peers have it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import has_bfloat16, peer
from vitmsn import extras
from vitmsn.backend import prepare
from vitmsn.config import VARIANTS
from vitmsn.model import ViTMSNModel
from vitmsn.packed import TOKENS, NotPacked, PackedModel, _Linear, pack

CONFIG = VARIANTS["small-16"]
SIDE = 224
PRODUCT = (TOKENS, 1536, 1536)  # rows, inputs, outputs of the matrix product that no forward can be faster than
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


def product(dtype: torch.dtype) -> Callable[[], Tensor]:
    """A packed product alone, of ``PRODUCT``'s size."""
    rows, inputs, outputs = PRODUCT
    x = torch.randn(rows, inputs).to(dtype)
    return partial(_Linear(torch.randn(outputs, inputs).to(dtype), None), x)


def limit(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Operations a second, of the times of :func:`product`."""
    return 2 * math.prod(PRODUCT) / seconds


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
