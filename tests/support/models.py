"""Models small enough for every test, made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitmsn import checkpoint
from vitmsn.config import ViTMSNConfig, pair
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead

BFLOAT16 = torch.cpu._is_avx512_bf16_supported()  # whether this processor computes in it
# What a forward has to get right, as changes of `small`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "usual": {},
    "no bias": {"qkv_bias": False},
    "one channel": {"num_channels": 1},
    "not square": {"image_size": (8, 24), "patch_size": (2, 4)},
    "odd sizes": {"hidden_size": 21, "num_attention_heads": 3, "intermediate_size": 35},
    **{name: {"hidden_act": name} for name in ("gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")},
}


def small(labels: Sequence[str] = ("ant", "bee", "cat"), **changes: Any) -> ViTMSNConfig:
    """Two layers of width 16 over 4 x 4 patches, or with ``changes``."""
    usual = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    usual |= {"image_size": 16, "patch_size": 4}
    return ViTMSNConfig(**{**usual, **changes}, id2label=dict(enumerate(labels)))


def write(
    folder: Path, config: ViTMSNConfig, seed: int = 0, *, classifier: bool = True, msn: bool = True, **more: Any
) -> Path:
    """A model folder with random weights: classifier, projector and prototypes, preprocessing.

    ``more`` goes to ``checkpoint.save``: feature_mean, card, temperature.
    """
    torch.manual_seed(seed)
    parts: dict[str, Any] = {"processor": ViTMSNImageProcessor(pair(config.image_size)[0]).to_dict()}
    if msn:
        head = MSNHead(config.hidden_size, 8, 6, 5)
        torch.nn.init.normal_(head.prototypes)
        parts["msn_head"] = head.state_dict()
    if classifier:
        shape = (config.num_labels, config.hidden_size)
        parts["classifier"] = {"weight": torch.randn(shape), "bias": torch.zeros(shape[0])}
    checkpoint.save(folder, config, ViTMSNModel(config).state_dict(), **(parts | more))
    return folder


def read(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


def backbone(dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> ViTMSNModel:
    """A backbone of `small` in eval mode, biases and norms random too."""
    torch.manual_seed(seed)
    model = ViTMSNModel(small(**changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.to(dtype)


def pixels(model: ViTMSNModel, batch: int, grid: tuple[int, int] = (4, 4)) -> Tensor:
    """Random pictures of so many rows and columns of patches."""
    height, width = model.embeddings.patch_embeddings.projection.weight.shape[2:]
    return torch.randn(batch, model.config.num_channels, grid[0] * height, grid[1] * width)


def random_rows(pictures: int, patches: int, kept: int) -> Tensor:
    """Patches kept, (pictures, kept), others for each picture."""
    return torch.stack([torch.randperm(patches)[:kept].sort().values for _ in range(pictures)])
