"""From a folder of JPEGs to embeddings, against the bare model on prepared input.

    python -m benchmarks jpeg_folder           half a minute on two cores

ViT-S/16 at 224 pixels, by OpenVINO where it is installed (by torch with VITMSN_BACKEND=torch), and JPEGs of 500 x 375
pixels, as large as ImageNet's. Reading, decoding, resizing and normalizing take place in a thread, during the forward
of the pictures before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import Row, in_turn, rate, small, speedup
from vitmsn.encoder import Encoder
from vitmsn.packed import TOKENS


def folder(place: Path, count: int, size: tuple[int, int] = (500, 375)) -> list[Path]:
    """So many JPEGs of smooth noise with some grain, about as many bytes as photographs have."""
    files = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) + draw.normal(0, 8, (size[1], size[0], 3))
        files.append(place / f"{seed:04}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def rows(quick: bool = False) -> Iterator[Row]:
    count = 32 if quick else 96
    encoder = Encoder.random(small.CONFIG, device="cpu")
    with tempfile.TemporaryDirectory() as place:
        files = folder(Path(place), count)
        size = sum(file.stat().st_size for file in files) // count
        for dtype, precision in reversed(small.DTYPES.items()):
            encoder.model.to(precision)
            parts = encoder.processor(files)["pixel_values"].split(2 * TOKENS // 197)
            bare = partial(_forwards, encoder.runner.forward().compute, parts)
            times = in_turn({"ours": partial(_embed, encoder, files), "bare": bare}, 3 if quick else 8)
            claim = f"ViT-S/16, {dtype}, {encoder.backend}, JPEGs of {size / 1000:.0f} kB: folder over the bare model"
            said = (rate(times, name, count) for name in ("ours", "bare"))
            yield Row(claim, *said, speedup(times, "ours", "bare"), 0.9)


def _forwards(model: Any, parts: Sequence[torch.Tensor]) -> None:
    with torch.inference_mode():
        for part in parts:
            model(part, None, False)


def _embed(encoder: Encoder, files: list[Path]) -> None:
    encoder._encodings.clear()
    encoder.embed(files)
