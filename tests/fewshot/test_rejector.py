"""None of these: strangers are turned away, and no more of one's own than was promised."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.blobs import blobs
from vitmsn.errors import FewShotError
from vitmsn.fewshot.geometry import nearest
from vitmsn.fewshot.rejector import Rejector


def test_the_rejector_turns_strangers_away_and_keeps_the_promised_share():
    rejected, turned_away = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        places = rng.normal(size=(4, 30)) * 2
        X = np.concatenate([place + rng.normal(size=(50, 30)) for place in places[:3]])
        known = np.concatenate([place + rng.normal(size=(50, 30)) for place in places[:3]])
        strangers = places[3] + rng.normal(size=(50, 30))
        rejector = Rejector(caution=0.1, center=np.zeros(30)).fit(X)
        rejected.append(rejector.reject(known).mean())
        turned_away.append(rejector.reject(strangers).mean())
        assert ((rejector.score(known) > rejector.threshold_) == rejector.reject(known)).all()
    assert abs(np.mean(rejected) - 0.1) < 0.03
    assert min(turned_away) > 0.95


def test_caution_is_the_share_of_examples_that_would_be_rejected():
    X, _ = blobs([20, 20])
    for caution in (0.0, 0.25, 0.5, 1.0):
        rejector = Rejector(caution=caution).fit(X)
        expected = {0.0: 0, 1.0: 39}.get(caution, caution * 40)
        assert (rejector.distances_ > rejector.threshold_).sum() == expected


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_distances_of_the_rejector_are_those_to_the_other_examples(k):
    X, _ = blobs([5, 6])
    distances = Rejector(n_neighbors=k).fit(X).distances_
    for i in range(len(X)):
        rest = np.delete(X, i, axis=0)
        similarity, _ = nearest(rest, X[i : i + 1], n_neighbors=k)
        np.testing.assert_allclose(distances[i], 1 - similarity[0, -1])


def test_the_rejector_needs_two_examples_and_sane_settings():
    with pytest.raises(FewShotError, match="at least 2 examples"):
        Rejector().fit(np.ones((1, 3)))
    with pytest.raises(FewShotError, match=r"caution must lie in 0\.\.1"):
        Rejector(caution=1.5).fit(np.ones((4, 3)))
