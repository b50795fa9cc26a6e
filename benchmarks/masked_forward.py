"""Masking pays: the time of a forward with patches dropped, over the time of the full one, beside the share of tokens.

    python -m benchmarks masked_forward        two minutes on two cores

ViT-S/16 at 224 pixels, by torch (packed) and, where it is installed, by OpenVINO. The ratio is time over tokens: 1 says
that a masked view costs what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch

from benchmarks import Figure, Row, in_turn, milliseconds, small
from vitmsn import masking

RATIOS = (0.3, 0.5, 0.7, 0.9)


def rows(quick: bool = False) -> Iterator[Row]:
    with torch.inference_mode():
        for dtype, backend in product(reversed(small.DTYPES), small.backends()):
            forward = small.forward(dtype, backend)
            for batch, rounds in small.batches(quick).items():
                pixels, generator = small.pictures(batch), torch.Generator().manual_seed(0)
                keeps = {ratio: masking.random_mask(small.CONFIG.grid, ratio, generator, batch) for ratio in RATIOS}
                calls = {"full": partial(forward, pixels, None, False)} | {
                    str(ratio): partial(forward, pixels, keep, False) for ratio, keep in keeps.items()
                }
                times = in_turn(calls, rounds)
                for ratio, keep in keeps.items():
                    tokens, of = 1 + keep.shape[1], 1 + small.CONFIG.num_patches
                    claim = f"ViT-S/16, batch {batch}, {dtype}, {backend}: {tokens} of {of} tokens, time over tokens"
                    said = (milliseconds(times, name) for name in (str(ratio), "full"))
                    cost = Figure.of(times[str(ratio)] / times["full"] * of / tokens)
                    yield Row(claim, *said, cost, most=1.1)
