"""Galleries without a neural network: a fake encoder, pictures of one color, zips."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from vitmsn.config import ViTMSNConfig
from vitmsn.gallery import Gallery
from vitmsn.image import Picture, decode


class Fake:
    """A fake encoder for galleries: sixteen numbers per picture, its brightness on a 4 x 4 grid."""

    def __init__(self, name: str = "fake", factor: float = 1.0) -> None:
        self.name, self.fingerprint, self.factor = name, f"print-of-{name}", factor
        self.config = ViTMSNConfig(hidden_size=16, num_attention_heads=2)
        self.calls: list[int] = []

    def embed(self, images: list[Picture]) -> np.ndarray:
        self.calls.append(len(images))
        grids = [np.asarray(decode(image).rgb.convert("L").resize((4, 4)), np.float32) for image in images]
        return np.stack(grids).reshape(len(images), 16) * self.factor


def png(color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def pictures(*grays: int) -> list[Picture]:
    return [decode(png((gray, gray, gray)), name=f"{gray}.png") for gray in grays]


def gallery(*grays: int) -> Gallery:
    """A gallery of the fake encoder: even grays are class even, odd ones odd."""
    encoder = Fake()
    made = Gallery(encoder)
    for gray in grays:
        made.add("odd" if gray % 2 else "even", pictures(gray), encoder.embed(pictures(gray)))
    return made
