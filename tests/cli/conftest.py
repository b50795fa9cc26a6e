"""A small model, a few pictures, and commands run as a person would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitmsn import checkpoint, cli
from vitmsn.config import ViTMSNConfig
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import MSNHead, ViTMSNModel

CONFIG = ViTMSNConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=16,
    patch_size=4,
    id2label={0: "ant", 1: "bee", 2: "cat"},
)
COLOURS = {"blue": (40, 40, 200), "red": (200, 40, 40)}


@pytest.fixture
def small() -> ViTMSNConfig:
    return CONFIG


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole model folder: classifier, MSN head, mean, preprocessing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "small"
    checkpoint.save(
        folder,
        CONFIG,
        ViTMSNModel(CONFIG).state_dict(),
        classifier={"weight": torch.randn(3, 16), "bias": torch.zeros(3)},
        msn_head=MSNHead(16, 8, 6, 5).state_dict(),
        feature_mean=torch.zeros(16),
        processor=ViTMSNImageProcessor(16).to_dict(),
    )
    return str(folder)


def noisy(colour: tuple[int, int, int], seed: int, side: int = 20) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 20, size=(side, side + 4, 3))
    return Image.fromarray(np.uint8(np.clip(colour + noise, 0, 255)))


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """`picture(colour, seed)`: that colour with noise, a little wider than high."""
    return noisy


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of five pictures, the red ones in a folder below."""
    for name, colour in COLOURS.items():
        folder = tmp_path / "pictures" / name / ("deeper" if name == "red" else "")
        folder.mkdir(parents=True)
        for number in range(5):
            noisy(colour, number).save(folder / f"{number}.png")
    return tmp_path / "pictures"


class Run:
    """Runs a command and expects its exit code: called, gives what it printed; ``json``, its parsed answer."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object, code: int = 0) -> str:
        assert cli.main([str(word) for word in words]) == code
        return self._capsys.readouterr().out

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)
