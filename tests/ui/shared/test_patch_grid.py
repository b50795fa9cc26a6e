"""Which patch a click meant, and the picture as the model sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests.support.ui import event
from vitmsn import image, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.ui.models import EMBEDDED
from vitmsn.ui.shared import patch_grid
from vitmsn.ui.visits import Call


@pytest.mark.parametrize(
    ("place", "patch"),
    [([0, 0], (0, 0)), ([255, 255], (3, 3)), ([256, 256], (3, 3)), ([100, 70], (1, 1)), ([63, 64], (1, 0))],
)
def test_a_click_names_a_patch(call: Callable[..., Call], place: list[int], patch: tuple[int, int]) -> None:
    assert patch_grid.clicked(event(call(), index=place), (4, 4)) == patch  # 256 x 256 pixels, patches of 64


def test_clicks_on_large_pictures_are_scaled_to_the_shown_size(call: Callable[..., Call]) -> None:
    large = image.decode(Image.new("RGB", (1600, 400)))
    assert patch_grid.clicked(event(call(picture=large), index=[790, 10]), (4, 4)) == (0, 3)
    assert patch_grid.seen(call().encoder, large).size == (800, 200)


def test_small_pictures_are_enlarged_for_clicks(call: Callable[..., Call]) -> None:
    small = image.decode(Image.effect_noise((60, 20), 90).convert("RGB"))
    shown = patch_grid.seen(call().encoder, small)
    assert shown.size == (300, 100) and shown.getpixel((299, 4)) == small.rgb.getpixel((59, 0)), "five times, no blur"
    assert patch_grid.seen(call().encoder, small, side=160).size == (120, 40)
    assert patch_grid.seen(call().encoder, small, least=0).size == (60, 20)
    assert patch_grid.clicked(event(call(picture=small), index=[295, 5]), (4, 4)) == (0, 3)
    assert patch_grid.clicked(event(call(picture=small), index=[59, 1]), (4, 4), whole_picture=True) == (0, 3)


@pytest.mark.parametrize("index", [None, [], [1], ["a", 2], [1, 2, 3], {"x": 1}, [None, None], 7])
def test_a_click_without_a_position_is_refused(call: Callable[..., Call], index: Any) -> None:
    with pytest.raises(InputError, match="carried no place"):
        patch_grid.clicked(event(call(), index=index), (4, 4))


@pytest.mark.parametrize("index", [[-5, 0], [0, 300], [1e9, 1], [float("nan"), 1], [float("inf"), 1]])
def test_a_click_outside_the_picture_is_refused(call: Callable[..., Call], index: Any) -> None:
    with pytest.raises(InputError, match="outside the picture"):
        patch_grid.clicked(event(call(), index=index), (4, 4))


def test_cropped_parts_are_not_shown_and_not_clickable(
    call: Callable[..., Call], tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "processor", ViTMSNImageProcessor(size={"shortest_edge": 20}, crop=16))
    wide = image.decode(Image.linear_gradient("L").resize((800, 400)))  # seen: 240 to 560 across, 40 to 360 down
    assert patch_grid.seen(tiny, wide).size == (320, 320)
    assert patch_grid.clicked(event(call(picture=wide), index=[319, 0]), (4, 4)) == (0, 3)

    def whole(x: int, y: int) -> tuple[int, int]:
        return patch_grid.clicked(event(call(picture=wide), index=[x, y]), (4, 4), whole_picture=True)

    assert [whole(241, 41), whole(559, 359), whole(405, 130)] == [(0, 0), (3, 3), (1, 2)]
    for x, y in ((230, 200), (570, 200), (400, 30), (400, 370)):
        with pytest.raises(InputError, match="does not see this edge"):
            whole(x, y)


def test_the_grid_follows_the_size(tiny: Encoder) -> None:
    assert patch_grid.grid(tiny) == (4, 4)
    assert patch_grid.grid(tiny, 32) == (8, 8)


def test_a_request_without_a_picture_is_refused() -> None:
    with pytest.raises(InputError, match="`image`"):
        patch_grid.sent(None)
    with pytest.raises(ImageError, match="no longer here"):
        patch_grid.sent("/nowhere/picture.png")


def test_pictures_sent_to_the_page_are_small(call: Callable[..., Call]) -> None:
    assert max(patch_grid.seen(call(EMBEDDED).encoder, call().picture).size) <= limits.SHOWN_SIDE


def test_the_legend_shows_its_ends_and_escapes_text() -> None:
    said = patch_grid.legend((0, 0.25), "of <b>")
    assert "<span>0\xa0%</span>" in said and "<span>25\xa0%</span>" in said and "of &lt;b&gt;" in said
