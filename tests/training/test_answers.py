"""A teacher runs once; its answers are stored, resumed, and compared exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support.pretraining import noise
from vitmsn.errors import DataError
from vitmsn.training import answers as module
from vitmsn.training.answers import Answers, TeacherViews, ask


def teacher(pixels: torch.Tensor) -> torch.Tensor:
    """Nine classes, from the mean colors of a picture's left and right half."""
    halves = torch.cat([half.float().mean((2, 3)) for half in pixels.chunk(2, 3)], 1) / 8
    return torch.cat([halves, -halves[:, :3]], 1).softmax(1)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 4)
    monkeypatch.setattr(module, "BATCH", 10)
    monkeypatch.setattr(module, "SAVE_EVERY", 1)


def dense(answers: Answers, indices: torch.Tensor, view: int = 0) -> torch.Tensor:
    found = answers.take(indices, view)
    rows = found.rest[:, None].expand(-1, answers.num_classes).clone()
    return rows.scatter_(1, found.classes, found.probabilities)


def test_answers_match_the_teacher_on_each_view(tmp_path: Path) -> None:
    pictures, views = noise(33), TeacherViews(2, side=20)
    answers = ask(teacher, pictures, tmp_path, views, "t")
    every = torch.arange(33)
    for view in (0, 1):
        wanted = teacher(views.draw(pictures, every, view))
        found = dense(answers, every, view)
        top = wanted.topk(4).indices
        assert torch.allclose(found.gather(1, top), wanted.gather(1, top), atol=1e-3)
        assert torch.allclose(found.sum(1), torch.ones(33), atol=1e-6)
    assert not torch.allclose(dense(answers, every, 0), dense(answers, every, 1), atol=1e-3)


def test_divergence_matches_torch(tmp_path: Path) -> None:
    answers = ask(teacher, noise(), tmp_path, TeacherViews(0, side=16), "t")
    rows = torch.tensor([3, 20, 7])
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    wanted = F.kl_div(logits.log_softmax(1), dense(answers, rows), reduction="batchmean")
    assert answers.take(rows).divergence(logits) == pytest.approx(wanted.item(), abs=1e-5)


def test_an_interrupted_teacher_resumes_without_repeats(tmp_path: Path) -> None:
    pictures, asked = noise(33), []

    def tired(pixels: torch.Tensor) -> torch.Tensor:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(pixels))
        return teacher(pixels)

    with pytest.raises(KeyboardInterrupt):
        ask(tired, pictures, tmp_path, TeacherViews(0, side=16), "t")
    asked.clear()

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        asked.append(len(pixels))
        return teacher(pixels)

    resumed = ask(counting, pictures, tmp_path, TeacherViews(0, side=16), "t")
    assert asked == [10, 3]
    whole = ask(teacher, pictures, tmp_path / "whole", TeacherViews(0, side=16), "t")
    assert torch.equal(dense(resumed, torch.arange(33)), dense(whole, torch.arange(33)))
    ask(counting, pictures, tmp_path, TeacherViews(0, side=16), "t")
    assert asked == [10, 3]


@pytest.mark.parametrize("changed", ["teacher", "pictures", "views"])
def test_answers_are_kept_per_teacher_data_set_and_views(tmp_path: Path, changed: str) -> None:
    first = ask(teacher, noise(), tmp_path, TeacherViews(0, side=16), "t")
    pictures = noise().flip(0) if changed == "pictures" else noise()
    views = TeacherViews(0, side=24 if changed == "views" else 16)
    second = ask(teacher, pictures, tmp_path, views, "other" if changed == "teacher" else "t")
    assert first.folder != second.folder


def test_stored_facts_are_readable_json(tmp_path: Path) -> None:
    answers = ask(teacher, noise(), tmp_path, TeacherViews(3, side=16, scale=(0.5, 1.0)), "t")
    facts = json.loads((answers.folder / "answers.json").read_text())
    assert (facts["teacher"], facts["classes"], facts["done"]) == ("t", 9, 72)
    assert answers.views == TeacherViews(3, side=16, scale=(0.5, 1.0)) and len(answers) == 24


@pytest.mark.parametrize(
    "answer",
    [
        lambda pixels: torch.randn(len(pixels), 9),
        lambda pixels: torch.full((len(pixels), 9), 0.5),
        lambda pixels: torch.full((len(pixels) - 1, 2), 0.5),
        lambda pixels: torch.full((len(pixels),), 1.0),
        lambda pixels: torch.full((len(pixels), 2), np.nan),
    ],
)
def test_teacher_answers_must_be_probabilities(tmp_path: Path, answer: module.Answerer) -> None:
    with pytest.raises(DataError, match="row of probabilities"):
        ask(answer, noise(), tmp_path, TeacherViews(0, side=16), "t")
