"""ViT-B/16 at 224 pixels on a GPU: bfloat16 over float32, compiled kernels, and transformers' model compiled as well.

    python -m benchmarks gpu_forward           on an NVIDIA GPU; left out where there is none

From pixels in the memory of the CPU to the last tokens on the GPU, as an encoder computes. transformers' model (SDPA,
bfloat16) gets its pixels on the GPU already, and is compiled whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import Missing, Row, in_turn, peer, rate, small, speedup
from vitmsn.backend import prepare
from vitmsn.config import VARIANTS
from vitmsn.model import ViTMSNModel

CONFIG = VARIANTS["base-16"]
BATCHES = {1: 30, 32: 20, 128: 10}  # pictures -> rounds
OF_THEIRS = 0.9  # of the speed of transformers' compiled model


def ours(dtype: torch.dtype, backend: str) -> Callable[[Tensor], object]:
    torch.manual_seed(0)
    forward = prepare(ViTMSNModel(CONFIG).eval().to("cuda", dtype), backend)
    if backend == "compile" and forward.engine != "compiled":
        raise Missing(forward.engine)
    return lambda pixels: forward.compute(pixels, None, False)


def theirs() -> Callable[[Tensor], object]:
    transformers = peer("transformers")
    model = transformers.ViTMSNModel(transformers.ViTMSNConfig(**CONFIG.to_dict())).eval().to("cuda", torch.bfloat16)
    compiled: Callable[[Tensor], object] = torch.compile(model, dynamic=False)
    return compiled


def waited(call: Callable[[Tensor], object], pixels: Tensor) -> None:
    call(pixels)
    torch.cuda.synchronize()


@torch.inference_mode()
def rows(quick: bool = False) -> Iterator[Row]:
    if not torch.cuda.is_available():
        raise Missing("there is no NVIDIA GPU")
    made = {
        "float32": ours(torch.float32, "torch"),
        "bfloat16": ours(torch.bfloat16, "torch"),
        "compiled": ours(torch.bfloat16, "compile"),
    }
    reference = theirs()
    for batch, rounds in list(BATCHES.items())[: 2 if quick else None]:
        pixels = small.pictures(batch)
        calls: dict[str, Callable[[], object]] = {name: partial(waited, one, pixels) for name, one in made.items()}
        calls["theirs"] = partial(waited, reference, pixels.to("cuda", torch.bfloat16))
        times = in_turn(calls, rounds, wall=True)
        said = {name: rate(times, name, batch) for name in calls}
        for one, other, claim, least in (
            ("bfloat16", "float32", "bfloat16 over float32", 1.0),
            ("compiled", "bfloat16", "compiled over plain, bfloat16", 1.0),
            ("compiled", "theirs", "compiled over transformers' compiled, bfloat16", OF_THEIRS),
        ):
            what = f"ViT-B/16 on a GPU, batch {batch}: {claim}"
            yield Row(what, said[one], said[other], speedup(times, one, other), least)
