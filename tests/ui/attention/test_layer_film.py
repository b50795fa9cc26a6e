"""The film of layers: its frames are the maps of the heads that the controls ask for."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitmsn import draw
from vitmsn.ui.attention import layer_film, map_view
from vitmsn.ui.attention.map_view import AttentionControls, Sight
from vitmsn.ui.visits import Call

PHOTO = Image.radial_gradient("L").convert("RGB")


def seen(call: Call, **asked: Any) -> Sight:
    return map_view.see(call.encoder, call.picture, AttentionControls(**asked))


def data(page: str) -> dict[str, Any]:
    found = re.search('data-about="([^"]*)"', page)
    assert found is not None
    about: dict[str, Any] = json.loads(html.unescape(found[1]))
    return about


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, lambda maps: maps.mean(1)),
        ({"head": 2}, lambda maps: maps[:, 1]),
        ({"head": -1}, lambda maps: maps.max(1)),
        ({"some": [2]}, lambda maps: maps[:, 1]),
    ],
    ids=str,
)
def test_heads_are_combined_as_in_the_map(
    call: Callable[..., Call], asked: dict[str, Any], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    for layer in (1, 2):
        found = seen(call(), layer=layer, **asked)
        frames = layer_film.together(found)
        np.testing.assert_allclose(frames, expected(found.maps))
        np.testing.assert_allclose(frames[layer - 1], found.values, rtol=1e-5)


def test_the_player_has_a_frame_for_each_layer_and_opens_at_the_one_shown(call: Callable[..., Call]) -> None:
    found = seen(call(), layer=1, palette="cividis")
    page = layer_film.film(found, PHOTO)
    about, frames = data(page), layer_film.together(found)
    assert 'min="1" max="2" value="1"' in page
    sheet = np.asarray(picture(about["maps"]))
    assert sheet.shape == (2 * 4, 4, 3) and about["grid"] == [4, 4]
    for layer in range(2):
        drawn = draw.color(frames[layer], draw.own_scale(frames[layer]), "cividis")
        np.testing.assert_array_equal(sheet[4 * layer :][:4], drawn)
    assert len(about["said"]) == 2
    row, column = divmod(int(frames[1].argmax()), 4)
    assert about["said"][1].startswith(f"Layer 2, mean of heads: CLS looks most at row {row + 1}, column {column + 1},")


@pytest.mark.parametrize("strength", [0, 30, 100])
def test_the_photograph_below_gives_the_same_picture_as_the_map(call: Callable[..., Call], strength: int) -> None:
    """The page draws the map over it with this strength."""
    found = seen(call(), layer=1, strength=strength)
    about = data(layer_film.film(found, PHOTO))
    assert about["strength"] == strength / 100
    below = np.asarray(picture(about["photo"]).resize(PHOTO.size), float)
    tint = np.asarray(picture(about["maps"]).crop((0, 0, 4, 4)).resize(PHOTO.size, Image.Resampling.NEAREST), float)
    mixed = below + (tint - below) * about["strength"]
    wanted = np.asarray(draw.overlay(PHOTO, layer_film.together(found)[0], strength / 100), float)
    assert np.abs(mixed - wanted).mean() < 2  # the photograph is sent as WebP
