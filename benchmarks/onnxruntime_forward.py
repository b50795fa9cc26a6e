"""The packed forward against ONNX Runtime in float32, on the file that `vitmsn convert` writes.

python -m benchmarks onnxruntime_forward       a minute on two cores, half of it for the file
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import Row, in_turn, peer, rate, small, speedup


def rows(quick: bool = False) -> Iterator[Row]:
    onnxruntime = peer("onnxruntime")
    peer("onnxscript")
    from vitmsn import onnx_export
    from vitmsn.encoder import Encoder

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small.onnx"
        onnx_export.write(file, Encoder.random(small.CONFIG, device="cpu"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    packed = small.packed("float32")
    with torch.inference_mode():
        for batch, rounds in small.batches(quick).items():
            pixels = small.pictures(batch)
            numbers = pixels.numpy()
            calls = {
                "packed": partial(packed, pixels),
                "onnxruntime": partial(session.run, ["embedding"], {given.name: numbers}),
            }
            times = in_turn(calls, rounds, apart=True)
            claim = f"ViT-S/16, batch {batch}, float32: packed over ONNX Runtime"
            said = (rate(times, name, batch) for name in calls)
            yield Row(claim, *said, speedup(times, "packed", "onnxruntime"), 1.0)
