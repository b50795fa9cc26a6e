"""Masking pays: the time of a forward with patches dropped, over the time of the full one, beside the share of tokens.

    python -m benchmarks masked_forward        two minutes on two cores

ViT-S/16 at 224 pixels, by torch (packed) and, where it is installed, by OpenVINO. The ratio is time over tokens: 1 says
that a masked view costs what is left of it. For a single picture the packed products are timed alone, too: a forward
that is made of them can hardly come closer to its share than they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
from torch import Tensor

from benchmarks import Figure, Row, in_turn, milliseconds, small
from vitmsn import masking
from vitmsn.packed import PackedModel

RATIOS = (0.3, 0.5, 0.7, 0.9)


def rows(quick: bool = False) -> Iterator[Row]:
    with torch.inference_mode():
        for dtype in reversed(small.DTYPES):
            yield from _products(dtype, small.batches(quick)[1])
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


def _products(dtype: str, rounds: int) -> Iterator[Row]:
    """The linear layers of a single picture, with nothing between them."""
    of, model = 1 + small.CONFIG.num_patches, small.packed(dtype)
    kept = {ratio: 1 + masking.kept_count(small.CONFIG.num_patches, ratio) for ratio in (0.0, *RATIOS)}
    width, inner = small.CONFIG.hidden_size, small.CONFIG.intermediate_size
    inputs = {
        ratio: [torch.randn(tokens, numbers).to(small.DTYPES[dtype]) for numbers in (width, inner)]
        for ratio, tokens in kept.items()
    }
    times = in_turn({str(ratio): partial(_linears, model, *some) for ratio, some in inputs.items()}, rounds)
    for ratio in RATIOS:
        claim = f"ViT-S/16, batch 1, {dtype}, packed products alone: {kept[ratio]} of {of} tokens, time over tokens"
        said = (milliseconds(times, name) for name in (str(ratio), "0.0"))
        yield Row(claim, *said, Figure.of(times[str(ratio)] / times["0.0"] * of / kept[ratio]))


def _linears(model: PackedModel, narrow: Tensor, wide: Tensor) -> None:
    for layer in model.layers:
        for linear, given in ((layer.qkv, narrow), (layer.output, narrow), (layer.fc1, narrow), (layer.fc2, wide)):
            linear(given)
