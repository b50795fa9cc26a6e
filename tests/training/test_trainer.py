"""The trainer: what is trained, the running target, resume, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.pretraining import MODEL, RECIPE, noise
from vitmsn import checkpoint
from vitmsn.encoder import Encoder
from vitmsn.errors import ConfigError, DataError
from vitmsn.model import ViTMSNForImageClassification, ViTMSNModel
from vitmsn.training import pretrain
from vitmsn.training.loop import DivergedError, run
from vitmsn.training.recipe import Stage
from vitmsn.training.trainer import Trainer, export


@pytest.fixture
def pictures() -> torch.Tensor:
    return noise()


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def test_every_parameter_trains_and_the_target_is_a_running_average(pictures: torch.Tensor) -> None:
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


def prototypes_group(trainer: Trainer) -> dict[str, object]:
    """The optimizer's group that the prototypes are in."""
    for group in trainer.optimizer.param_groups:
        if any(parameter is trainer.head.prototypes for parameter in group["params"]):
            return group
    pytest.fail("the prototypes are in no group of the optimizer")


def test_prototypes_decay_only_when_asked(pictures: torch.Tensor) -> None:
    for asked, wanted in ((False, 0.0), (True, RECIPE.weight_decay[0])):
        trainer = Trainer(replace(RECIPE, decay_prototypes=asked), pictures)
        trainer.train_step()
        assert prototypes_group(trainer)["weight_decay"] == wanted


def test_prototypes_count_in_the_clipped_norm_unless_as_the_original(pictures: torch.Tensor) -> None:
    norms = []
    for clipped in (True, False):
        trainer = Trainer(replace(RECIPE, clip_prototypes=clipped, clip=1e-3), pictures)
        norms.append(trainer.train_step()["gradient_norm"])
        parts = [*trainer.model.parameters(), *trainer.head.projector.parameters()]
        rest = torch.stack([p.grad.norm() for p in parts if p.grad is not None]).norm()
        own = trainer.head.prototypes.grad
        assert own is not None
        total = (rest**2 + own.norm() ** 2).sqrt() if clipped else rest
        assert total.item() == pytest.approx(1e-3, rel=1e-3)
        assert clipped or own.norm() > 1e-2  # left as it was
    assert norms[0] > norms[1]


def test_one_mask_for_the_batch_as_in_the_original(pictures: torch.Tensor) -> None:
    keys = torch.arange(8)
    shared, own = (Trainer(replace(RECIPE, shared_mask=shared), pictures) for shared in (True, False))
    assert len(shared._keep(keys, 1).unique(dim=0)) == 1
    assert len(own._keep(keys, 1).unique(dim=0)) > 1
    first = shared._keep(keys, 1)
    shared.step = 1
    assert not torch.equal(first, shared._keep(keys, 1))


def test_a_stretched_schedule_is_cut_off(pictures: torch.Tensor) -> None:
    plain, stretched = (Trainer(replace(RECIPE, schedule_stretch=by, ema=(0.9, 1.0)), pictures) for by in (1.0, 1.5))
    for trainer in (plain, stretched):
        trainer.step = trainer.steps
        trainer._set_schedules()
    rates = [trainer.optimizer.param_groups[0]["lr"] for trainer in (plain, stretched)]
    assert rates[0] == pytest.approx(RECIPE.end_rate)
    assert rates[1] > 1.5 * RECIPE.end_rate
    decay = stretched.optimizer.param_groups[0]["weight_decay"]
    assert RECIPE.weight_decay[0] < decay < RECIPE.weight_decay[1]


def test_a_running_target_follows_in_its_statistics_too(pictures: torch.Tensor) -> None:
    trainer = Trainer(replace(RECIPE, running_target=True, ema=(0.75, 0.75)), pictures)
    before = trainer.target_head.projector.bn1.running_mean.clone()
    trainer.train_step()
    expected = 0.75 * before + 0.25 * trainer.head.projector.bn1.running_mean
    assert torch.allclose(trainer.target_head.projector.bn1.running_mean, expected)
    assert not trainer.target_head.training
    usual = Trainer(RECIPE, pictures)
    assert usual.target_head.training


def test_half_precision_is_used_in_the_backbone_only(pictures: torch.Tensor) -> None:
    full, half = (Trainer(RECIPE, pictures, precision=kind).train_step() for kind in (torch.float32, torch.bfloat16))
    assert half["loss"] != full["loss"]
    assert half["loss"] == pytest.approx(full["loss"], abs=0.05)
    assert half["mean_entropy"] == pytest.approx(full["mean_entropy"], abs=0.02)


def test_the_feature_rank_detects_collapse(pictures: torch.Tensor) -> None:
    trainer = Trainer(RECIPE, pictures)
    trainer._target_cls = torch.ones(64, 32)
    assert trainer.feature_rank() == pytest.approx(1, abs=1e-3)
    trainer._target_cls = torch.eye(32)
    assert trainer.feature_rank() == pytest.approx(32, rel=1e-6)


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


def test_a_nan_loss_stops_the_run_before_the_weights_change(pictures: torch.Tensor) -> None:
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


def test_the_exported_model_is_the_target_and_loads(pictures: torch.Tensor, tmp_path: Path) -> None:
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
    # soft colored pictures, where a crop tells which picture it is from
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


def test_a_frozen_backbone_keeps_its_weights_its_classes_and_its_card(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = ViTMSNForImageClassification(MODEL.with_labels(id2label={0: "cat", 1: "dog", 2: "owl"}))
    tensors, head = classifier.vit.state_dict(), classifier.classifier.state_dict()
    checkpoint.save(tmp_path / "start", classifier.config, tensors, head, card={"not_sure_below": 0.4})
    recipe = replace(RECIPE, freeze_backbone=True)
    found = pretrain.run(
        recipe, _folder(tmp_path), tmp_path / "run", init=tmp_path / "start", say=lambda _: None, device="cpu"
    )
    assert found is not None
    made = checkpoint.load(found.model)
    assert made.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(made.tensors[name], tensor), name
    assert torch.equal(made.classifier["weight"], head["weight"])
    assert list(made.config.id2label.values()) == ["cat", "dog", "owl"]
    assert made.card["not_sure_below"] == 0.4 and "prototypes" in made.msn_head
    with pytest.raises(ConfigError, match="keeps a backbone"):
        Trainer(recipe, noise())


def _folder(root: Path) -> Path:
    """Twenty-four pictures as files."""
    folder = root / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(noise()):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:02}.png")
    return folder
