"""A lesson: the method it chooses, what it answers, and what it needs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vitmsn import fewshot
from vitmsn.errors import FewShotError
from vitmsn.fewshot import CentroidClassifier, KNNClassifier, RidgeClassifier, automatic, learn, leave_one_out


def test_automatic_follows_the_smallest_class():
    assert isinstance(automatic(1), CentroidClassifier) and isinstance(automatic(2), CentroidClassifier)
    center = np.ones(4)
    assert isinstance(automatic(3), RidgeClassifier) and automatic(3, center=center).center is center
    with pytest.raises(FewShotError, match="at least one example"):
        automatic(0)


def cloud(shots, seed=0, far=0.0):
    """Three classes of embeddings, ``far`` from a feature mean at the origin, with pixels of nothing but noise."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["a", "b", "c"], shots)
    X = np.repeat(np.eye(3, 12) * 4, shots, axis=0) + rng.normal(size=(len(y), 12)) + far
    return X.astype(np.float32), y, rng.uniform(0, 255, (len(y), 48)).astype(np.float32)


@pytest.mark.parametrize(("shots", "method"), [(1, "centroid"), (2, "centroid"), (3, "ridge"), (9, "ridge")])
def test_automatic_says_why(shots, method):
    X, y, noise = cloud(shots)
    lesson = learn(X, y, pixels=noise, feature_mean=np.zeros(12))
    assert lesson.method == method and lesson.reason == f"{shots} example{'s' * (shots > 1)} in the smallest class"
    assert lesson.shots == shots and lesson.counts == dict.fromkeys("abc", shots) and lesson.linear
    assert (lesson.rejector is None) == (shots < 3) and bool(lesson.few) == (shots < 3)
    expected = leave_one_out(automatic(shots, center=np.zeros(12) if shots < 3 else None), X, y)
    assert np.array_equal(lesson.judged.probabilities, expected.probabilities)


def test_automatic_takes_raw_pixels_where_the_model_knows_less():
    data = load_digits()
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(np.flatnonzero(data.target == k), 5, replace=False) for k in range(10)])
    pixels, y = data.data[chosen] * 15.9, data.target[chosen].astype(str)
    noise = rng.normal(size=(50, 12))
    lesson = learn(noise, y, pixels=pixels)
    assert lesson.method == "pixels" and not lesson.linear
    assert lesson.reason.startswith(f"raw pixels were right for {lesson.pixels.right} of 50 examples, the model for ")
    rest = np.setdiff1d(np.arange(len(data.data)), chosen)[:300]
    said = lesson.answer(noise[:0], pixels=data.data[rest] * 15.9)
    assert np.mean([one.closest == str(label) for one, label in zip(said, data.target[rest], strict=True)]) > 0.8
    with pytest.raises(FewShotError, match="give the queries' pixels"):
        lesson.answer(noise)
    assert learn(noise, y, "ridge", pixels=pixels).method == "ridge"  # asked for is asked for
    assert learn(noise, y).method == "ridge"


def test_with_two_examples_automatic_takes_raw_pixels_when_the_model_finds_all_alike():
    X, y, noise = cloud(2, far=40.0)
    lesson = learn(X, y, pixels=noise, feature_mean=np.zeros(12))
    assert lesson.method == "pixels" and lesson.reason.startswith("the model finds all examples alike")
    assert learn(X, y, pixels=noise).method == "centroid"  # without a feature mean nobody can tell


def test_queries_come_with_their_evidence_and_strangers_are_not_named():
    X, y, _ = cloud(8)
    lesson = learn(X, y, examples=[f"{label}{i}" for i, label in enumerate(y)])
    own, other = lesson.answer(np.stack([X[0] + 0.01, 20 * np.eye(12)[7]]), n_neighbors=2)
    assert own.label == own.closest == "a" and own.confidence == own.probabilities.max() > 0.5
    assert own.neighbours[0][0] == 0 and own.neighbours[0][1] > 0.999 and len(own.neighbours) == 2
    assert other.label is None and other.closest in "abc" and lesson.examples[0] == "a0"
    assert lesson.answer(X[:0]) == [] and lesson.curve().shots[-1] == 6 and lesson.lonely().dtype == np.intp


def test_knn_takes_its_settings_and_what_is_not_offered_is_said():
    X, y, noise = cloud(3)
    knn = learn(X, y, "knn", k=2, temperature=0.5).classifier
    assert isinstance(knn, KNNClassifier) and (knn.n_neighbors, knn.temperature) == (2, 0.5)
    with pytest.raises(FewShotError, match="no method 'magic'; choose one of auto, knn"):
        learn(X, y, "magic")
    with pytest.raises(FewShotError, match="Pictures of one class came"):
        learn(X[:3], y[:3])
    with pytest.raises(FewShotError, match="give one label, and pixels, for each"):
        learn(X, y, pixels=noise[:2])
    with pytest.raises(FewShotError, match="The method is pixels and none came"):
        learn(X, y, "pixels")


def test_the_centre_follows_the_number_of_examples():
    mean = np.ones(3)
    assert fewshot.centre(2, mean) is mean and fewshot.centre(3, mean) is None


def test_strangers_are_told_around_the_models_mean():
    X, y, _ = cloud(6, far=20.0)
    lesson = learn(X, y, feature_mean=np.zeros(12))
    assert np.array_equal(lesson.rejector.center_, np.zeros(12)) and not np.allclose(lesson.classifier.center_, 0)
    elsewhere = lesson.rejector.center_ + [20, -20] * 6
    assert lesson.answer(elsewhere[None])[0].label is None
