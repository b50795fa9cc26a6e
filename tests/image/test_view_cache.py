"""What a model sees of a picture is made once, and known by its pixels."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import noise
from vitmsn.image import Picture, ViewCache, ViTMSNImageProcessor, decode

PROCESSOR = ViTMSNImageProcessor(16)


@pytest.fixture
def resized(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """The pictures that were really resized."""
    made: list[Picture] = []
    view = ViTMSNImageProcessor.view

    def counted(self: ViTMSNImageProcessor, picture: Picture, *rest: Any) -> Image.Image:
        made.append(picture)
        return view(self, picture, *rest)

    monkeypatch.setattr(ViTMSNImageProcessor, "view", counted)
    return made


def test_it_is_what_the_processor_gives_and_made_once_for_each_size(resized: list[Picture]) -> None:
    views, picture = ViewCache(PROCESSOR, 4), decode(noise(40, 30))
    one = views.take(picture, (16, 16))
    assert views.take(picture, (16, 16)) is one and len(resized) == 1
    wide = views.take(picture, (16, 32))
    assert wide.image.size == (32, 16) and wide.digest != one.digest and len(resized) == 2
    assert np.array_equal(one.image, PROCESSOR.view(picture))


def test_the_digest_is_of_what_is_seen() -> None:
    views = ViewCache(PROCESSOR, 4)
    small, large, other = (decode(Image.new("RGB", (side, side), color)) for side, color in ((8, 1), (90, 1), (8, 2)))
    digests = [views.take(picture, (16, 16)).digest for picture in (small, large, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_picture_that_takes_the_place_of_another_in_memory_is_seen_anew() -> None:
    views = ViewCache(PROCESSOR, 4)
    first = decode(noise(20, 20, seed=1))
    place = id(first)
    before = views.take(first, (16, 16))
    del first
    gc.collect()
    second = decode(noise(20, 20, seed=2))
    views._known[id(second), (16, 16)] = views._known.pop((place, (16, 16)))  # as where its id is the same
    assert views.take(second, (16, 16)).digest != before.digest


def test_only_the_last_ones_are_kept_and_no_picture_is_held(resized: list[Picture]) -> None:
    views, pictures = ViewCache(PROCESSOR, 2), [decode(noise(20, 20, seed=seed)) for seed in range(3)]
    for picture in (*pictures, pictures[2], pictures[0]):
        views.take(picture, (16, 16))
    assert [pictures.index(picture) for picture in resized] == [0, 1, 2, 0]
    resized.clear()
    held = [weakref.ref(picture) for picture in pictures]
    del pictures, picture
    gc.collect()
    assert not any(one() for one in held)
