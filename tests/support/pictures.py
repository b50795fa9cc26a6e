"""Pictures made on the fly, and their files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from vitmsn.image import Picture


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    """A picture that survives lossy formats: every corner has its own color."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))


def pixels(picture: Picture | Image.Image) -> np.ndarray:
    return np.asarray(picture.rgb if isinstance(picture, Picture) else picture).astype(int)
