"""The Attention tab's controls, its map, and the sentences about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from PIL import Image

from vitmsn import image, look
from vitmsn.ui.attention import map_view, tab
from vitmsn.ui.attention.map_view import AttentionControls
from vitmsn.ui.shared import patch_grid
from vitmsn.ui.visits import Call


@pytest.mark.parametrize("kind", map_view.KINDS)
def test_the_page_shows_the_librarys_map(call: Callable[..., Call], kind: str) -> None:
    encoder, picture = call().encoder, call().picture
    found = map_view.see(encoder, picture, AttentionControls(kind, 1, 2, row=2, column=3, start=2))
    expected = look.look(encoder, picture, kind, layer=0, heads=[1], patch=6, start_layer=1)
    values = expected.values / expected.values.sum() if kind == "relevance" else expected.values
    np.testing.assert_allclose(found.values, values, rtol=1e-5)
    assert map_view.sentence(found, 1.0).endswith(".") and found.alt[0].isupper() and found.what


def test_every_kind_of_the_library_is_on_the_page() -> None:
    assert set(map_view.KINDS) == set(look.KINDS)


def test_combined_heads_are_named(call: Callable[..., Call]) -> None:
    encoder, picture = call().encoder, call().picture
    assert map_view.see(encoder, picture, AttentionControls(head=-1)).subject == "layer 2, largest of heads"
    assert map_view.see(encoder, picture, AttentionControls(some=[1, 2])).subject == "layer 2, mean of heads 1 and 2"
    assert map_view.see(encoder, picture, AttentionControls(head=1, some=[2])).subject == "layer 2, head 1"


def test_proportions_are_kept_when_asked(call: Callable[..., Call]) -> None:
    encoder = call().encoder
    wide = image.decode(Image.radial_gradient("L").convert("RGB").resize((400, 100)))
    assert map_view.see(encoder, wide, AttentionControls()).grid == (4, 4)
    assert map_view.see(encoder, wide, AttentionControls(aspect=True)).grid == (2, 8)
    assert map_view.see(encoder, wide, AttentionControls(aspect=True, size=32)).grid == (4, 16)
    visit = call(picture=wide)
    visit.event = None
    out = tab.answer(visit, AttentionControls("patch", 2, aspect=True, row=4, column=9))
    assert "row 2, column 8" in out["sentence"], "the patch nearest to the one asked for"
    assert patch_grid.proportioned(encoder, wide, 0) == (8, 32)


def test_relevance_says_when_the_model_is_not_sure(call: Callable[..., Call]) -> None:
    encoder, picture = call().encoder, call().picture
    found = map_view.see(encoder, picture, AttentionControls("relevance"))
    [result] = encoder.classify(picture)
    said = tab.doubt(encoder, found)
    assert f": {escape(result.labels[0])} (" in said
    assert ("Not sure" in said) == (not result.sure)
    assert tab.doubt(encoder, map_view.see(encoder, picture, AttentionControls("relevance", label="teapot"))) == ""


def test_the_similarity_sentence_has_its_mean_and_enough_digits(call: Callable[..., Call]) -> None:
    found = map_view.see(call().encoder, call().picture, AttentionControls("similar", 1))
    values = np.full((4, 4), 0.98)
    values[0, 0], values[1, 2], values[3, 3] = 1, 0.9991, 0.96
    said = map_view.sentence(replace(found, values=values), 1.0)
    assert "most like row 2, column 3 (similarity 0.999) and least like row 4, column 4 (0.96)" in said
    assert said.endswith("; the mean is 0.98.")


def test_a_contour_holds_half_by_default(call: Callable[..., Call]) -> None:
    found = map_view.see(call().encoder, call().picture, AttentionControls(shape="contour"))
    held = found.values[map_view.inside(found)].sum() / found.values.sum()
    assert held >= 0.5
    assert "hold 50\xa0% of it" in tab.legend(found)
    alike = map_view.see(call().encoder, call().picture, AttentionControls("similar", shape="contour"))
    assert map_view.inside(alike)[0, 0] and "similarity above" in tab.legend(alike)
