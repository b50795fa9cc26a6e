"""Soft labels judge every picture by layers that did not see its label."""

from __future__ import annotations

import numpy as np
import pytest

from vitmsn.errors import DataError
from vitmsn.training.soft_labels import cross_fitted


def clusters(count: int = 600, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(features (N, 8) around three corners, labels)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    return (np.eye(8)[labels] * 3 + rng.normal(0, spread, (count, 8))).astype(np.float16), labels


def test_classes_are_told_from_features_with_honest_probabilities() -> None:
    features, labels = clusters()
    found = cross_fitted(features, labels, 3)
    assert found.shape == (600, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    right = found.argmax(1) == labels
    assert right.mean() > 0.9 and found.max(1).mean() == pytest.approx(right.mean(), abs=0.04)


def test_a_wrong_label_is_not_repeated() -> None:
    features, labels = clusters(spread=0.3)
    told = labels.copy()
    told[:30] = (labels[:30] + 1) % 3
    found = cross_fitted(features, told, 3)
    assert (found.argmax(1) == labels).mean() > 0.98  # a layer that had memorized them would say the wrong ones


def test_features_without_meaning_tell_nothing() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300)
    found = cross_fitted(rng.normal(size=(300, 200)), labels, 3)  # enough dimensions to learn all labels by heart
    assert (found.argmax(1) == labels).mean() == pytest.approx(1 / 3, abs=0.12) and found.max() < 0.7


def test_pictures_without_a_label_are_judged_too_and_teach_nothing() -> None:
    features, labels = clusters(spread=0.3)
    some = labels.copy()
    some[::5] = -1
    found = cross_fitted(features, some, 3)
    assert (found[::5].argmax(1) == labels[::5]).mean() > 0.98
    moved = features.copy()
    moved[::5] = 0  # would change the layers if they were fitted to it
    np.testing.assert_allclose(np.delete(cross_fitted(moved, some, 3), np.s_[::5], 0), np.delete(found, np.s_[::5], 0))


def test_the_same_seed_gives_the_same() -> None:
    features, labels = clusters(60)
    np.testing.assert_array_equal(cross_fitted(features, labels, 3), cross_fitted(features, labels, 3))


def test_labels_that_do_not_fit_are_refused() -> None:
    features, labels = clusters(20)
    with pytest.raises(DataError, match="20 rows of features came with 20 labels up to 2, for 2 classes"):
        cross_fitted(features, labels, 2)
    with pytest.raises(DataError, match="came with 19 labels"):
        cross_fitted(features, labels[:19], 3)
    with pytest.raises(DataError, match=r"Class \d has \d labeled pictures; each of the 5 folds needs one of every"):
        cross_fitted(features, np.where(np.arange(20) < 4, labels, -1), 3)
