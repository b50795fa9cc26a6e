"""Sixteen draws: each is the mask of its seed, with its effect."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from vitmsn import robustness
from vitmsn.ui.masking import filmstrip, similarity
from vitmsn.ui.masking.controls import MaskingControls, kept_grid
from vitmsn.ui.models import RANDOM
from vitmsn.ui.shared import html
from vitmsn.ui.visits import Call


def block(seed: int) -> np.ndarray:
    return kept_grid(MaskingControls("block", 50, seed), (4, 4))


def test_each_mask_is_a_button_with_its_effect(call: Callable[..., Call]) -> None:
    encoder, picture = call().encoder, call().picture
    page = filmstrip.strip(
        encoder, "tiny", picture, lambda seed: kept_grid(MaskingControls("block", 50, seed), (4, 4)), 7
    )
    seeds = [int(seed) for seed in re.findall(r'data-seed="(\d+)"', page)]
    assert seeds == list(range(7, 23))
    kept = np.flatnonzero(kept_grid(MaskingControls("block", 50, 9), (4, 4)))
    seen = robustness.views(encoder, picture, kept[None])
    assert f'aria-label="Take seed 9: similarity {html.similar(float(seen.similarity[0]))}, ' in page
    assert seen.same is not None
    word = "still" if seen.same[0] else "now"
    assert re.search(rf"Take seed 9: similarity [\d.]+, {word} ", page)
    assert "16 masks: similarity " in page and "of them keep the answer" in page


def test_a_model_without_a_head_has_similarities_only(call: Callable[..., Call]) -> None:
    encoder, picture = call(RANDOM).encoder, call().picture
    page = filmstrip.strip(
        encoder, "random weights", picture, lambda seed: kept_grid(MaskingControls("random", 50, seed), (4, 4)), 0
    )
    assert "random weights has no feature mean" in page
    assert "still" not in page and "now " not in page and page.count("data-seed") == 16


def test_each_mask_has_plain_and_centered_similarity(call: Callable[..., Call], mean: np.ndarray) -> None:
    encoder, picture = call().encoder, call().picture
    page = filmstrip.strip(
        encoder, "tiny", picture, lambda seed: kept_grid(MaskingControls("block", 50, seed), (4, 4)), 0
    )
    kept = np.stack([np.flatnonzero(kept_grid(MaskingControls("block", 50, seed), (4, 4))) for seed in range(16)])
    seen = robustness.views(encoder, picture, kept)
    assert seen.centered is not None and seen.others is not None
    said = similarity.alike(float(seen.similarity[9]), float(seen.centered[9]))
    assert f'aria-label="Take seed 9: {said}, ' in page
    low, high = (html.similar(float(value)) for value in (seen.centered.min(), seen.centered.max()))
    assert f"similarity {low} to {high}" in page and "0 = unrelated" in page
