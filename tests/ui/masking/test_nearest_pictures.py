"""Retrieval under masking: which of the nearest pictures stay, in a sentence and as rings."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.ui import pictures
from vitmsn.encoder import Encoder
from vitmsn.nearest import NearPicture, PictureIndex
from vitmsn.ui.masking import nearest_pictures

PHOTO = Image.new("RGB", (64, 48), "red")


@pytest.fixture(scope="module")
def index(tiny: Encoder) -> PictureIndex:
    return PictureIndex(tiny, [one for color in ("red", "green", "blue") for one in pictures(color, 4)])


def near(*places: int) -> list[NearPicture]:
    return [NearPicture(place, "cat", similarity=0.5) for place in places]


@pytest.mark.parametrize(
    ("masked", "words"),
    [
        ((1, 2, 3), "With 70\xa0% hidden, 3 of the 3 nearest pictures stay, and the nearest one is the same."),
        ((1, 3, 9), "With 70\xa0% hidden, 2 of the 3 nearest pictures stay, the nearest one too."),
        ((9, 8, 1), "With 70\xa0% hidden, 1 of the 3 nearest pictures stays, but another one is nearest."),
        ((2, 1, 3), "With 70\xa0% hidden, 3 of the 3 nearest pictures stay, but another one is nearest."),
        ((7, 8, 9), "With 70\xa0% hidden, none of the 3 nearest pictures stays."),
    ],
)
def test_the_sentence_counts_what_stays(masked: tuple[int, ...], words: str) -> None:
    assert nearest_pictures.sentence(near(1, 2, 3), near(*masked), 0.7) == words


def test_with_nothing_hidden_nothing_is_counted() -> None:
    assert "Nothing is hidden" in nearest_pictures.sentence(near(1), near(1), 0)


def test_both_rows_show_their_nearest_pictures(tiny: Encoder, index: PictureIndex) -> None:
    full, masked = (index.embeddings[place : place + 1] for place in (0, 7))
    page = nearest_pictures.section(index, (PHOTO, PHOTO), (full, masked), 0.7, "tiny")
    assert page.count("<i ") == 2 * nearest_pictures.COUNT and page.count("<figure>") == 2
    expected = index.nearest(np.concatenate([full, masked]), 5)
    same = {one.place for one in expected[0]} & {one.place for one in expected[1]}
    assert page.count("msn-ringed") == len(same)
    assert "12 pieces of photographs" in page and "Credits" in page


def test_a_model_too_large_says_so() -> None:
    nothing = np.zeros((1, 16), np.float32)
    page = nearest_pictures.section(None, (PHOTO, PHOTO), (nothing, nothing), 0.7, "<b>large")
    assert "too large to compare" in page and "&lt;b&gt;large" in page
