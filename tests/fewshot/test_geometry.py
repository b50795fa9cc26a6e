"""What the classifiers share: nearest rows, and the temperature of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from vitmsn.errors import FewShotError
from vitmsn.fewshot.geometry import choose_temperature, nearest, softmax


def test_the_temperature_is_the_best_on_platt_targets():
    rng = np.random.default_rng(1)
    scores, codes = rng.normal(size=(50, 4)), rng.integers(4, size=50)
    scores[np.arange(50), codes] += 1
    target = np.full((50, 4), 1 / 52 / 3)
    target[np.arange(50), codes] = 51 / 52

    def loss(temperature):
        return -(target * np.log(softmax(scores / temperature))).sum()

    best = choose_temperature(scores, codes)
    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01))


def test_nearest_examples_come_first_and_ties_keep_their_order():
    X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    similarity, index = nearest(X, np.array([[2.0, 0.0]]), n_neighbors=9, center=[0.0, 0.0])
    assert index.tolist() == [[0, 2, 1, 3]]
    np.testing.assert_allclose(similarity, [[1, 1, 0, -1]])
    assert nearest(X, np.empty((0, 2)), 3)[1].shape == (0, 3)
    with pytest.raises(FewShotError, match="rows of equal length"):
        nearest(X, np.ones((1, 3)))
