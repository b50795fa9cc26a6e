"""Pictures from disk equal those in memory, a batch ahead; bad ones are replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pretraining import RECIPE
from vitmsn.data import open_data
from vitmsn.errors import DataError
from vitmsn.training import picture_store as module
from vitmsn.training.picture_store import Streamed, open_pictures
from vitmsn.training.trainer import Trainer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(16):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number:02}.png")
    return tmp_path


def test_from_disk_as_from_memory(folder: Path) -> None:
    held, labels = open_pictures(open_data(folder), 16, stream=False)
    streamed, same = open_pictures(open_data(folder), 16, stream=True)
    assert isinstance(held, torch.Tensor) and isinstance(streamed, Streamed)
    assert torch.equal(labels, same) and len(streamed) == len(held) == 16
    wanted, following = torch.tensor([5, 0, 11, 5]), torch.tensor([1, 2])
    streamed.prefetch(wanted)
    assert torch.equal(streamed[wanted], held[wanted])
    assert torch.equal(streamed[following], held[following])  # not what was announced
    recipe = replace(RECIPE, epochs=1)
    for recipes in (recipe, replace(recipe, seed=2)):
        ours, theirs = Trainer(recipes, streamed), Trainer(recipes, held)
        assert [ours.train_step() for _ in range(2)] == [theirs.train_step() for _ in range(2)]


def test_pictures_that_do_not_fit_in_memory_stay_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 16 * 3 * 16 * 16
    monkeypatch.setattr(module, "_free_memory", lambda: int(needed / module.SHARE_OF_MEMORY) - 8)
    assert isinstance(open_pictures(open_data(folder), 16)[0], Streamed)
    monkeypatch.setattr(module, "_free_memory", lambda: int(needed / module.SHARE_OF_MEMORY) + 8)
    assert isinstance(open_pictures(open_data(folder), 16)[0], torch.Tensor)


def test_an_undecodable_picture_is_replaced_and_named_once(folder: Path) -> None:
    (folder / "a" / "00.png").write_bytes(b"not a picture")
    streamed = Streamed(open_data(folder), 16)
    with pytest.warns(UserWarning, match=r"00\.png.*Another picture of its batch stands in for it"):
        batch = streamed[torch.tensor([0, 3])]
    again = streamed[torch.tensor([2, 0])]  # said once: a second warning would be an error here
    assert torch.equal(batch[0], batch[1]) and torch.equal(again[0], again[1])
    for path in folder.rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="None of 1 pictures"), pytest.warns(UserWarning, match="stands in"):
        streamed[torch.tensor([4])]
