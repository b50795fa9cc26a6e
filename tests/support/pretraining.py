"""A small run, for the tests of training/ and for the processes that they start."""

from __future__ import annotations

from dataclasses import replace

import torch

from vitmsn.config import ViTMSNConfig
from vitmsn.training.recipe import Recipe, Stage

MODEL = ViTMSNConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=4, image_size=16
)
RECIPE = Recipe(
    model=MODEL,
    stages=(Stage(0.5, 16, 8), Stage(0.5, 12, 8)),
    picture_size=16,
    focal_views=2,
    prototypes=16,
    hidden=32,
    output=16,
    epochs=2,
    batch_size=8,
    warmup_epochs=0.5,
)
LONG = replace(RECIPE, epochs=6)  # 18 steps
# 0.02 suits widths of hundreds; at this width embeddings would be so similar that BatchNorm magnifies rounding
VARIED = replace(
    RECIPE, model=replace(MODEL, initializer_range=0.1), epochs=4, entropy_weight=0.1, random_views=2, clip=0.5
)


def noise(count: int = 24) -> torch.Tensor:
    """(count, 3, 16, 16) uint8."""
    return torch.randint(0, 256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
