"""The digits and their preset: what is trained on, what is held out, and that it learns."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from vitmsn.errors import InputError
from vitmsn.training import digits
from vitmsn.training.recipe import PRESETS


def test_every_digit_is_trained_on_or_held_out_never_both() -> None:
    (pictures, labels), (queries, wanted) = digits.load()
    assert pictures.shape == (1437, 3, 16, 16) and queries.shape == (360, 3, 16, 16)
    assert pictures.dtype == torch.uint8 and labels.dtype == torch.int64
    assert sorted([*labels.tolist(), *wanted.tolist()]) == sorted(load_digits().target.tolist())
    assert wanted.bincount().min() > 25 and labels.bincount().min() > 130
    assert torch.equal(digits.load()[1][1], wanted)


def test_digits_are_scikit_learns_pixels_in_gray() -> None:
    ((pictures, _), (queries, _)), data = digits.load(8), load_digits()
    gray = torch.cat([pictures, queries])
    assert (gray[:, 0] == gray[:, 1]).all() and (gray[:, 1] == gray[:, 2]).all()
    ink = (torch.from_numpy(data.images) * 255 / 16).round().byte()
    assert sorted(map(bytes, ink.numpy())) == sorted(map(bytes, gray[:, 0].contiguous().numpy()))


def test_too_small_a_side_is_an_error() -> None:
    with pytest.raises(InputError, match="4 pixels wide"):
        digits.load(4)


def test_the_preset_never_flips_digits() -> None:
    recipe = PRESETS["digits"]
    assert recipe.flip == 0 and recipe.target_view.flip == 0 and recipe.focal_view.flip == 0
    assert recipe.model.image_size == recipe.picture_size == 16
