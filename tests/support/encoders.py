"""Small encoders, noise to show them, and the forwards they need."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support import models
from vitmsn.runner import ModelRunner

LABELS = ("siamese cat", "tabby", "goldfish", "shark")
CONFIG = models.small(LABELS)
CARD = {"not_sure_below": 0.6, "kinds": {"cat": ["siamese cat", "tabby"], "fish": ["goldfish", "shark"]}}


def picture(seed: int = 0, size: tuple[int, int] = (30, 20)) -> Image.Image:
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def save_everything(folder: Path) -> Path:
    """A model folder in ``folder``, with every extra."""
    more = {"feature_mean": torch.arange(16.0), "card": CARD, "temperature": 0.2, "sharpening": 0.5}
    return models.write(folder / "whole", CONFIG, **more)


def count_forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures of every forward that really runs from now on."""
    ran: list[int] = []
    timed = ModelRunner._timed

    def counted(self: ModelRunner, pixels: torch.Tensor, *rest: Any) -> Any:
        ran.append(len(pixels))
        return timed(self, pixels, *rest)

    monkeypatch.setattr(ModelRunner, "_timed", counted)
    return ran
