"""The forward of torch (packed) and of OpenVINO, and what an encoder with the backend OpenVINO adds to OpenVINO alone.

    python -m benchmarks openvino_forward      two minutes on two cores

ViT-S/16 at 224 pixels, in bfloat16 and float32, on as many threads. OpenVINO alone is transformers' model as OpenVINO
converts it, compiled for latency: from prepared pixels to the last tokens. The encoder's forward starts and ends there
too, with its checks, its choice of patches, and the tokens of every layer that it can give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import Figure, Missing, Row, alone, in_turn, milliseconds, peer, rate, small, speedup
from vitmsn import extras
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.openvino_forward import PRECISIONS, library

OF_ALONE = 0.97  # of the speed of OpenVINO alone
FIRST = """
import os, sys, time, numpy, torch
torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
from benchmarks import peak_memory
from vitmsn.encoder import Encoder
encoder = Encoder.from_pretrained(None, device="cpu", backend=sys.argv[1])
memory, start = peak_memory(), time.process_time()
encoder.tokens(numpy.zeros((*encoder.input_size, 3), numpy.uint8))
print(1000 * (time.process_time() - start), peak_memory() - memory)
"""


class _Tokens(torch.nn.Module):
    """The network alone, with a tensor as its answer."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.model(pixels).last_hidden_state
        return tokens


def by_openvino() -> dict[str, Any]:
    """Precision -> transformers' model, compiled."""
    if not extras.installed("openvino"):
        raise Missing("openvino is not installed; `make bench` installs it")
    openvino = library()  # without its telemetry
    example = torch.zeros(2, 3, small.SIDE, small.SIDE)
    with torch.no_grad():
        model = openvino.convert_model(_Tokens(small.theirs()), example_input=example)
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    precisions = {dtype: PRECISIONS[small.DTYPES[dtype]] for dtype in small.DTYPES}
    return {
        dtype: core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": precision})
        for dtype, precision in precisions.items()
    }


def encoder(dtype: str, backend: str) -> Callable[..., Any]:
    """The forward of an encoder, which it times: (pixels, kept patches or None, whether every layer is wanted)."""
    processor = ViTMSNImageProcessor(small.SIDE)
    made = Encoder(small.plain(dtype), processor, name="small", dtype=small.DTYPES[dtype], backend=backend)
    if made.engine not in ("packed", "openvino"):
        raise SystemExit(f"Nothing to measure: {made.engine}.")
    return made.runner.run


def first() -> Row:
    """The embedded model's first forward in a process of its own: import, graph, comparison; processor time, memory."""
    found = {name: np.array([alone(FIRST, name).split() for _ in range(3)], float) for name in ("torch", "openvino")}
    said = {name: "{:.0f} ms, {:.0f} MB".format(*np.median(times, 0)) for name, times in found.items()}
    ratio = Figure.of(found["openvino"][:, 0] / found["torch"][:, 0])
    return Row("embedded model, first forward: OpenVINO's time over torch's", said["openvino"], said["torch"], ratio)


def single(dtype: str, rounds: int) -> Row:
    """One picture in the embedded model, whose products are small."""
    made = {
        name: Encoder.from_pretrained(None, device="cpu", dtype=small.DTYPES[dtype], backend=name)
        for name in ("torch", "openvino")
    }
    pixels = torch.randn(1, 3, *made["torch"].input_size, generator=torch.Generator().manual_seed(0))
    calls = {name: partial(encoder.runner.run, pixels, None, False) for name, encoder in made.items()}
    times = in_turn(calls, rounds, apart=True)
    said = (milliseconds(times, name) for name in calls)
    claim = f"embedded model, batch 1, {dtype}: packed over the backend OpenVINO"
    return Row(claim, *said, speedup(times, "torch", "openvino"))


def rows(quick: bool = False) -> Iterator[Row]:
    peer("transformers")
    compiled = by_openvino()
    yield first()
    for dtype in reversed(compiled):
        yield single(dtype, small.batches(quick)[1])
    for dtype, model in reversed(compiled.items()):
        packed, openvino = (encoder(dtype, backend) for backend in ("torch", "openvino"))
        for batch, rounds in small.batches(quick).items():
            pixels = small.pictures(batch)
            calls: dict[str, Callable[[], object]] = {
                "packed": partial(packed, pixels, None, False),
                "openvino": partial(openvino, pixels, None, False),
                "every layer": partial(openvino, pixels, None, True),
                "alone": partial(model, pixels.numpy()),
            }
            times = in_turn(calls, rounds, apart=True)
            said = {name: rate(times, name, batch) for name in calls}
            what = f"ViT-S/16, batch {batch}, {dtype}:"
            for ours, reference, claim, least in (
                ("packed", "openvino", "packed over the backend OpenVINO", None),
                ("openvino", "alone", "the backend OpenVINO over OpenVINO alone", OF_ALONE),
                ("every layer", "alone", "the same with every layer's tokens", None),
            ):
                ratio = speedup(times, ours, reference)
                yield Row(f"{what} {claim}", said[ours], said[reference], ratio, least)
