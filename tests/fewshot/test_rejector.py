"""Rejector: unknown rows are rejected, and no more examples than promised."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.blobs import blobs
from vitmsn.errors import FewShotError
from vitmsn.fewshot.geometry import nearest
from vitmsn.fewshot.rejector import Rejector


def test_the_rejector_rejects_unknown_rows_and_keeps_the_promised_share():
    rejected, turned_away = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        places = rng.normal(size=(4, 30)) * 2
        X = np.concatenate([place + rng.normal(size=(50, 30)) for place in places[:3]])
        known = np.concatenate([place + rng.normal(size=(50, 30)) for place in places[:3]])
        strangers = places[3] + rng.normal(size=(50, 30))
        rejector = Rejector(caution=0.1, center=np.zeros(30)).fit(X, np.repeat([0, 1, 2], 50))
        rejected.append(rejector.reject(known).mean())
        turned_away.append(rejector.reject(strangers).mean())
        assert ((rejector.score(known) > rejector.threshold_) == rejector.reject(known)).all()
    assert np.mean(rejected) < 0.05
    assert min(turned_away) > 0.95


def test_where_classes_overlap_caution_is_the_share_of_rejected_examples():
    X, _ = blobs([40], spread=0)
    y = np.arange(40) % 2
    for caution in (0.0, 0.25, 0.5, 1.0):
        rejector = Rejector(caution=caution, center=np.full(20, -3.0)).fit(X, y)
        expected = {0.0: 0, 1.0: 39}.get(caution, caution * 40)
        assert abs((rejector.distances_ > rejector.threshold_).sum() - expected) <= 1


def test_the_threshold_lies_between_own_and_other_classes():
    X = np.concatenate([np.eye(9)[0] + 0.3 * np.eye(9)[3:6], np.eye(9)[1] + 0.3 * np.eye(9)[3:6]])
    y = [0, 0, 0, 1, 1, 1]
    own = 1 - 1 / 1.09  # between two examples of a class
    across = 1 - 0.09 / 1.09  # between the classes, where the same direction is shared
    for caution, share in ((0, 0.3), (0.5, 0.15), (1, 0)):
        rejector = Rejector(caution=caution, center=np.zeros(9)).fit(X, y)
        assert rejector.threshold_ == pytest.approx(own + (across - own) * share)
    opposite = Rejector(center=np.zeros(9)).fit(np.concatenate([X[:3], -X[:3]]), y)
    assert opposite.threshold_ < 0.4  # opposite classes are no farther apart than unrelated ones


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_rejector_measures_distances_to_other_examples(k):
    X, _ = blobs([5, 6])
    distances = Rejector(n_neighbors=k).fit(X).distances_
    for i in range(len(X)):
        rest = np.delete(X, i, axis=0)
        similarity, _ = nearest(rest, X[i : i + 1], n_neighbors=k)
        np.testing.assert_allclose(distances[i], 1 - similarity[0, -1])


def test_the_rejector_needs_two_examples_and_valid_settings():
    with pytest.raises(FewShotError, match="at least 2 examples"):
        Rejector().fit(np.ones((1, 3)))
    with pytest.raises(FewShotError, match=r"caution must lie in 0\.\.1"):
        Rejector(caution=1.5).fit(np.ones((4, 3)))
