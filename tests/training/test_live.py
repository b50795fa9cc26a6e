"""Watching a run: its messages, when it ends, and a map that does not flicker."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitmsn.errors import InputError
from vitmsn.training import digits
from vitmsn.training.live import aligned, plane, watch
from vitmsn.training.recipe import PRESETS
from vitmsn.training.trainer import Trainer

Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
SMALL = replace(
    PRESETS["digits"],
    model=replace(PRESETS["digits"].model, hidden_size=32, num_hidden_layers=1, intermediate_size=32),
    focal_views=1,
    epochs=1,
    batch_size=32,
    prototypes=16,
    hidden=32,
    output=16,
)


@pytest.fixture(scope="module")
def data() -> Data:
    (pictures, labels), (queries, wanted) = digits.load()
    return pictures[:320], labels[:320], queries[:40], wanted[:40]


def test_watching_yields_the_setup_then_frames(data: Data) -> None:
    pictures, labels, queries, wanted = data
    about, *frames = json.loads(json.dumps(list(watch(Trainer(SMALL, pictures), labels, queries, wanted, every=4))))
    assert about["pictures"] == 320 and about["held_out"] == 40 and about["steps"] == 10 and about["prototypes"] == 16
    assert about["labels"] == wanted.tolist() and 0.8 < about["raw"] <= 1
    assert [frame["step"] for frame in frames] == [0, 4, 8, 10]
    assert "loss" not in frames[0] and frames[0]["knn"] > 0.2
    for frame in frames[1:]:
        assert frame["loss"] == pytest.approx(frame["cross_entropy"] - frame["mean_entropy"], abs=1e-3)
        assert 1 <= frame["prototypes_in_use"] <= 16 and 0 < frame["mean_entropy"] <= math.log(16) + 1e-4
        assert np.shape(frame["xy"]) == (40, 2) and 0 <= frame["spread"] <= 1
    assert sorted(frame["seconds"] for frame in frames) == [frame["seconds"] for frame in frames]


def test_watching_changes_nothing_about_the_run(data: Data) -> None:
    pictures, labels, queries, wanted = data
    watched, alone = Trainer(SMALL, pictures), Trainer(SMALL, pictures)
    for _ in watch(watched, labels, queries, wanted, every=1):
        pass
    for _ in range(alone.steps):
        alone.train_step()
    for one, other in zip(watched.target_model.parameters(), alone.target_model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_time_limit_ends_with_a_last_frame(data: Data) -> None:
    pictures, labels, queries, wanted = data
    _, *frames = watch(Trainer(SMALL, pictures), labels, queries, wanted, every=1000, limit_seconds=0)
    assert [frame["step"] for frame in frames] == [0]


def test_watching_needs_labels(data: Data) -> None:
    pictures, labels, queries, wanted = data
    with pytest.raises(InputError, match="some pictures have none; label all"):
        next(watch(Trainer(SMALL, pictures), labels - 5, queries, wanted))


def test_the_plane_is_that_of_largest_variance_and_keeps_its_scale() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 5)) * [5, 3, 1, 1, 1]
    points = plane(rows)
    centered = rows - rows.mean(0)
    assert (points**2).sum() == pytest.approx((np.linalg.svd(centered, compute_uv=False)[:2] ** 2).sum())
    np.testing.assert_allclose(plane(np.ones((50, 5))), 0, atol=1e-12)


def test_a_rotated_map_is_aligned_with_the_last_one() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2)) * [3, 1]
    turn = np.array([[math.cos(2), -math.sin(2)], [math.sin(2), math.cos(2)]])
    for moved in (points @ turn, points * [1, -1], points[:, ::-1]):
        np.testing.assert_allclose(aligned(moved, points), points, atol=1e-9)
    assert aligned(points, None) is points
