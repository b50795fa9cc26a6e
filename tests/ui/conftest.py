"""A tiny classifier, and calls to it as the page makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.ui import CONFIG
from vitmsn import checkpoint, image
from vitmsn.encoder import Encoder
from vitmsn.image import Picture, ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel
from vitmsn.ui.models import EMBEDDED, Models
from vitmsn.ui.visits import Call, Visit


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the event loops that Gradio's `Blocks` makes, when none runs, and never closes."""
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def remember() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", remember)
    yield
    for loop in made:
        if not loop.is_running():
            loop.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Six classes, 16 patches, confident answers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(
        folder,
        CONFIG,
        ViTMSNModel(CONFIG).state_dict(),
        classifier={"weight": torch.randn(6, 16), "bias": torch.zeros(6)},
        processor=ViTMSNImageProcessor(16).to_dict(),
        card={"not_sure_below": 0.3, "kinds": {"cat": ["tabby", "Egyptian cat"]}, "trained_on": "six pictures"},
    )
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture
def models(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> Models:
    """The menu with the tiny classifier as the embedded model; random weights have no classifier."""
    monkeypatch.setattr(checkpoint, "embedded", lambda name=EMBEDDED: Path(name))
    return Models(opener=lambda key, source: tiny if key == EMBEDDED else Encoder.random(CONFIG, device="cpu"))


@pytest.fixture
def mean(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The feature mean, (16,), that the tiny model has during the test."""
    found = np.random.default_rng(2).normal(size=16).astype(np.float32)
    monkeypatch.setattr(tiny, "feature_mean", found)
    return found


@pytest.fixture
def picture() -> Picture:
    return image.decode(Image.linear_gradient("L").convert("RGB"), name="gradient.png")


@pytest.fixture
def call(models: Models, picture: Picture) -> Callable[..., Call]:
    """`call(model=..., picture=...)`: one click of a visitor with a picture."""

    def make(model: str = EMBEDDED, picture: Picture | None = picture) -> Call:
        return Call(models, Visit("visitor", model, picture=picture, begun=True))

    return make
