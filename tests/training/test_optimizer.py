"""Muon for matrices inside the layers, AdamW for all else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.stripes import striped
from vitmsn.config import ViTMSNConfig
from vitmsn.errors import ConfigError
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training import optimizer
from vitmsn.training.finetune import Finetuner, FinetuneRecipe, Stretch, logits_of
from vitmsn.training.loop import run

SMALL = ViTMSNConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=4, image_size=16
).with_labels(id2label={0: "top", 1: "bottom", 2: "dark"})


def model(seed: int = 0) -> ViTMSNForImageClassification:
    torch.manual_seed(seed)
    return ViTMSNForImageClassification(SMALL)


def groups(network: torch.nn.Module) -> list[dict[str, object]]:
    return [{"params": list(network.parameters()), "weight_decay": 0.0}]


def test_muon_takes_the_matrices_of_the_layers_only() -> None:
    network = model()
    both = optimizer.muon(groups(network), network.vit.layers, 1e-2)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    taken = {names[id(p)] for group in both.parts["muon"].param_groups for p in group["params"]}
    assert taken == {name for name, p in network.named_parameters() if name.startswith("vit.layers.") and p.ndim == 2}
    assert sum(len(group["params"]) for group in both.param_groups) == len(names)


def test_an_update_of_muon_moves_all_directions_alike() -> None:
    network = model()
    both = optimizer.muon(groups(network), network.vit.layers, 1e-2)
    weight = network.vit.layers[0].mlp.fc1.weight
    before = weight.detach().clone()
    u, _, v = torch.linalg.svd(
        torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)), full_matrices=False
    )
    weight.grad = u @ torch.logspace(0, -2, len(v)).diag() @ v  # directions of very different strength
    both.step()
    update = torch.linalg.svdvals(before - weight.detach())
    assert update.max() / update.min() < 2.5
    assert (before - weight.detach()).square().mean().sqrt() == pytest.approx(0.2 * 1e-2, rel=0.2)  # as AdamW's


def test_a_run_with_muon_and_a_falling_line_learns_and_resumes(tmp_path: Path) -> None:
    data, labels = striped(64)
    recipe = FinetuneRecipe(
        epochs=25, stretches=(Stretch(0.5, 16, 0.25), Stretch(0.5)), batch_size=16, peak_rate=1e-2, warmup_epochs=1,
        scale=(0.8, 1.0), average=0.9, muon=True, linear=True,
    )  # fmt: skip
    whole = Finetuner(recipe, model(), data, labels)
    assert run(whole, tmp_path / "whole", say=lambda _: None)
    unseen, truth = striped(90, seed=1)
    assert (logits_of(whole.average, unseen).argmax(1) == truth).float().mean() > 0.9
    run(Finetuner(recipe, model(), data, labels), tmp_path / "parts", limit_minutes=0, say=lambda _: None)
    rest = Finetuner(recipe, model(seed=5), data, labels)
    run(rest, tmp_path / "parts", say=lambda _: None)
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(rest.average.state_dict()[name], tensor), name


def test_an_old_torch_without_muon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    network = model()
    with pytest.raises(ConfigError, match=r"has no Muon; install 2\.9"):
        optimizer.muon(groups(network), network.vit.layers, 1e-2)
