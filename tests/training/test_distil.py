"""A student learns what its teacher says from masked views, resumes, and grows without changing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.pretraining import MODEL, noise
from tests.support.stripes import striped
from vitmsn.errors import ConfigError, DataError
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training import augment
from vitmsn.training.answers import Answers, TeacherViews, ask
from vitmsn.training.distil import Distiller, DistilRecipe, _features
from vitmsn.training.finetune import Stretch, logits_of
from vitmsn.training.loop import run
from vitmsn.training.student import Student, center, grow

CONFIG = MODEL.with_labels(id2label={0: "above", 1: "below", 2: "dark"})
RECIPE = DistilRecipe(
    epochs=40,
    batch_size=16,
    peak_rate=4e-3,
    warmup_epochs=2,
    scale=(0.8, 1.0),
    average=0.9,
    stretches=(Stretch(0.8, mask_ratio=0.5), Stretch(0.2)),
)


def model(seed: int = 0) -> ViTMSNForImageClassification:
    torch.manual_seed(seed)
    return ViTMSNForImageClassification(CONFIG)


def teacher(pixels: torch.Tensor) -> torch.Tensor:
    """Knows the classes of :func:`striped`, and a fourth that never comes."""
    above, below = (half.float().mean((1, 2, 3)) / 10 for half in pixels.chunk(2, 2))
    return torch.stack([above - below, below - above, 10 - above - below, above * 0 - 9], 1).softmax(1)


def answers(folder: Path, pictures: torch.Tensor, count: int = 0) -> Answers:
    return ask(teacher, pictures, folder / "answers", TeacherViews(count, side=16, scale=(0.8, 1.0)), "t")


def test_distillation_learns_from_the_teacher_alone_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    data, truth = striped(64)
    said, none = answers(tmp_path, data, 2), torch.full((64,), -1)
    whole = Distiller(RECIPE, model(), data, none, said)
    assert run(whole, tmp_path / "whole", say=lambda _: None)
    unseen, truth = striped(90, seed=1)
    student = whole.average
    student.classifier = student.teacher_head
    assert (logits_of(student, unseen).argmax(1) == truth).float().mean() > 0.9

    run(Distiller(RECIPE, model(), data, none, said), tmp_path / "parts", limit_minutes=0, say=lambda _: None)
    rest = Distiller(RECIPE, model(seed=5), data, none, said)
    run(rest, tmp_path / "parts", say=lambda _: None)
    for name, tensor in rest.average.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(whole.average.state_dict()[name], tensor), name


def test_the_loss_weights_labels_and_teacher(tmp_path: Path) -> None:
    data, labels = striped(32)
    labels[::4] = -1  # a picture without a label teaches through the teacher only
    recipe = replace(RECIPE, teacher_share=0.7, similarity=0.0)
    told = Distiller(recipe, model(), data, labels, answers(tmp_path, data)).train_step()
    assert told["loss"] == pytest.approx(0.7 * told["divergence"] + 0.3 * told["cross_entropy"], rel=1e-5)
    alone = Distiller(recipe, model(), data, torch.full((32,), -1), answers(tmp_path, data)).train_step()
    assert alone["loss"] == pytest.approx(alone["divergence"]) and "cross_entropy" not in alone


def test_soft_labels_join_the_label(tmp_path: Path) -> None:
    data, labels = striped(32)
    said, soft = answers(tmp_path, data), np.full((32, 3), 1 / 3, np.float32)

    def cross_entropy(share: float) -> float:
        recipe = replace(RECIPE, label_share=share, similarity=0.0)
        return Distiller(recipe, model(), data, labels, said, soft_labels=soft).train_step()["cross_entropy"]

    hard = Distiller(replace(RECIPE, similarity=0.0), model(), data, labels, said).train_step()["cross_entropy"]
    assert cross_entropy(1.0) == pytest.approx(hard)
    assert cross_entropy(0.25) == pytest.approx(0.25 * hard + 0.75 * cross_entropy(0.0), rel=1e-5)
    with pytest.raises(DataError, match=r"soft labels are \(31, 3\); 32 pictures of 3 classes need \(32, 3\)"):
        Distiller(RECIPE, model(), data, labels, said, soft_labels=soft[:31])


def test_mixed_batches_end_with_the_last_stretch_and_resume_alike(tmp_path: Path) -> None:
    data, labels = striped(64)
    said = answers(tmp_path, data)
    recipe = replace(RECIPE, epochs=2, cutmix=1.0)  # eight steps, the last of them in the last stretch

    def distiller() -> Distiller:
        return Distiller(recipe, model(), data, labels, said)

    whole = distiller()
    rows = [whole.train_step() for _ in range(whole.steps)]
    assert ["similarity" in row for row in rows] == [False] * 7 + [True]
    begun = distiller()
    for _ in range(3):
        begun.train_step()
    rest = distiller()
    rest.load_state_dict(begun.state_dict())
    assert [rest.train_step()["loss"] for _ in range(3)] == [row["loss"] for row in rows[3:6]]


def test_a_mixed_batch_is_matched_with_both_of_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, labels = striped(16)
    recipe = replace(RECIPE, cutmix=1.0, similarity=0.0)
    monkeypatch.setattr(augment, "cutmix", lambda views, patch, chance: (views, 0.75))
    distiller = Distiller(recipe, model(), data, labels, answers(tmp_path, data))
    indices = torch.arange(16)
    pixels, keep = distiller._draw(indices, 0, 16)
    loss, _ = distiller._loss(pixels, keep, indices, 0)
    cls = distiller._encode(pixels, keep)
    own, other = (
        distiller._matched(cls, distiller.answers.take(order), order)[0] for order in (indices, indices.flip(0))
    )
    assert loss.item() == pytest.approx(0.75 * own.item() + 0.25 * other.item(), rel=1e-5)


def test_the_similarities_join_the_loss_from_the_second_step_on(tmp_path: Path) -> None:
    data, labels = striped(64)
    distiller = Distiller(replace(RECIPE, similarity=0.3), model(), data, labels, answers(tmp_path, data))
    assert distiller.queue is not None and len(distiller.queue.embeddings) == 32  # half of the pictures
    assert distiller.train_step()["similarity"] == 0
    told = distiller.train_step()
    heads = recipe_loss(told)
    assert told["similarity"] > 0 and told["loss"] == pytest.approx(heads + 0.3 * told["similarity"], rel=1e-5)
    assert Distiller(replace(RECIPE, similarity=0.0), model(), data, labels, answers(tmp_path, data)).queue is None


def recipe_loss(told: dict[str, float]) -> float:
    return RECIPE.teacher_share * told["divergence"] + (1 - RECIPE.teacher_share) * told["cross_entropy"]


def test_the_student_sees_the_crop_that_the_teacher_saw(tmp_path: Path) -> None:
    pictures, indices = noise(), torch.arange(24)
    distiller = Distiller(
        replace(RECIPE, scale=(0.3, 1.0)),
        model(),
        pictures,
        torch.full((24,), -1),
        ask(teacher, pictures, tmp_path, TeacherViews(3, side=16, scale=(0.3, 1.0)), "t"),
    )
    kind = augment.ViewRecipe(16, (0.3, 1.0), blur=0.0, gray=0.05)
    for epoch, view in ((1, 1), (4, 1), (5, 2)):
        seen, _ = distiller._draw(indices, epoch, 16)
        assert torch.equal(seen, augment.draw_view(pictures, indices, kind, RECIPE.seed, epoch, crop=(0, view)))
    plain = augment.ViewRecipe(16, (0.3, 1.0), blur=0.0, jitter=0.0, gray=0.0)
    shown = augment.normalize(augment.draw_crop(pictures, indices, plain, 0, 2).float() / 255)
    seen = augment.draw_view(pictures, indices, plain, 9, 5, crop=(0, 2))
    assert (shown - seen).abs().mean() < 0.5 * (shown - seen.flip(0)).abs().mean()  # bicubic beside bilinear


def test_many_steps_in_half_precision_stay_close(tmp_path: Path) -> None:
    data, labels = striped(32)
    said = answers(tmp_path, data)
    exact, half = (
        Distiller(RECIPE, model(), data, labels, said, precision=precision)
        for precision in (torch.float32, torch.bfloat16)
    )
    for _ in range(3):
        assert half.train_step()["loss"] == pytest.approx(exact.train_step()["loss"], rel=0.05)


def test_a_head_for_another_teacher_is_refused(tmp_path: Path) -> None:
    data, labels = striped(32)
    with pytest.raises(ConfigError, match=r"teacher of 4 classes need \(4, 32\)"):
        Distiller(RECIPE, model(), data, labels, answers(tmp_path, data), teacher_head=nn.Linear(32, 5))
    with pytest.raises(DataError, match="answered to 32 pictures, not to these 30"):
        Distiller(RECIPE, model(), data[:30], labels[:30], answers(tmp_path, data))
    said = ask(teacher, data, tmp_path, TeacherViews(1, side=16, scale=(0.1, 1.0)), "t")
    with pytest.raises(ConfigError, match="give both the same scale"):
        Distiller(RECIPE, model(), data, labels, said)


def test_centering_moves_the_mean_and_no_answer(tmp_path: Path) -> None:
    data, _ = striped(32)
    student = Student(model(), nn.Linear(32, 4)).eval()
    nn.init.normal_(student.vit.layernorm.bias)
    before = [_features(student, data), logits_of(student, data)]
    mean = before[0].mean(0)
    center(student, mean)
    after = [_features(student, data), logits_of(student, data)]
    assert mean.norm() > 1 and after[0].mean(0).norm() < 1e-5
    assert torch.allclose(after[0], before[0] - mean, atol=1e-5) and torch.allclose(after[1], before[1], atol=1e-5)
    said = student.teacher_head(after[0])
    student.teacher_head.bias.data -= student.teacher_head.weight @ mean
    assert torch.allclose(said, student.teacher_head(before[0]), atol=1e-5)


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_growing_changes_no_output_and_new_layers_learn(layers: int) -> None:
    small = model().eval()
    grown = grow(small, layers)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert len(grown.vit.layers) == layers == grown.config.num_hidden_layers
    assert torch.allclose(grown(pixels).logits, small(pixels).logits, atol=1e-6)
    grown(pixels).logits.square().sum().backward()
    for layer in grown.vit.layers:
        assert layer.mlp.fc2.weight.grad.abs().sum() > 0
    with pytest.raises(ConfigError, match="not to 1"):
        grow(small, 1)


def test_the_rate_stays_at_its_peak_until_it_falls(tmp_path: Path) -> None:
    data, labels = striped(32)
    recipe = replace(RECIPE, epochs=100, decay_share=0.25)
    distiller = Distiller(recipe, model(), data, labels, answers(tmp_path, data))
    rates = []
    for distiller.step in (0, 2, 4, 100, 149, 150, 175, 199):
        rates.append(distiller._rate() / recipe.peak_rate)
    assert rates[:6] == pytest.approx([0, 0.5, 1, 1, 1, 1]) and 0.4 < rates[6] < 0.6 and rates[7] < 0.02
