"""The prototype wall: which prototypes stay, the cards, and the one that was opened."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.models import read, small, write
from tests.support.ui import pictures
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.nearest import PictureIndex
from vitmsn.ui.masking import prototype_wall
from vitmsn.ui.masking.prototype_wall import Standing, standing

PHOTO = Image.new("RGB", (64, 48), "red")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return read(write(tmp_path_factory.mktemp("wall") / "model", small(initializer_range=0.3)))


@pytest.fixture(scope="module")
def index(encoder: Encoder) -> PictureIndex:
    return PictureIndex(encoder, [one for color in ("red", "green", "blue") for one in pictures(color, 4)])


def test_standing_compares_the_first_prototypes_of_both_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prototype_wall, "LEADING", 2)
    found = standing(np.array([0.1, 0.5, 0.3, 0.1]), np.array([0.1, 0.2, 0.1, 0.6]))
    assert found == Standing(stays=(1,), lost=(2,), new=(3,)) and found.numbers == (1, 2, 3)
    assert [found.of(number) for number in range(4)] == ["", "stays", "lost", "new"]


def test_the_sentence_counts_the_prototypes_that_stay() -> None:
    found = Standing(stays=(1, 2), lost=(3,), new=(4,))
    assert prototype_wall.sentence(found, 0.7) == "With 70\xa0% hidden, 2 of your picture's first 3 prototypes stay."
    one = Standing(stays=(1,), lost=(3,), new=(4,))
    assert prototype_wall.sentence(one, 0.5) == "With 50\xa0% hidden, 1 of your picture's first 2 prototypes stays."
    assert "watch which of them stay" in prototype_wall.sentence(found, 0)


def test_the_wall_is_one_stop_for_the_tab_key(encoder: Encoder, index: PictureIndex) -> None:
    views = index.embeddings[:1], index.embeddings[5:6]
    page = prototype_wall.wall(encoder, index, views, PHOTO, 0.7, "mine")
    numbers = [int(number) for number in re.findall(r'data-number="(\d+)"', page)]
    full, masked = encoder.assign_embeddings(np.concatenate(views))
    found = standing(full, masked)
    assert numbers[: len(found.numbers)] == list(found.numbers)
    assert len(numbers) == len(set(numbers)) and set(index.prototypes_in_use()) <= set(numbers)
    assert page.count('tabindex="0"') == 1 and page.count('tabindex="-1"') == len(numbers) - 1
    assert page.count(", stays, ") == len(found.stays)


def test_without_prototypes_the_wall_says_so(tmp_path: Path) -> None:
    bare = read(write(tmp_path / "bare", small(), msn=False))
    nothing = np.zeros((1, 16), np.float32)
    page = prototype_wall.wall(bare, None, (nothing, nothing), PHOTO, 0.7, "<b>bare")
    assert "&lt;b&gt;bare has no prototypes" in page and "<button" not in page


def test_an_opened_prototype_shows_its_pictures_large(index: PictureIndex) -> None:
    number = index.prototypes_in_use()[0]
    page = prototype_wall.opened(index, number)
    strip = index.prototype(number, prototype_wall.LARGE)
    assert page.count("<figure>") == len(strip.pictures) == 8
    assert f"Prototype {number + 1} is the first of {strip.first} picture" in page
    for wrong in (5, -1, None, "0", 0.5):
        with pytest.raises(InputError, match="prototype is"):
            prototype_wall.opened(index, wrong)
