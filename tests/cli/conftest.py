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

from tests.support import models
from vitmsn import cli
from vitmsn.cli import output
from vitmsn.config import ViTMSNConfig

CONFIG = models.small()
COLORS = {"blue": (40, 40, 200), "red": (200, 40, 40)}


@pytest.fixture(autouse=True)
def no_open_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of one test does not end the bar of another."""
    monkeypatch.setattr(output.Bar, "open", False)


@pytest.fixture
def small() -> ViTMSNConfig:
    return CONFIG


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole model folder: classifier, MSN head, mean, preprocessing."""
    return str(models.write(tmp_path_factory.mktemp("models") / "small", CONFIG, feature_mean=torch.zeros(16)))


def noisy(color: tuple[int, int, int], seed: int, side: int = 20) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 20, size=(side, side + 4, 3))
    return Image.fromarray(np.uint8(np.clip(color + noise, 0, 255)))


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """`picture(color, seed)`: that color with noise, a little wider than high."""
    return noisy


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of five pictures, the red ones in a folder below."""
    for name, color in COLORS.items():
        folder = tmp_path / "pictures" / name / ("deeper" if name == "red" else "")
        folder.mkdir(parents=True)
        for number in range(5):
            noisy(color, number).save(folder / f"{number}.png")
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
