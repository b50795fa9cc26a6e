"""A lesson: its method, its predictions, and its requirements."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vitmsn import fewshot
from vitmsn.errors import FewShotError
from vitmsn.fewshot import (
    NONE,
    NOT_SURE,
    CentroidClassifier,
    KNNClassifier,
    RidgeClassifier,
    automatic,
    learn,
    leave_one_out,
)


def test_automatic_depends_on_the_smallest_class():
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
def test_automatic_gives_its_reason(shots, method):
    X, y, noise = cloud(shots)
    lesson = learn(X, y, pixels=noise, feature_mean=np.zeros(12))
    assert lesson.method == method and lesson.reason == f"{shots} example{'s' * (shots > 1)} in the smallest class"
    assert lesson.shots == shots and lesson.counts == dict.fromkeys("abc", shots) and lesson.linear
    assert (lesson.rejector is None) == (shots < 3) and bool(lesson.few) == (shots < 3)
    expected = leave_one_out(automatic(shots, center=np.zeros(12) if shots < 3 else None), X, y)
    assert np.array_equal(lesson.judged.probabilities, expected.probabilities)


def test_automatic_takes_raw_pixels_where_they_do_better():
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


def test_with_two_examples_automatic_takes_raw_pixels_when_embeddings_are_nearly_equal():
    X, y, noise = cloud(2, far=40.0)
    lesson = learn(X, y, pixels=noise, feature_mean=np.zeros(12))
    assert lesson.method == "pixels" and lesson.reason.startswith("the model finds all examples alike")
    assert learn(X, y, pixels=noise).method == "centroid"  # without a feature mean nobody can tell


def test_predictions_list_neighbors_and_unknown_queries_get_no_label():
    X, y, _ = cloud(8)
    lesson = learn(X, y, examples=[f"{label}{i}" for i, label in enumerate(y)])
    own, other = lesson.answer(np.stack([X[0] + 0.01, 20 * np.eye(12)[7]]), n_neighbors=2)
    assert own.label == own.closest == "a" and own.probability == own.probabilities.max() > 0.5
    assert own.neighbors[0][0] == 0 and own.neighbors[0][1] > 0.999 and len(own.neighbors) == 2
    assert other.label is None and other.closest in "abc" and lesson.examples[0] == "a0"
    assert other.reason == NONE and other.distance > other.limit == lesson.rejector.threshold_ > own.distance
    assert other.sentence().startswith(f"None of these: distance {other.distance:.2f} to the nearest example, limit ")
    assert f"{100 * other.probability:.0f} %" not in other.sentence() and own.reason == ""
    assert own.sentence() == f"a ({100 * own.probability:.0f} %)."
    assert lesson.answer(X[:0]) == [] and lesson.curve().shots[-1] == 6 and lesson.lonely().dtype == np.intp


def test_knn_takes_its_settings_and_invalid_ones_are_refused():
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


def test_the_center_depends_on_the_number_of_examples():
    mean = np.ones(3)
    assert fewshot.choose_center(2, mean) is mean and fewshot.choose_center(3, mean) is None


def test_the_rejector_centers_on_the_feature_mean():
    X, y, _ = cloud(6, far=20.0)
    lesson = learn(X, y, feature_mean=np.zeros(12))
    assert np.array_equal(lesson.rejector.center_, np.zeros(12)) and not np.allclose(lesson.classifier.center_, 0)
    elsewhere = lesson.rejector.center_ + [20, -20] * 6
    assert lesson.answer(elsewhere[None])[0].label is None


def test_an_answer_within_the_noise_of_guessing_is_not_sure():
    X, y, _ = cloud(6)
    two = y != "c"
    lesson = learn(X[two], y[two])
    assert lesson.sure_from == pytest.approx(0.5 + 0.5 / np.sqrt(12))
    [sure] = lesson.answer(X[:1])
    assert sure.label == "a" and sure.probability >= lesson.sure_from
    lesson = replace(lesson, rejector=None)
    neither = lesson.classifier.center_ + 4 * np.eye(12, dtype=np.float32)[3:]
    doubt = min(lesson.answer(neither), key=lambda one: one.probability)
    assert doubt.label is None and doubt.reason == NOT_SURE and 0.5 <= doubt.probability < lesson.sure_from
    assert doubt.sentence() == f"Not sure. Closest match: {doubt.closest} ({100 * doubt.probability:.0f} %)."
    assert (doubt.distance, doubt.limit) == (None, None)


def test_random_labels_give_no_predictions():
    named = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        lesson = learn(rng.normal(size=(24, 12)), rng.permutation(np.repeat(["bee", "wasp"], 12)), caution=0)
        named += sum(one.label is not None for one in lesson.answer(rng.normal(size=(40, 12))))
    assert named <= 40  # of 200


def test_with_many_examples_the_sure_threshold_is_a_fifth_above_guessing():
    X, y, _ = cloud(40)
    assert learn(X, y).sure_from == pytest.approx(1 / 3 + 2 / 3 * 0.2)


def test_lessons_and_predictions_as_json():
    X, y, noise = cloud(4)
    examples = [SimpleNamespace(name=f"{i}.png", label=str(label)) for i, label in enumerate(y)]
    lesson = learn(X, y, pixels=noise, examples=examples)
    told = lesson.to_dict()
    assert told["method"] == "ridge" and told["why"] == "4 examples in the smallest class"
    assert told["classes"][0] == {"label": "a", "examples": 4, "different": 4, "accuracy": 1.0}
    assert told["leave_one_out"]["sentence"] == lesson.sentence() == lesson.judged.sentence()
    assert told["near_copies"] == "" and told["leave_one_out"]["guessing"] == pytest.approx(1 / 3, abs=1e-6)
    [one] = lesson.answer(X[:1], n_neighbors=1)
    said = one.to_dict(lesson)
    assert said["label"] == said["closest"] == "a" and said["reason"] == "" and said["sentence"] == one.sentence()
    assert said["neighbors"] == [{"file": "0.png", "label": "a", "similarity": 1.0}]
    assert list(said["probabilities"]) == ["a", "b", "c"] and said["probabilities"]["a"] == said["probability"]
    assert json.dumps([told, said])


def test_the_scale_of_the_similarities_is_named():
    X, y, noise = cloud(4)
    mean = np.zeros(12)
    assert "mean of the classes" in learn(X, y, feature_mean=mean).scale
    few = np.sort(np.concatenate([np.flatnonzero(y == label)[:2] for label in "abc"]))
    assert "model's mean" in learn(X[few], y[few], feature_mean=mean).scale
    assert "raw pixels" in learn(X, y, "pixels", pixels=noise).scale
