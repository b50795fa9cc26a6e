"""All heads as buttons: each in its place, one chosen, one where the Tab key lands."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from vitmsn import draw
from vitmsn.ui.attention import head_grid
from vitmsn.ui.shared.html import share


def maps() -> np.ndarray:
    """3 layers, 2 heads, 4 x 5 patches; head 2 of layer 3 is the most focused, with its peak at row 4, column 1."""
    values = np.random.default_rng(0).uniform(0.01, 0.02, (3, 2, 4, 5)).astype(np.float32)
    values[2, 1] = 0.001
    values[2, 1, 3, 0] = 0.9
    return values


def buttons(html: str) -> list[dict[str, str]]:
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<button[^>]*data-x[^>]*>", html)]


def test_a_button_for_every_layer_of_every_head() -> None:
    found = buttons(head_grid.heads(maps(), (2, 1), 2, "CLS"))
    assert [(b["data-head"], b["data-layer"]) for b in found] == [(h, n) for n in "123" for h in "12"]
    assert found[-1]["aria-label"] == "Layer 3, head 2: peak at row 4, column 1"
    assert found[0]["style"].endswith("0.0000% 0.0000%") and found[-1]["style"].endswith("100.0000% 100.0000%")


@pytest.mark.parametrize(
    ("chosen", "layer", "pressed", "stop"),
    [((2, 1), 2, [("2", "1")], ("2", "1")), ((3, 0), 3, [], ("3", "1")), ((0, 0), 1, [], ("1", "1"))],
)
def test_one_is_chosen_and_one_takes_the_tab_key(
    chosen: tuple[int, int], layer: int, pressed: list[tuple[str, str]], stop: tuple[str, str]
) -> None:
    found = buttons(head_grid.heads(maps(), chosen, layer, "CLS"))
    place = [(b["data-layer"], b["data-head"]) for b in found]
    assert [p for p, b in zip(place, found, strict=True) if b["aria-pressed"] == "true"] == pressed
    assert [p for p, b in zip(place, found, strict=True) if b["tabindex"] == "0"] == [stop]


def test_the_sheet_holds_every_map_without_loss() -> None:
    html = head_grid.heads(maps(), (1, 1), 1, "CLS")
    data = re.search(r"url\(data:image/png;base64,([^)]*)\)", html)
    assert data
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB"))
    assert sheet.shape == (2 * 4, 3 * 5, 3)
    top = float(np.quantile(maps(), 0.98))
    np.testing.assert_allclose(sheet[4:, 10:].astype(int), draw.color(maps()[2, 1], (0, top)), atol=2)
    assert f"{share(top)}</span> <span>or more" in html


def test_heads_worth_a_look_are_buttons_with_their_reason() -> None:
    distance = np.array([[1.0, 2.0], [4.0, 3.0], [2.5, 2.0]], np.float32)
    html = head_grid.heads(maps(), (1, 1), 1, "CLS", distance=distance)
    said = re.findall(r'data-layer="(\d)" data-head="(\d)">Layer \d, head \d</button> ([^<]*)<', html)
    assert [(layer, head) for layer, head, _ in said] == [("3", "2"), ("3", "1"), ("2", "1"), ("1", "1")]
    assert said[0][2] == "most focused: half of its attention falls on 1 of 20 patches"
    assert "looks farthest: its patches attend 4.0 patches away" in said[2][2] and "looks nearest" in said[3][2]
    assert "farthest" not in head_grid.heads(maps(), (1, 1), 1, "CLS")


@pytest.mark.parametrize(
    ("order", "first"), [("entropy", ("3", "2")), ("distance", ("2", "1")), ("agreement", ("3", "1"))]
)
def test_sorted_maps(order: str, first: tuple[str, str]) -> None:
    distance = np.array([[1.0, 2.0], [4.0, 3.0], [2.5, 2.0]], np.float32)
    html = head_grid.heads(maps(), (1, 0), 1, "CLS", order, distance)
    found = buttons(html)
    assert (found[0]["data-layer"], found[0]["data-head"]) == first and found[0]["tabindex"] == "0"
    assert [(b["data-x"], b["data-y"]) for b in found] == [(x, y) for y in "12" for x in "123"]
    assert len({(b["data-layer"], b["data-head"]) for b in found}) == 6
    assert f"<span>{first[0]}.{first[1]}</span>" in html and f"{head_grid.ORDERS[order]} first" in html


def test_maps_of_zeros_can_be_drawn() -> None:
    assert "Layer 1, head 1: peak at row 1, column 1" in head_grid.heads(
        np.zeros((1, 1, 2, 2), np.float32), (1, 1), 1, "CLS"
    )
