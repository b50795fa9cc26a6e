"""Models small enough for every test, made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vitmsn import checkpoint
from vitmsn.config import ViTMSNConfig, pair
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import MSNHead, ViTMSNModel


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
