"""Eight visitors whose pictures arrive at once: forwards that are shared over one after another.

    python -m benchmarks waiting_visitors      a minute on two cores

The embedded model and ViT-S/16 in float32, each visitor in a thread of its own with pictures that no cache knows. An
encoder lets those who wait for a forward go through the next one together; here another one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import numpy as np
import torch

from benchmarks import Row, in_turn, rate, small, speedup
from vitmsn.encoder import Encoder
from vitmsn.encodings import Encodings, _Wanted
from vitmsn.image import ViTMSNImageProcessor, decode

VISITORS, PICTURES = 8, 4  # of each visitor, one after another


class _OneByOne(Encodings):
    def _with_those_waiting(self, wanted: _Wanted) -> list[_Wanted]:
        return [wanted]


def made(kind: type[Encodings], embedded: bool) -> Encoder:
    if embedded:
        encoder = Encoder.from_pretrained(None, device="cpu", dtype="float32")
    else:
        encoder = Encoder(small.plain(), ViTMSNImageProcessor(small.SIDE), name="small", dtype=torch.float32)
    encoder._encodings = kind(encoder.runner, encoder.processor)
    return encoder


def visit(encoder: Encoder, side: int, seeds: Iterator[int], visitors: ThreadPoolExecutor) -> None:
    """Each visitor embeds its pictures; the time of making them is in it, and small."""
    first = next(seeds) * VISITORS

    def one(number: int) -> None:
        rng = np.random.default_rng(first + number)
        for _ in range(PICTURES):
            encoder.embed(decode(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)))

    list(visitors.map(one, range(VISITORS)))


def rows(quick: bool = False) -> Iterator[Row]:
    with ThreadPoolExecutor(VISITORS) as visitors:
        for name, embedded, side, least in (("embedded model", True, 64, 1.0), ("ViT-S/16", False, small.SIDE, 0.95)):
            seeds = count()
            calls = {
                what: partial(visit, made(kind, embedded), side, seeds, visitors)
                for what, kind in (("together", Encodings), ("one by one", _OneByOne))
            }
            times = in_turn(calls, 3 if quick else 8, wall=True)
            said = (rate(times, what, VISITORS * PICTURES) for what in calls)
            claim = f"{VISITORS} visitors at once, {name}: forwards shared over one after another"
            yield Row(claim, *said, speedup(times, "together", "one by one"), least)
