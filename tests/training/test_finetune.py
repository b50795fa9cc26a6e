"""Fine-tuning learns labels, resumes, and gives calibrated probabilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.stripes import striped
from vitmsn.config import ViTMSNConfig
from vitmsn.errors import ConfigError, DataError
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training.finetune import (
    Finetuner,
    FinetuneRecipe,
    Stretch,
    logits_of,
    standardize,
)
from vitmsn.training.loop import DivergedError, run

SMALL = ViTMSNConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=4, image_size=16
).with_labels(id2label={0: "left", 1: "right", 2: "dark"})
RECIPE = FinetuneRecipe(
    epochs=25,
    stretches=(Stretch(0.5, 8), Stretch(0.5, 16, 0.25)),
    batch_size=16,
    peak_rate=4e-3,
    warmup_epochs=2,
    scale=(0.8, 1.0),
    average=0.9,
    mixup=0.1,
)


def model(seed: int = 0) -> ViTMSNForImageClassification:
    torch.manual_seed(seed)
    return ViTMSNForImageClassification(SMALL)


def test_finetuning_learns_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    data, labels = striped(64)
    whole = Finetuner(RECIPE, model(), data, labels)
    assert run(whole, tmp_path / "whole", say=lambda _: None)
    unseen, truth = striped(90, seed=1)
    accuracy = (logits_of(whole.average, unseen).argmax(1) == truth).float().mean().item()
    assert accuracy > 0.9

    parts = Finetuner(RECIPE, model(), data, labels)
    run(parts, tmp_path / "parts", limit_minutes=0, say=lambda _: None)
    rest = Finetuner(RECIPE, model(seed=5), data, labels)
    run(rest, tmp_path / "parts", say=lambda _: None)
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(rest.average.state_dict()[name], tensor), name


def test_the_rate_falls_with_depth() -> None:
    data, labels = striped(32)
    tuner = Finetuner(RECIPE, model(), data, labels)
    scales = {name: group["scale"] for group in tuner.optimizer.param_groups for name in _names(tuner, group)}
    decay = RECIPE.layer_decay
    assert scales["classifier.weight"] == 1
    assert scales["vit.layernorm.weight"] == 1
    assert scales["vit.layers.1.mlp.fc1.weight"] == pytest.approx(decay)
    assert scales["vit.layers.0.mlp.fc1.weight"] == pytest.approx(decay**2)
    assert scales["vit.embeddings.cls_token"] == pytest.approx(decay**3)
    assert len(scales) == len(list(tuner.model.parameters()))


def test_views_grow_when_their_share_is_over() -> None:
    tuner = Finetuner(RECIPE, model(), *striped(32))
    sizes = []
    for step in (0, tuner.steps // 2 - 1, tuner.steps // 2, tuner.steps - 1):
        tuner.step = step
        sizes.append(tuner.stretch.side)
    assert sizes == [8, 8, 16, 16]


def test_batches_take_the_ratios_of_a_stretch_in_turn() -> None:
    recipe = replace(RECIPE, stretches=(Stretch(1.0, 16, (0.0, 0.75)),))
    tuner = Finetuner(recipe, model(), *striped(32))
    kept = []
    for _ in range(4):
        _, keep = tuner._draw(torch.arange(8), 0, 16)
        kept.append(None if keep is None else keep.shape[1])
        tuner.step += 1
    patches = 16  # of 4 pixels
    assert kept == [None, patches // 4, None, patches // 4]


def test_dropped_patches_are_drawn_for_each_picture_and_never_reach_the_layers() -> None:
    tuner = Finetuner(RECIPE, model(), *striped(32))
    tokens: list[torch.Size] = []
    tuner.model.vit.layers[0].register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0].shape))
    tuner.train_step()
    tuner.step = tuner.steps - 1
    tuner.train_step()
    assert [shape[1] for shape in tokens] == [1 + 4, 1 + 12]  # 8 px: all 4; 16 px: 12 of 16
    keys = torch.arange(32)
    keep = tuner._keep(keys, epoch=0, size=16, ratio=0.25)
    assert len(keep.unique(dim=0)) > 20
    assert torch.equal(keep[3:4], tuner._keep(keys[3:4], epoch=0, size=16, ratio=0.25))
    assert not torch.equal(keep, tuner._keep(keys, epoch=1, size=16, ratio=0.25))


def test_standardizing_only_shifts_and_scales_embeddings() -> None:
    data, _ = striped(300)
    ours, before = model(), model()
    standardize(ours, data)

    def embeddings(of: ViTMSNForImageClassification) -> torch.Tensor:
        of.classifier = torch.nn.Identity()
        return logits_of(of, data).double()

    after, plain = embeddings(ours), embeddings(before)
    assert torch.allclose(after.mean(0), torch.zeros(32, dtype=torch.float64), atol=1e-4)
    assert torch.allclose(after.std(0), torch.ones(32, dtype=torch.float64), atol=1e-3)
    assert torch.allclose(after * plain.std(0) + plain.mean(0), plain, atol=1e-4)


def test_invalid_settings_are_refused() -> None:
    data, labels = striped(32)
    with pytest.raises(DataError, match="32 pictures do not fill a batch of 64"):
        Finetuner(replace(RECIPE, batch_size=64), model(), data, labels)
    with pytest.raises(DataError, match="labels up to 7, for a model of 3 classes"):
        Finetuner(RECIPE, model(), data, labels.clone().fill_(7))
    with pytest.raises(ConfigError, match=r"sum to 0\.5"):
        replace(RECIPE, stretches=(Stretch(0.5, 16),))
    with pytest.raises(ConfigError, match="mask_ratio is 1"):
        replace(RECIPE, stretches=(Stretch(1.0, mask_ratio=1.0),))
    state = Finetuner(RECIPE, model(), data, labels).state_dict()
    with pytest.raises(ConfigError, match="other settings"):
        Finetuner(replace(RECIPE, seed=3), model(), data, labels).load_state_dict(state)


def _names(tuner: Finetuner, group: dict) -> list[str]:
    ours = {id(parameter) for parameter in group["params"]}
    return [name for name, parameter in tuner.model.named_parameters() if id(parameter) in ours]


def test_a_loss_that_is_no_number_stops_the_run_before_the_weights_change(tmp_path: Path) -> None:
    tuner = Finetuner(RECIPE, model(), *striped(64))
    with torch.no_grad():
        tuner.model.classifier.weight[0, 0] = float("nan")
    before = {name: tensor.clone() for name, tensor in tuner.model.vit.state_dict().items()}
    with pytest.raises(DivergedError, match=r"The loss is nan and its gradient nan at step 0 \(pictures "):
        run(tuner, tmp_path, say=lambda _: None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuner.model.vit.state_dict().items())
