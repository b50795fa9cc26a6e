"""The drawn shapes: always the same, every kind as often, and hard for raw pixels."""

from __future__ import annotations

import pytest
import torch

from vitmsn.errors import InputError
from vitmsn.lowshot import knn_accuracy
from vitmsn.training import shapes
from vitmsn.training.recipe import PRESETS


def test_the_shapes_are_always_the_same_and_every_kind_is_as_frequent() -> None:
    (pictures, labels), (queries, wanted) = shapes.load()
    assert pictures.shape == (shapes.PICTURES, 3, 32, 32) and queries.shape == (shapes.HELD_OUT, 3, 32, 32)
    assert pictures.dtype == torch.uint8 and labels.dtype == torch.int64
    assert len(set(labels.bincount().tolist())) == 1 and len(wanted.unique()) == len(shapes.KINDS)
    again = shapes.load()
    assert torch.equal(pictures, again[0][0]) and torch.equal(queries, again[1][0])
    # colors and textures are those of the kind: the mean picture of a kind is not that of another
    means = torch.stack([pictures[labels == kind].float().mean(0) for kind in range(len(shapes.KINDS))])
    assert torch.cdist(means.flatten(1), means.flatten(1)).fill_diagonal_(9e9).min() > 100


def test_raw_pixels_leave_room_to_learn() -> None:
    (pictures, labels), (queries, wanted) = shapes.load()
    raw = knn_accuracy(pictures.flatten(1).numpy(), labels, queries.flatten(1).numpy(), wanted)
    assert 2 / len(shapes.KINDS) < raw < 0.55


def test_too_small_a_side_is_refused() -> None:
    with pytest.raises(InputError, match="15 pixels wide"):
        shapes.load(15)


def test_the_preset_knows_its_data() -> None:
    recipe = PRESETS["shapes"]
    assert recipe.own_data == "shapes" and recipe.picture_size == recipe.stages[0].target == 32
    assert PRESETS["digits"].own_data == "digits" and PRESETS["tiny-8-64"].own_data == ""
