"""The trainer: what moves, what follows, what resumes, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.pretrain.small import MODEL, RECIPE, noise
from vitmsn import checkpoint
from vitmsn.encoder import Encoder
from vitmsn.errors import ConfigError, DataError
from vitmsn.model import ViTMSNModel
from vitmsn.pretrain.loop import DivergedError, run
from vitmsn.pretrain.recipe import Stage
from vitmsn.pretrain.trainer import Trainer, export


@pytest.fixture
def pictures() -> torch.Tensor:
    return noise()


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def test_every_learnable_part_moves_and_the_target_only_follows(pictures: torch.Tensor) -> None:
    trainer = Trainer(RECIPE, pictures)
    before, head = copied(trainer.model), copied(trainer.head)
    target = copied(trainer.target_model)
    trainer.train_step()
    for name, parameter in [*trainer.model.named_parameters()]:
        assert not torch.equal(parameter, before[name]), name
    for name, parameter in trainer.head.named_parameters():
        if not name.endswith(("fc1.bias", "fc2.bias")):  # a bias before BatchNorm changes nothing, and gets no gradient
            assert not torch.equal(parameter, head[name]), name
    momentum = RECIPE.ema[0]
    for name, parameter in trainer.target_model.named_parameters():
        expected = momentum * target[name] + (1 - momentum) * trainer.model.get_parameter(name)
        assert torch.allclose(parameter, expected, atol=1e-7), name
        assert not parameter.requires_grad


def test_prototypes_do_not_decay_and_are_not_clipped(pictures: torch.Tensor) -> None:
    trainer = Trainer(RECIPE, pictures)
    for group in trainer.optimiser.param_groups:
        if any(parameter is trainer.head.prototypes for parameter in group["params"]):
            trainer.train_step()
            assert group["weight_decay"] == 0
            return
    pytest.fail("the prototypes are in no group of the optimiser")


def test_steps_cover_every_picture_once_an_epoch(pictures: torch.Tensor) -> None:
    trainer = Trainer(RECIPE, pictures)
    seen = []
    for step in range(trainer.steps_per_epoch):
        trainer.step = step
        seen.append(trainer.batch_indices())
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(24))
    first = seen[0]
    trainer.step = trainer.steps_per_epoch
    assert not torch.equal(trainer.batch_indices(), first)


def test_stages_follow_their_shares(pictures: torch.Tensor) -> None:
    trainer = Trainer(RECIPE, pictures)
    sizes = []
    for step in range(trainer.steps):
        trainer.step = step
        sizes.append(trainer.stage.target)
    assert sizes == [16, 16, 16, 12, 12, 12]


def test_a_state_of_another_recipe_is_refused_by_name(pictures: torch.Tensor) -> None:
    state = Trainer(RECIPE, pictures).state_dict()
    with pytest.raises(ConfigError, match="another mask_ratio, seed"):
        Trainer(replace(RECIPE, mask_ratio=0.5, seed=1), pictures).load_state_dict(state)


def test_a_loss_that_is_no_number_stops_the_run_before_it_spoils_the_weights(pictures: torch.Tensor) -> None:
    trainer = Trainer(RECIPE, pictures)
    with torch.no_grad():
        trainer.head.prototypes[0, 0] = float("nan")
    before = copied(trainer.model)
    with pytest.raises(DivergedError, match="step 0"):
        trainer.train_step()
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.model.named_parameters())


def test_masks_drop_patches_and_differ_between_pictures(
    pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[torch.Tensor | None] = []
    encode = Trainer._encode

    def spy(self: Trainer, network: ViTMSNModel, view: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        masks.append(keep)
        return encode(self, network, view, keep)

    monkeypatch.setattr(Trainer, "_encode", spy)
    Trainer(RECIPE, pictures).train_step()
    target, random, focal = masks
    assert target is None and focal is None  # focal crops are never masked
    assert random is not None
    assert random.shape == (8, round(16 * (1 - RECIPE.mask_ratio)))
    assert len({tuple(row.tolist()) for row in random}) > 1


def test_too_few_pictures_and_odd_views_are_refused(pictures: torch.Tensor) -> None:
    with pytest.raises(DataError, match="24 pictures do not fill a batch of 32"):
        Trainer(replace(RECIPE, batch_size=32), pictures)
    with pytest.raises(ConfigError, match="multiples of the patch, 4"):
        replace(RECIPE, stages=(Stage(1.0, 15, 8),))
    with pytest.raises(ConfigError, match=r"sum to 0\.9"):
        replace(RECIPE, stages=(Stage(0.9, 16, 8),))


def test_what_is_exported_is_the_target_and_loads(pictures: torch.Tensor, tmp_path: Path) -> None:
    trainer = Trainer(RECIPE, pictures)
    run(trainer, tmp_path / "run", say=lambda _: None)
    export(trainer, tmp_path / "model", {"trained_on": "noise"})
    loaded = checkpoint.load(tmp_path / "model")
    assert loaded.card == {"trained_on": "noise"}
    for name, tensor in loaded.tensors.items():
        assert torch.equal(tensor, trainer.target_model.state_dict()[name]), name
    encoder = Encoder.from_pretrained(tmp_path / "model", device="cpu", dtype="float32")
    assigned = encoder.assign([_pil(picture) for picture in pictures[:3]])
    assert assigned.shape == (3, RECIPE.prototypes)
    assert assigned.sum(1) == pytest.approx(1, abs=1e-5)
    assert encoder.feature_mean is not None
    assert encoder.feature_mean == pytest.approx(encoder.embed([_pil(p) for p in pictures]).mean(0), abs=2e-3)


def test_continued_pretraining_starts_from_the_given_weights(pictures: torch.Tensor, tmp_path: Path) -> None:
    first = Trainer(RECIPE, pictures)
    first.train_step()
    export(first, tmp_path, {})
    second = Trainer(replace(RECIPE, seed=9), pictures, init=checkpoint.load(tmp_path))
    for name, tensor in first.target_model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name
    assert torch.equal(second.head.prototypes, first.head.prototypes)


def test_views_of_a_picture_come_to_share_prototypes() -> None:
    # soft coloured pictures, where a crop tells which picture it is from
    coarse = torch.rand(320, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    data = (torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear") * 255).to(torch.uint8)
    recipe = replace(
        RECIPE,
        model=replace(MODEL, initializer_range=0.1),  # 0.02 is for widths of hundreds
        stages=(Stage(1.0, 16, 8),),
        batch_size=64,
        epochs=24,
        peak_rate=3e-3,
        ema=(0.95, 0.95),
    )
    trainer = Trainer(recipe, data)
    rows = [trainer.train_step() for _ in range(trainer.steps)]
    # below 0: an anchor says more of its own target than the mean assignment does
    assert sum(row["loss"] for row in rows[-10:]) / 10 < -0.15
    assert rows[-1]["mean_entropy"] > 0.95 * torch.tensor(16.0).log().item()  # and nothing has collapsed
    assert rows[-1]["prototypes_in_use"] >= 12


def _pil(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy())
