"""Recipes: the paper's numbers, settings by name, and what is refused."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from vitmsn.config import VARIANTS
from vitmsn.errors import ConfigError
from vitmsn.training.recipe import PRESETS, Recipe, Stage


@pytest.mark.parametrize(
    ("name", "mask_ratio", "epochs"),
    [
        ("small-16", 0.15, 800),
        ("base-16", 0.3, 600),
        ("base-4", 0.7, 300),
        ("large-16", 0.3, 600),
        ("large-7", 0.7, 200),
    ],
)
def test_the_papers_configurations(name: str, mask_ratio: float, epochs: int) -> None:
    recipe = PRESETS[name]
    assert recipe.model == VARIANTS[name]
    assert (recipe.mask_ratio, recipe.epochs, recipe.batch_size, recipe.prototypes) == (mask_ratio, epochs, 1024, 1024)
    assert (recipe.random_views, recipe.focal_views, recipe.hidden, recipe.output) == (1, 10, 2048, 256)
    assert (recipe.temperature, recipe.temperature * recipe.sharpening) == (0.1, 0.025)
    assert (recipe.start_rate, recipe.peak_rate, recipe.warmup_epochs) == (2e-4, 1e-3, 15)
    assert (recipe.weight_decay, recipe.ema, recipe.clip) == ((0.04, 0.4), (0.996, 1.0), 3.0)
    assert recipe.stages[0].target == 224 and abs(recipe.stages[0].focal - 96) <= 2


def test_options_of_the_original_code() -> None:
    recipe = PRESETS["small-16"]
    original = asdict(recipe.as_original())
    changed = {name for name, value in asdict(recipe).items() if original[name] != value}
    assert changed == {"shared_mask", "clip_prototypes", "schedule_stretch"}


def test_settings_are_set_by_name() -> None:
    words = {
        "me_max_weight": "5",
        "ema": "0.9,0.99",
        "sinkhorn_iterations": "0",
        "shared_mask": "true",
        "epochs": "2.5",
    }
    changed = Recipe().with_settings(words)
    assert changed == replace(
        Recipe(), me_max_weight=5.0, ema=(0.9, 0.99), sinkhorn_iterations=0, shared_mask=True, epochs=2.5
    )
    assert isinstance(changed.sinkhorn_iterations, int)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("prototype", "5", "There is no setting 'prototype'; choose among batch_size, clip"),
        ("model", "x", "There is no setting 'model'"),
        ("ema", "0.9", "ema is '0.9'; two numbers with a comma is needed"),
        ("shared_mask", "perhaps", "true or false is needed"),
        ("focal_views", "2.5", "a whole number is needed"),
        ("mask_ratio", "1", "mask_ratio is 1; between 0 and 0.99 is needed"),
        ("flip", "nan", "flip is nan; between 0 and 1 is needed"),
    ],
)
def test_wrong_settings_are_refused_by_name(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Recipe().with_settings({name: text})


def test_impossible_stages_and_empty_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sum to 0\.9"):
        Recipe(stages=(Stage(0.9, 32, 16),))
    with pytest.raises(ConfigError, match="multiples of the patch, 8"):
        Recipe(stages=(Stage(1.0, 36, 16),))
    with pytest.raises(ConfigError, match="nothing to learn from"):
        Recipe(random_views=0, focal_views=0)


def test_color_and_flip_can_be_left_out() -> None:
    plain = Recipe(color=0, flip=0)
    for view in (plain.target_view, plain.focal_view):
        assert (view.jitter, view.gray, view.blur, view.flip) == (0, 0, 0, 0)
    usual = Recipe().target_view
    assert (usual.jitter, usual.gray, usual.blur, usual.flip) == (0.8, 0.2, 0.5, 0.5)
