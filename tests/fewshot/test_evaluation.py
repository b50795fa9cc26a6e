"""Leave-one-out against separate refits, lonely examples, and learning curves."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.blobs import ALL, blobs
from vitmsn.errors import FewShotError
from vitmsn.fewshot.classifiers import CentroidClassifier, LogisticClassifier, RidgeClassifier
from vitmsn.fewshot.evaluation import (
    LearningCurve,
    LeaveOneOut,
    judge,
    learning_curve,
    leave_one_out,
    lonely,
    wilson_interval,
)


@pytest.mark.parametrize("estimator", ALL)
def test_held_out_predictions_equal_separate_refits(estimator):
    X, y = blobs([4, 5, 3])
    predictions = [estimator().fit(np.delete(X, i, 0), np.delete(y, i)).predict(X[i : i + 1])[0] for i in range(12)]
    assert leave_one_out(estimator(), X, y).predictions.tolist() == predictions


def test_the_report_adds_up_and_finds_the_wrong_label():
    X, y = blobs([6, 7, 1], spread=3)
    names = np.array(["cat", "dog", "emu"])[y]
    names[2] = "dog"
    result = leave_one_out(RidgeClassifier(), X, names)
    assert result.judged.sum() == result.total == result.confusion.sum() == 13
    assert result.right == 12 and result.accuracy == 12 / 13 and result.interval == wilson_interval(12, 13)
    assert result.confusion.tolist() == [[5, 0, 0], [1, 7, 0], [0, 0, 0]]
    np.testing.assert_allclose(result.class_accuracy, [1, 7 / 8, np.nan])
    assert result.suspects().tolist() == [2] and result.predictions[2] == "cat"
    assert result.exact and result.sentence() == (
        "12 of 13 right (92 %). On new pictures expect 67\N{EN DASH}99 %; always naming dog gets 62 %. "
        "1 alone in its class not judged."
    )


def test_wilson_interval_agrees_with_the_published_example():
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 0) == (0, 1) and wilson_interval(5, 5)[1] == 1


def judged(right, total):
    """A judgment of two classes of half the examples each, with this many predicted correctly."""
    half, none = total // 2, np.zeros(total)
    first = min(half, right)
    confusion = np.array([[first, half - first], [half - (right - first), right - first]])
    return LeaveOneOut(np.array(["bee", "wasp"]), none, none, none[:, None], none == 0, confusion, True)


def test_the_summary_compares_accuracy_with_guessing():
    assert judged(13, 20).sentence() == (
        "13 of 20 right (65 %). On new pictures expect 43\N{EN DASH}82 %; guessing gets 50 %, so this may be luck."
    )
    assert not judged(13, 20).better_than_guessing
    good = judged(19, 20)
    assert good.better_than_guessing and good.sentence().endswith("expect 76\N{EN DASH}99 %; guessing gets 50 %.")
    assert judged(10, 20).sentence().endswith("guessing gets 50 %: this is no better.")
    told = good.to_dict()
    assert (told["right"], told["total"], told["accuracy"], told["guessing"]) == (19, 20, 0.95, 0.5)
    assert told["better_than_guessing"] and told["interval"] == pytest.approx(wilson_interval(19, 20), abs=1e-6)


def test_many_logistic_examples_are_held_out_in_folds_and_reported():
    X, y = blobs([150, 80, 1])
    result = leave_one_out(LogisticClassifier(), X, y)
    assert not result.exact and result.sentence().endswith("Held out in ten folds.") and not result.judged[-1]
    assert result.total == 230 and 0.6 < result.accuracy < 1
    assert leave_one_out(LogisticClassifier(), X[:200], y[:200]).exact


def test_a_fitted_classifier_is_judged_without_fitting_again(monkeypatch):
    X, y = blobs([5, 6, 4])
    fitted = RidgeClassifier().fit(X, y)
    expected = leave_one_out(RidgeClassifier(), X, y)
    monkeypatch.setattr(RidgeClassifier, "_learn", None)
    result = judge(fitted, X, y)
    assert np.array_equal(result.confusion, expected.confusion)
    assert np.array_equal(result.probabilities, expected.probabilities)


def test_lonely_examples_are_far_from_their_own_class():
    X, y = blobs([10, 10], spread=6)
    X[3] = X[y == 0].mean(axis=0) - 40 * np.eye(20)[0]
    X[15] = X[y == 0][1]  # among the wrong ones
    assert sorted(lonely(X, y)) == [3, 15]
    assert lonely(X[:3], y[:3]).size == lonely(X[[0, 10]], y[[0, 10]]).size == lonely(X[:0], y[:0]).size == 0
    assert lonely(np.ones((8, 4)), np.repeat([0, 1], 4)).size == 0  # doubles are not lonely


def test_a_learning_curve_equals_separate_fits():
    X, y = blobs([9, 7], spread=1)
    curve = learning_curve(CentroidClassifier(), X, y)
    assert curve.shots == (1, 2, 3, 5, 7) and curve.class_accuracy.shape == (5, 2)
    np.testing.assert_allclose(curve.accuracy, curve.class_accuracy.mean(axis=1))
    shares = []  # at the last point 7 of 9 and 6 of 7 were learned, and the others ask
    for draw in range(20):
        order = np.random.default_rng([0, draw]).permutation(16)
        first, second = order[y[order] == 0], order[y[order] == 1]
        learned = np.concatenate([first[:7], second[:6]])
        model = CentroidClassifier().fit(X[learned], y[learned])
        shares.append([model.score(X[own], y[own]) for own in (first[7:], second[6:])])
    assert curve.accuracy[-1] == pytest.approx(np.mean(shares))


def test_a_learning_curve_says_whether_and_where_more_examples_help():
    X, y = blobs([13, 13, 13], dim=60, spread=0.3)
    rising = learning_curve(RidgeClassifier(), X, y)
    assert rising.helps and rising.rise > 0.05 and rising.neediest in "012"
    assert rising.sentence().endswith(f"more examples will help, most of {rising.neediest}.")
    easy = learning_curve(RidgeClassifier(), *blobs([20, 20], spread=9))
    assert not easy.helps and easy.sentence().endswith("there is little left to gain.")
    rng = np.random.default_rng(0)
    noise = learning_curve(RidgeClassifier(), rng.normal(size=(80, 5)), np.arange(80) % 2)
    assert not noise.helps and "will change little" in noise.sentence()
    with pytest.raises(FewShotError, match="needs three of one class"):
        learning_curve(RidgeClassifier(), X[[0, 1, 13, 14]], y[[0, 1, 13, 14]])


@pytest.mark.parametrize(
    ("accuracy", "error", "sentence"),
    [
        ((0.64, 0.72), 0.01, "it went from 64 % to 72 % right: more examples will help, most of bee."),
        ((0.64, 0.72), 0.05, "it went from 64 % to 72 % right, which may be chance: add some and ask again."),
        ((0.72, 0.72), 0.01, "it stayed at 72 % right. More examples like these will change little; different ones "),
        ((0.72, 0.64), 0.01, "it did not rise: 72 %, then 64 % right. More examples like these will change little; "),
        ((0.9, 0.98), 0.01, "With 8 examples of each class 98 % are right: there is little left to gain."),
    ],
)
def test_a_learning_curve_gives_one_conclusion(accuracy, error, sentence):
    share = np.array(accuracy)
    curve = LearningCurve(np.array(["bee", "wasp"]), (4, 8), share, np.full(2, error), np.stack([share, share], axis=1))
    said = curve.sentence()
    assert sentence in said and said.startswith(("From 4 to 8 examples of each class", "With 8"))
    assert ("will help" in said) == curve.helps and ("change little" in said) == (curve.rise <= 0.02)
