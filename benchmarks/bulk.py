"""Pictures a second of `bulk.Embed` on one thread, JPEG decoding included: the figures of docs/scale.md.

python -m benchmarks.bulk
"""

from __future__ import annotations

import io
import time

import numpy as np
import torch
from PIL import Image

from vitmsn.bulk import Embed
from vitmsn.config import VARIANTS
from vitmsn.encoder import Encoder


def jpegs(count: int) -> list[bytes]:
    """Smooth noise of 256 x 256 pixels, about 14 kB each."""
    found = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def main() -> None:
    torch.set_num_threads(1)
    pictures = jpegs(256)
    print(f"{sum(map(len, pictures)) // len(pictures):,} bytes a picture")
    for name, count in (("tiny-8-64", 256), ("small-16", 24)):
        call = Embed(dtype="float32")
        call._encoder = Encoder.random(VARIANTS[name], device="cpu")  # the weights do not change the time
        call({"image": pictures[-4:]})
        started = time.perf_counter()
        call({"image": pictures[:count]})
        print(f"{name}: {count / (time.perf_counter() - started):.1f} pictures a second")


if __name__ == "__main__":
    main()
