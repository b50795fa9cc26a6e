"""`pretrain.run` in a notebook does what the command does: it writes a model, goes on, and can start from one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.pretraining import RECIPE, noise
from vitmsn import checkpoint
from vitmsn.config import ViTMSNConfig
from vitmsn.training import pretrain
from vitmsn.training.pretrain import Prepared
from vitmsn.training.recipe import PRESETS, Recipe
from vitmsn.training.trainer import Trainer

SMALL = ViTMSNConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
)


def quick(**changes: object) -> Recipe:
    return replace(PRESETS["digits"], model=SMALL, epochs=0.1, batch_size=64, focal_views=0, **changes)  # type: ignore[arg-type]


def test_a_run_writes_a_model_and_resumes(tmp_path: Path) -> None:
    said: list[str] = []
    found = pretrain.run(quick(), None, tmp_path / "run", device="cpu", dtype="float32", say=said.append)
    assert found is not None and found.finished and found.steps == found.total_steps == 2
    assert found.knn is not None and found.knn_at_the_start is not None and said
    loaded = checkpoint.load(found.model)
    assert loaded.card == found.card and found.to_dict()["steps"] == 2
    recipe = quick(peak_rate=1e-12, start_rate=1e-12, end_rate=1e-12)
    again = pretrain.run(
        recipe, None, tmp_path / "more", init=found.model, device="cpu", dtype="float32", say=said.append
    )
    assert again is not None and again.card["initialised_from"] == str(found.model)
    for name, tensor in checkpoint.load(again.model).tensors.items():
        torch.testing.assert_close(tensor, loaded.tensors[name], atol=1e-5, rtol=1e-4)


def test_a_recipe_takes_the_sizes_of_what_it_starts_from(tmp_path: Path) -> None:
    found = pretrain.run(
        quick(prototypes=7, hidden=24, output=12), None, tmp_path, device="cpu", dtype="float32", say=lambda _: None
    )
    assert found is not None
    init = pretrain.initial(found.model)
    recipe = PRESETS["digits"].starting_from(init)
    assert (recipe.prototypes, recipe.hidden, recipe.output) == (7, 24, 12)
    assert recipe.model == init.config and "embeddings.mask_token" not in init.tensors


def test_rates_keep_their_proportion() -> None:
    recipe = Recipe().with_rate(3e-3)
    assert recipe.peak_rate == 3e-3
    assert recipe.start_rate / recipe.peak_rate == pytest.approx(Recipe().start_rate / Recipe().peak_rate)
    assert recipe.end_rate / recipe.peak_rate == pytest.approx(Recipe().end_rate / Recipe().peak_rate)


def test_classes_only_in_held_out_pictures_are_not_evaluated() -> None:
    pictures = noise()
    labels, wanted = torch.tensor([0, 1] * 12), torch.tensor([2] * 12 + [0] * 12)
    found = Prepared("noise", Trainer(RECIPE, pictures), pictures, labels, pictures, wanted).knn()
    assert 0 <= found["knn"] <= 1
    nothing = Prepared("noise", Trainer(RECIPE, pictures), pictures, labels, pictures, torch.full((24,), 2))
    assert nothing.knn() == {}
