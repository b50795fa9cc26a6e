"""Two maps side by side: one scale, plain words, and a reason when no comparison is possible."""

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
def test_two_figures_with_captions(call: Callable[..., Call], kind: str, beside: str) -> None:
    html = compared(call(), AttentionControls(kind, 2, beside=beside, row=2, column=3, ratio=50))
    if kind == "relevance" and beside == "random":
        assert "neither a classifier nor prototypes" in html and "msn-notice" in html
        return
    assert html.count("<figure>") == 2 and html.count('alt="') == 2
    assert ("its own colors" in html) == (kind == "colors")
    if kind not in ("similar", "colors"):
        assert html.count("half of it falls on") == 2 and "overlap by" in html


def test_this_model_beside_random_weights(call: Callable[..., Call]) -> None:
    html = compared(call(), AttentionControls(beside="random"))
    assert "<b>This model</b>" in html and "The two attention maps overlap by " in html


def test_no_comparison_unless_chosen(call: Callable[..., Call]) -> None:
    assert compared(call(), AttentionControls()) == ""
    with pytest.raises(InputError, match="beside is 'eyes'"):
        compared(call(), AttentionControls(beside="eyes"))


def test_overlap_counts_only_patches_visible_in_both(call: Callable[..., Call]) -> None:
    visit = call()
    found = map_view.see(visit.encoder, visit.picture, AttentionControls())
    half = found.values.copy()
    half[:2] = np.nan
    said = compare.common(
        [("a", visit.encoder, visit.picture, found), ("b", visit.encoder, visit.picture, replace(found, values=half))]
    )
    assert said == "The two attention maps overlap by 100\xa0%, over the 8 patches that both see."
    half[:] = np.nan
    said = compare.common(
        [("a", visit.encoder, visit.picture, found), ("b", visit.encoder, visit.picture, replace(found, values=half))]
    )
    assert "too few to compare" in said


def test_the_other_picture_is_another_one(call: Callable[..., Call]) -> None:
    visit = call()
    shown, second, *_ = compare.names()
    visit.visit.example = shown
    ask = AttentionControls(beside="picture", other=shown)
    assert compare.another(visit, ask).other == second
    for stays in (replace(ask, other=second), replace(ask, beside=""), replace(ask, other=compare.OWN)):
        assert compare.another(visit, stays) == stays
    visit.visit.example = ""  # the visitor's own picture
    assert compare.another(visit, ask) == ask


def test_the_visitors_own_second_picture(call: Callable[..., Call]) -> None:
    visit = call()
    assert "no longer here" in compared(visit, AttentionControls(beside="picture", other=compare.OWN))
    compare.keep(visit, image.decode(Image.new("RGB", (3000, 1000), "red")))
    assert visit.visit.state(AttentionState).nbytes < 800 * 800 * 3
    assert "the other picture" in compared(visit, AttentionControls(beside="picture", other=compare.OWN))
    assert (
        tab.compare.ranges(AttentionControls(beside="picture", other=compare.OWN))["other"]["choices"][0][1]
        == compare.OWN
    )


def test_the_chosen_patch_is_never_hidden(call: Callable[..., Call]) -> None:
    for seed in range(5):
        assert "<figure>" in compared(
            call(), AttentionControls("patch", 1, row=1, column=1, beside="masks", ratio=90, seed=seed)
        )
