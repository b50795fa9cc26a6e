"""The packed forward against the plain one, against transformers as it is shipped, and against the matrix limit.

    python -m benchmarks packed_forward        two minutes on two cores

ViT-S/16 at 224 pixels. The limit is what the same packed product reaches alone, on a matrix of the size of the MLP's
with twice its width: no forward can be faster than all its products at that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from benchmarks import Figure, Row, in_turn, rate, small, speedup


def rows(quick: bool = False) -> Iterator[Row]:
    with torch.inference_mode():
        for dtype in reversed(small.DTYPES):
            plain, packed, theirs = small.plain(dtype), small.packed(dtype), small.theirs()
            product = small.product(small.DTYPES[dtype])
            for batch, rounds in small.batches(quick).items():
                pixels = small.pictures(batch)
                what = f"ViT-S/16, batch {batch}, {dtype}"
                calls: dict[str, Callable[[], object]] = {
                    "packed": partial(packed, pixels),
                    "plain": partial(plain, pixels),
                    "theirs": partial(theirs, pixels),
                    "product": product,
                }
                if quick:  # the slow ones are measured at one batch
                    calls = {name: call for name, call in calls.items() if batch == 8 or name in ("packed", "product")}
                times = in_turn(calls, rounds)
                ours = rate(times, "packed", batch)
                if "plain" in times:
                    ratio = speedup(times, "packed", "plain")
                    yield Row(f"{what}: packed over plain", ours, rate(times, "plain", batch), ratio, 1.0)
                    ratio = speedup(times, "packed", "theirs")
                    yield Row(
                        f"{what}: packed over transformers float32", ours, rate(times, "theirs", batch), ratio, 1.0
                    )
                reached = batch * 1e9 * small.CONFIG.gigaflops() / times["packed"]
                limit = small.limit(times["product"])
                said = (f"{np.median(values) / 1e9:.0f} GFLOP/s" for values in (reached, limit))
                yield Row(f"{what}: share of the matrix limit", *said, Figure.of(reached / limit), 0.8)
