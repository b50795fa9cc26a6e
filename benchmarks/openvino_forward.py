"""The packed forward against OpenVINO, in bfloat16 and float32, on as many threads.

    python -m benchmarks openvino_forward      a minute on two cores

ViT-S/16 at 224 pixels. OpenVINO compiles transformers' model for latency, with its own choice of kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks import Row, in_turn, peer, rate, small, speedup

PRECISION = {"float32": "f32", "bfloat16": "bf16"}
WANTED = 1.0


class _Tokens(torch.nn.Module):
    """The network alone, with a tensor as its answer."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.model(pixels).last_hidden_state
        return tokens


def compiled(dtypes: list[str]) -> dict[str, Any]:
    """Precision -> the compiled model."""
    openvino = peer("openvino")
    example = torch.zeros(2, 3, small.SIDE, small.SIDE)
    with torch.no_grad():
        model = openvino.convert_model(_Tokens(small.theirs()), example_input=example)
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    return {
        dtype: core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": PRECISION[dtype]})
        for dtype in dtypes
    }


def rows(quick: bool = False) -> Iterator[Row]:
    models = compiled(list(small.DTYPES))
    with torch.inference_mode():
        for dtype, model in reversed(models.items()):
            packed = small.packed(dtype)
            for batch, rounds in small.batches(quick).items():
                pixels = small.pictures(batch)
                numbers = pixels.numpy()
                calls = {
                    "packed": partial(packed, pixels),
                    "openvino": partial(model, numbers),
                }
                times = in_turn(calls, rounds)
                claim = f"ViT-S/16, batch {batch}, {dtype}: packed over OpenVINO"
                said = (rate(times, name, batch) for name in calls)
                yield Row(claim, *said, speedup(times, "packed", "openvino"), WANTED)
