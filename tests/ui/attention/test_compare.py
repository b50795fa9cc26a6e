"""Two maps side by side: one scale, honest words, and an answer that stays when no comparison is possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vitmsn import image
from vitmsn.errors import InputError
from vitmsn.ui.attention import compare, map_view, tab
from vitmsn.ui.attention.map_view import AttentionControls
from vitmsn.ui.attention.state import AttentionState
from vitmsn.ui.visits import Call


def compared(call: Call, ask: AttentionControls) -> str:
    return compare.compare(call, ask, map_view.see(call.encoder, call.picture, ask))


@pytest.mark.parametrize("kind", map_view.KINDS)
@pytest.mark.parametrize("beside", ["random", "picture", "masked", "masks"])
def test_two_figures_with_their_words(call: Callable[..., Call], kind: str, beside: str) -> None:
    html = compared(call(), AttentionControls(kind, 2, beside=beside, row=2, column=3, ratio=50))
    if kind == "relevance" and beside == "random":
        assert "neither a classifier nor prototypes" in html and "msn-notice" in html
        return
    assert html.count("<figure>") == 2 and html.count('alt="') == 2
    assert ("own components" in html) == (kind == "colors")
    if kind not in ("similar", "colors"):
        assert html.count("half of it on") == 2 and "in common" in html


def test_random_weights_stand_beside_this_model(call: Callable[..., Call]) -> None:
    html = compared(call(), AttentionControls(beside="random"))
    assert "<b>This model</b>" in html and "This model and random weights have " in html


def test_nothing_is_compared_unless_asked(call: Callable[..., Call]) -> None:
    assert compared(call(), AttentionControls()) == ""
    with pytest.raises(InputError, match="beside is 'eyes'"):
        compared(call(), AttentionControls(beside="eyes"))


def test_what_two_views_have_in_common_is_over_the_patches_both_see(call: Callable[..., Call]) -> None:
    visit = call()
    found = map_view.see(visit.encoder, visit.picture, AttentionControls())
    half = found.values.copy()
    half[:2] = np.nan
    said = compare.common(
        [("a", visit.encoder, visit.picture, found), ("b", visit.encoder, visit.picture, replace(found, values=half))]
    )
    assert said == "A and b have 100 % of their attention to 8 patches in common."
    half[:] = np.nan
    said = compare.common(
        [("a", visit.encoder, visit.picture, found), ("b", visit.encoder, visit.picture, replace(found, values=half))]
    )
    assert "too few to compare" in said


def test_the_visitors_own_second_picture(call: Callable[..., Call]) -> None:
    visit = call()
    assert "no longer here" in compared(visit, AttentionControls(beside="picture", other=compare.OWN))
    compare.keep(visit, image.decode(Image.new("RGB", (3000, 1000), "red")))
    assert visit.visit.state(AttentionState).nbytes < 800 * 800 * 3
    assert "the other one" in compared(visit, AttentionControls(beside="picture", other=compare.OWN))
    assert (
        tab.compare.ranges(AttentionControls(beside="picture", other=compare.OWN))["other"]["choices"][0][1]
        == compare.OWN
    )


def test_a_hidden_patch_cannot_look_so_it_stays(call: Callable[..., Call]) -> None:
    for seed in range(5):
        assert "<figure>" in compared(
            call(), AttentionControls("patch", 1, row=1, column=1, beside="masks", ratio=90, seed=seed)
        )
