"""All heads as buttons: each in its place, one chosen, one where the Tab key lands."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from vitmsn import draw
from vitmsn.ui import heads


def maps() -> np.ndarray:
    """2 heads, 3 layers, 4 x 5 patches; head 2 of layer 3 is the most focused, with its peak at row 4, column 1."""
    values = np.random.default_rng(0).uniform(0.01, 0.02, (2, 3, 4, 5)).astype(np.float32)
    values[1, 2] = 0.001
    values[1, 2, 3, 0] = 0.9
    return values


def buttons(html: str) -> list[dict[str, str]]:
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<button[^>]*>", html)]


def test_a_button_for_every_layer_of_every_head() -> None:
    found = buttons(heads.heads(maps(), (2, 1), 2, "CLS"))
    assert [(b["data-head"], b["data-layer"]) for b in found] == [(h, n) for h in "12" for n in "123"]
    assert found[-1]["aria-label"] == "Layer 3, head 2: peak at row 4, column 1"
    assert found[0]["style"].endswith("0.0000% 0.0000%") and found[-1]["style"].endswith("100.0000% 100.0000%")


@pytest.mark.parametrize(
    ("chosen", "layer", "pressed", "stop"),
    [((2, 1), 2, [("2", "1")], ("2", "1")), ((3, 0), 3, [], ("3", "1")), ((0, 0), 1, [], ("1", "1"))],
)
def test_one_is_chosen_and_one_takes_the_tab_key(
    chosen: tuple[int, int], layer: int, pressed: list[tuple[str, str]], stop: tuple[str, str]
) -> None:
    found = buttons(heads.heads(maps(), chosen, layer, "CLS"))
    place = [(b["data-layer"], b["data-head"]) for b in found]
    assert [p for p, b in zip(place, found, strict=True) if b["aria-pressed"] == "true"] == pressed
    assert [p for p, b in zip(place, found, strict=True) if b["tabindex"] == "0"] == [stop]


def test_the_sheet_holds_every_map_without_loss() -> None:
    html = heads.heads(maps(), (1, 1), 1, "CLS")
    data = re.search(r"url\(data:image/png;base64,([^)]*)\)", html)
    assert data
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB"))
    assert sheet.shape == (2 * 4, 3 * 5, 3)
    top = float(np.quantile(maps(), 0.98))
    np.testing.assert_allclose(sheet[4:, 10:].astype(int), draw.colour(maps()[1, 2], (0, top)), atol=2)
    assert f"{draw.percent(top)}</span> <span>or more" in html


def test_the_most_focused_heads_are_named_with_their_reason() -> None:
    said = heads.focused(maps())
    assert said.startswith("Most focused: layer 3 head 2 (half falls on 1 of 20 patches) and layer ")


def test_maps_of_nothing_can_be_drawn() -> None:
    assert "Layer 1, head 1: peak at row 1, column 1" in heads.heads(
        np.zeros((1, 1, 2, 2), np.float32), (1, 1), 1, "CLS"
    )
