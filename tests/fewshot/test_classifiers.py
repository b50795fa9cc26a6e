"""Few-shot classifiers against brute-force refits, scikit-learn's contract, and simple properties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import check_estimator

from tests.support.blobs import ALL, blobs
from vitmsn.errors import FewShotError
from vitmsn.fewshot import classifiers, geometry
from vitmsn.fewshot.classifiers import CentroidClassifier, KNNClassifier, LogisticClassifier, RidgeClassifier
from vitmsn.fewshot.evaluation import leave_one_out
from vitmsn.fewshot.geometry import softmax, unit
from vitmsn.fewshot.rejector import Rejector

LINEAR = [CentroidClassifier, RidgeClassifier, LogisticClassifier]


@pytest.mark.parametrize("estimator", ALL)
def test_the_scikit_learn_contract_holds_without_exceptions(estimator, monkeypatch):
    monkeypatch.setattr(classifiers, "EXACT_REFITS", 40)  # the same code, fewer refits; a check repeats 15 rows
    check_estimator(estimator(), on_skip=None)


@pytest.mark.parametrize("center", [None, np.full(20, 2.7)], ids=["own mean", "given"])
@pytest.mark.parametrize("sizes", [[2, 3, 4], [6, 7], [1, 3, 5, 2], [30, 4, 12]], ids=str)
@pytest.mark.parametrize("estimator", ALL)
def test_held_out_scores_equal_refitting_without_the_row(estimator, sizes, center):
    X, y = blobs(sizes)
    model = estimator(center=center).fit(X, y)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        if y[i] not in y[rest]:
            assert model.held_out_scores_[i, y[i]] == -np.inf
            continue
        middle = np.mean([X[rest & (y == k)].mean(axis=0) for k in np.unique(y)], axis=0) if center is None else center
        other = clone(model)
        other.classes_ = model.classes_
        other._learn(unit(X[rest] - middle), y[rest])
        expected = other._scores(unit(X[i : i + 1] - middle))[0]
        tolerance = 5e-3 if estimator is LogisticClassifier else 1e-9  # an iterative solver from two starts
        np.testing.assert_allclose(model.held_out_scores_[i], expected, atol=tolerance)


@pytest.mark.parametrize("estimator", [KNNClassifier, CentroidClassifier, RidgeClassifier])
def test_single_precision_more_columns_than_rows_and_blocks_change_nothing(estimator, monkeypatch):
    X, y = blobs([5, 9, 6], dim=64)
    expected = leave_one_out(estimator(), X, y)
    monkeypatch.setattr(geometry, "BLOCK", 60)  # three rows at a time
    blocked = leave_one_out(estimator(), X, y)
    np.testing.assert_allclose(blocked.probabilities, expected.probabilities, atol=1e-9)
    single = leave_one_out(estimator(), X.astype(np.float32), y)
    np.testing.assert_allclose(single.probabilities, expected.probabilities, atol=1e-4)


def test_a_held_out_row_does_not_move_its_own_center():
    # One far row drags the mean of all rows towards itself; its own fold must not know.
    X, y = blobs([4, 4])
    X[0] += 1000
    middle = (X[1:4].mean(axis=0) + X[4:].mean(axis=0)) / 2
    expected = CentroidClassifier(center=middle).fit(X[1:], y[1:])
    result = CentroidClassifier().fit(X, y)
    np.testing.assert_allclose(result.held_out_scores_[0], expected._scores(expected._prepared(X[:1]))[0], atol=1e-6)


@pytest.mark.parametrize("estimator", ALL)
def test_digits_are_learned_with_calibrated_probabilities(estimator):
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    train = np.concatenate([rng.choice(np.flatnonzero(y == k), 10, replace=False) for k in range(10)])
    test = np.setdiff1d(np.arange(len(y)), train)
    model = estimator().fit(X[train], y[train])
    accuracy, confidence = model.score(X[test], y[test]), model.predict_proba(X[test]).max(axis=1).mean()
    assert accuracy > 0.85
    assert abs(accuracy - confidence) < 0.06
    low, high = leave_one_out(estimator(), X[train], y[train]).interval
    assert low - 0.02 < accuracy < high + 0.02


def test_more_correct_rows_give_higher_probabilities():
    def surest(size):
        X, y = blobs([size, size], spread=9)
        assert leave_one_out(CentroidClassifier(), X, y).accuracy == 1
        return CentroidClassifier().fit(X, y).predict_proba(X).max(axis=1).mean()

    assert 0.7 < surest(2) < surest(10) < surest(100) < 1


def test_noise_gives_flat_probabilities():
    rng = np.random.default_rng(0)
    model = CentroidClassifier().fit(rng.normal(size=(200, 50)), np.arange(200) % 4)
    assert model.predict_proba(rng.normal(size=(100, 50))).max() < 0.45


@pytest.mark.parametrize("estimator", ALL)
def test_one_example_per_class_uses_the_fixed_temperature_and_holds_out_nothing(estimator):
    X, y = blobs([1, 1, 1])
    model = estimator().fit(X, y)
    assert model.temperature_ == estimator._fallback_temperature
    assert (model.predict(X) == y).all()
    result = leave_one_out(estimator(), X, y)
    assert not result.judged.any() and result.total == 0 and np.isnan(result.accuracy)
    assert result.interval == (0, 1) and np.isnan(result.class_accuracy).all()
    assert (result.probabilities[np.arange(3), y] == 0).all()
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert result.sentence() == "Each class has a single example: add a second one to judge by leaving one out."


@pytest.mark.parametrize("estimator", LINEAR)
@pytest.mark.parametrize("sizes", [[5, 4], [4, 8, 5]], ids=str)
def test_to_linear_gives_the_same_predictions(estimator, sizes):
    X, y = blobs(sizes)
    model = estimator().fit(X, y)
    weight, bias = model.to_linear()
    rng = np.random.default_rng(3)
    queries = rng.normal(size=(500, 20)) * 4 + 3
    names = model.predict(queries)
    assert ((queries @ weight.T + bias).argmax(axis=1) == names).all() and len(set(names)) == len(sizes)
    usual = model.center_ + unit(queries - model.center_) * model.norm_
    np.testing.assert_allclose(softmax(usual @ weight.T + bias), model.predict_proba(usual), atol=1e-9)


@pytest.mark.parametrize("estimator", [CentroidClassifier, RidgeClassifier, LogisticClassifier])
def test_a_large_class_does_not_bias_against_a_small_one(estimator):
    X, y = blobs([200, 4], spread=1.0)
    truth, labels = blobs([100, 100], spread=1.0)  # the same seed: the same two places
    model = estimator().fit(X, y)
    accuracy = [(model.predict(truth[labels == k]) == k).mean() for k in (0, 1)]
    assert min(accuracy) > 0.75


def test_knn_votes_are_weighted_by_similarity():
    X = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8], [-1.0, 0.1]])
    model = KNNClassifier(n_neighbors=3, center=np.zeros(2)).fit(X, ["near", "far", "far", "far"])
    query = np.array([[1.0, 0.05]])
    assert model.predict(query) == ["near"]
    assert KNNClassifier(n_neighbors=3, temperature=9.0, center=np.zeros(2)).fit(
        X, model.classes_[model.codes_]
    ).predict(query) == ["far"]
    similarity, index = model.kneighbors(query, n_neighbors=2)
    assert index.tolist() == [[0, 1]]
    np.testing.assert_allclose(similarity[0, 0], 1 / np.hypot(1, 0.05))


@pytest.mark.parametrize("estimator", ALL)
def test_beyond_the_calibration_rows_a_seeded_sample_chooses_the_temperature(estimator, monkeypatch):
    X, y = blobs([400, 300, 300])
    whole = estimator().fit(X, y)
    monkeypatch.setattr(classifiers, "CALIBRATION_ROWS", 500)
    sample = estimator().fit(X, y)
    assert sample.held_out_scores_ is None
    assert sample.temperature_ == estimator().fit(X, y).temperature_ == pytest.approx(whole.temperature_, rel=0.4)
    result = leave_one_out(estimator(), X, y)
    assert result.probabilities.shape == (1000, 3) and result.accuracy > 0.7


@pytest.mark.parametrize(("rows", "held_out"), [(1000, 1000), (2000, 1000), (4000, 500), (10_000, 200), (50_000, 200)])
def test_the_cost_of_the_temperature_is_bounded(rows, held_out):
    chosen = RidgeClassifier()._calibration_rows(np.zeros(rows, int))
    assert len(chosen) == len(set(chosen.tolist())) == held_out and chosen.max() < rows


@pytest.mark.parametrize("estimator", ALL)
def test_examples_at_the_center_and_repeated_examples_stay_finite(estimator):
    X = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    for center in (None, np.zeros(2)):
        model = estimator(center=center).fit(X, [0, 0, 1, 1, 0])
        assert np.isfinite(model.predict_proba(X)).all() and np.isfinite(model.held_out_scores_).all()


@pytest.mark.parametrize("center", [None, np.full(20, 2.7)], ids=["own mean", "given"])
@pytest.mark.parametrize("estimator", ALL)
def test_a_weight_is_how_often_a_row_counts(estimator, center):
    X, y = blobs([4, 6, 5])
    often = np.array([1, 2, 0, 3, 1, 1, 2, 0, 1, 4, 1, 1, 1, 2, 1])
    weighted = estimator(center=center).fit(X, y, sample_weight=often)
    repeated = estimator(center=center).fit(X.repeat(often, axis=0), y.repeat(often))
    queries = np.random.default_rng(3).normal(size=(50, 20)) * 4 + 3
    tolerance = 1e-3 if estimator is LogisticClassifier else 1e-7  # an iterative solver from two starts
    np.testing.assert_allclose(weighted.predict_proba(queries), repeated.predict_proba(queries), atol=tolerance)
    assert weighted.temperature_ == pytest.approx(repeated.temperature_, rel=tolerance)
    assert weighted.norm_ == pytest.approx(repeated.norm_)
    assert weighted.held_out_scores_ is None


@pytest.mark.parametrize("estimator", ALL)
def test_a_row_of_half_the_weight_pulls_half_as_much(estimator):
    X = np.array([[1.0, 0.2], [0.4, 1.0], [0.9, -0.1], [-1.0, 0.1]])
    y, query = ["near", "far", "near", "far"], np.array([[0.8, 0.6]])

    def share(weight):
        model = estimator(center=np.zeros(2)).fit(X, y, sample_weight=[1, weight, 1, 1])
        scores = np.exp(model._scores(model._prepared(query)))
        return (scores / scores.sum())[0, list(model.classes_).index("far")]

    assert share(0.1) < share(0.5) < share(2.0)
    assert share(1e-12) == pytest.approx(share(0.0), abs=1e-6)


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("sizes", [[5, 4], [4, 8, 5]], ids=str)
def test_the_decision_function_is_the_logarithm_of_the_probabilities(estimator, sizes):
    X, y = blobs(sizes)
    model = estimator().fit(X, y)
    queries = np.random.default_rng(3).normal(size=(80, 20)) * 4 + 3
    decision, shares = model.decision_function(queries), model.predict_proba(queries)
    if len(sizes) == 2:
        assert decision.shape == (80,) and ((decision > 0) == (model.predict(queries) == 1)).all()
        np.testing.assert_allclose(1 / (1 + np.exp(-decision)), shares[:, 1], atol=1e-9)
    else:
        assert decision.shape == (80, 3)
        np.testing.assert_allclose(softmax(decision), shares, atol=1e-9)


def test_error_messages():
    X, y = blobs([3, 3])
    with pytest.raises(FewShotError, match=r"only one class came \(cat, n_samples = 6\): add an example of a second"):
        CentroidClassifier().fit(X, ["cat"] * 6)
    with pytest.raises(FewShotError, match="no example came: give at least one example of each of two classes"):
        RidgeClassifier().fit(np.empty((0, 4)), [])
    with pytest.raises(FewShotError, match=r"center has shape \(7,\), but the rows have 20 numbers"):
        CentroidClassifier(center=np.zeros(7)).fit(X, y)
    with pytest.raises(FewShotError, match="not finite"):
        CentroidClassifier(center=np.full(20, np.nan)).fit(X, y)
    for wrong in (
        KNNClassifier(n_neighbors=0),
        KNNClassifier(temperature=0),
        RidgeClassifier(alpha=0),
        LogisticClassifier(C=-1),
    ):
        with pytest.raises(FewShotError, match="came"):
            wrong.fit(X, y)
    for weight in ([1.0] * 5, np.ones((6, 2)), [1, 1, 1, 1, 1, -1], [1, 1, 1, 1, 1, np.nan]):
        with pytest.raises(FewShotError, match="give 6 numbers from 0, one for each row"):
            RidgeClassifier().fit(X, y, sample_weight=weight)
    with pytest.raises(FewShotError, match="every sample_weight is zero"):
        RidgeClassifier().fit(X, y, sample_weight=np.zeros(6))
    with pytest.raises(FewShotError, match="only one class came"):
        KNNClassifier().fit(X, y, sample_weight=[1, 1, 1, 0, 0, 0])
    with pytest.raises(FewShotError, match="Rejector came: leave_one_out judges KNNClassifier"):
        leave_one_out(Rejector(), X, y)
