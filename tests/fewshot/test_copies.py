"""Bursts: near-copies are found, count once, set no distance, and are reported."""

from __future__ import annotations

import numpy as np
import pytest

from vitmsn import fewshot
from vitmsn.encoder import Encoder
from vitmsn.fewshot import NONE, Rejector, learn, near_copies
from vitmsn.gallery import raw_pixels
from vitmsn.image import decode


def clouds(sizes, spread, seed=0, dim=40, apart=3.0):
    """Rows (N, dim) around one random place for each class, and the classes' names."""
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(99).normal(size=(3, dim)) * apart
    rows = [places[k] + rng.normal(size=(size, dim)) * spread for k, size in enumerate(sizes)]
    return np.concatenate(rows), np.repeat(list("abc")[: len(sizes)], sizes)


def mixed(burst, varied, seed=0):
    """Two classes of so many near-copies and so many varied examples each."""
    X, y = clouds([burst, burst], 0.01, seed)
    more, labels = clouds([varied, varied], 0.7, seed + 1)
    return np.concatenate([X, more]), np.concatenate([y, labels])


def test_frames_of_a_burst_are_one_group_and_varied_rows_are_not():
    X, y = mixed(8, 5)
    groups = near_copies(X, y, np.zeros(40))
    assert groups.tolist() == [0] * 8 + [1] * 8 + list(range(2, 12))
    assert near_copies(X[:0], y[:0]).size == 0 and near_copies(X[:1], y[:1]).tolist() == [0]
    same = np.concatenate([X, X[:3]]), np.concatenate([y, ["b"] * 3])
    assert set(near_copies(*same, np.zeros(40))[-3:]).isdisjoint(groups[:8])  # another label is another group


def test_pixels_decide_near_copies_where_embeddings_are_close():
    X, y = clouds([6, 6], 0.05)
    scene = np.random.default_rng(1).uniform(0, 255, (1, 48))
    moved = np.random.default_rng(2).uniform(0, 255, (12, 48))
    still = np.repeat(scene, 12, axis=0) + np.random.default_rng(3).normal(size=(12, 48))
    assert near_copies(X, y, np.zeros(40), moved).tolist() == list(range(12))
    assert near_copies(X, y, np.zeros(40), still).tolist() == [0] * 6 + [1] * 6
    far, _ = clouds([6, 6], 4)
    assert near_copies(far, y, np.zeros(40), still).tolist() == list(range(12))  # one scene, small things that differ


def test_a_slow_pan_is_several_examples():
    step = np.linspace(0, 1.5, 60)[:, None] * np.eye(40)[:1] * 3
    X = np.concatenate([5 * np.eye(40)[1] + step, -5 * np.eye(40)[[2] * 2]])
    groups = near_copies(X, ["a"] * 60 + ["b"] * 2, np.zeros(40))
    assert 3 <= groups[:60].max() + 1 <= 20 and (np.diff(groups[:60]) >= 0).all()


@pytest.mark.parametrize(("burst", "varied"), [(10, 0), (0, 10), (40, 10)])
@pytest.mark.parametrize("caution", [0, 0.01, 0.05, 0.3])
def test_known_things_are_accepted_and_unknown_ones_rejected(burst, varied, caution):
    X, y = mixed(burst, varied)
    lesson = learn(X, y, feature_mean=np.zeros(40), caution=caution)
    same, _ = clouds([30, 30], 0.7, seed=7)
    strangers = clouds([1, 1, 30], 0.7, seed=8)[0][2:]
    assert np.mean([one.reason == NONE for one in lesson.answer(same)]) <= 0.1
    assert np.mean([one.reason == NONE for one in lesson.answer(strangers)]) >= 0.95


def test_near_copies_count_once_in_leave_one_out():
    X, y = mixed(30, 4)
    lesson = learn(X, y, feature_mean=np.zeros(40))
    first = np.unique(lesson.groups, return_index=True)[1]
    assert lesson.counts == {"a": 34, "b": 34} and lesson.different == {"a": 5, "b": 5} and lesson.shots == 5
    assert lesson.judged.total == 10 and len(lesson.judged.predictions) == 68
    assert lesson.judged.interval == fewshot.wilson_interval(lesson.judged.right, 10)
    means = np.stack([X[lesson.groups == group].mean(axis=0) for group in range(10)])
    alone = fewshot.leave_one_out(fewshot.RidgeClassifier(), means, y[first])
    assert np.array_equal(lesson.judged.confusion, alone.confusion)
    np.testing.assert_allclose(lesson.judged.probabilities, alone.probabilities[lesson.groups])
    assert lesson.curve().shots[-1] == 4 and not set(lesson.lonely()) - set(first)


def test_near_copies_are_reported():
    X, y = mixed(38, 2)
    lesson = learn(X, y, feature_mean=np.zeros(40))
    assert lesson.near_copies() == (
        "38 of the 40 pictures of a are near-copies of one another and count as 1; 38 of the 40 pictures of b are "
        "near-copies of one another and count as 1; take pictures that differ more."
    )
    assert learn(*mixed(0, 5), feature_mean=np.zeros(40)).near_copies() == ""
    burst = learn(*mixed(10, 0), feature_mean=np.zeros(40))
    assert burst.sentence() == "Fewer than 3 different examples per class (a, b): too few to judge."
    assert burst.near_copies().startswith("The 10 pictures of a are near-copies of one another and count as 1; ")
    assert burst.rejector is not None and burst.method == "centroid"


def test_a_single_burst_sets_no_distance():
    X, y = mixed(10, 0)
    rejector = Rejector(center=np.zeros(40)).fit(X, y)
    assert rejector.distances_.size == 0 and 0.2 < rejector.threshold_ < 0.4  # classes lie about 1 apart


# --- real pictures: the same things moved and relit, after a burst of each -----------------------------------------


@pytest.fixture(scope="module")
def encoder():
    return Encoder.from_pretrained(None)


def frames(picture, count, seed, moved):
    """Frames (count) of a camera that is nearly still, or moved and relit, as decoded pictures."""
    from PIL import Image, ImageEnhance

    rng, (width, height) = np.random.default_rng(seed), picture.size
    made = []
    for _ in range(count):
        scale = 1 - rng.uniform(0, 0.12 if moved else 0.004)
        left, top = rng.uniform(0, width * (1 - scale)), rng.uniform(0, height * (1 - scale))
        box = (left, top, left + width * scale, top + height * scale)
        seen = picture.crop(box).resize(picture.size, Image.Resampling.BICUBIC)
        seen = ImageEnhance.Brightness(seen).enhance(1 + rng.normal(0, 0.25 if moved else 0.01))
        noisy = np.asarray(seen) + rng.normal(0, 2, (height, width, 3))
        made.append(decode(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), name="frame.png"))
    return made


@pytest.mark.parametrize(("burst", "varied"), [(10, 0), (0, 10), (20, 10)])
def test_photographs_after_a_burst(encoder, burst, varied):
    from PIL import Image
    from skimage import data

    def of(name):
        return Image.fromarray(getattr(data, name)()).convert("RGB").resize((160, 120))

    examples, labels, same = [], [], []
    for seed, name in enumerate(("chelsea", "coffee")):
        new = frames(of(name), burst, seed, False) + frames(of(name), varied, 300 + seed, True)
        examples += new
        labels += [name] * len(new)
        same += frames(of(name), 10, 100 + seed, True)
    lesson = learn(encoder.embed(examples), labels, feature_mean=encoder.feature_mean, pixels=raw_pixels(examples))
    said = lesson.answer(encoder.embed(same), raw_pixels(same))
    assert np.mean([one.reason == NONE for one in said]) <= 0.1
    assert [one.closest for one in said] == ["chelsea"] * 10 + ["coffee"] * 10
    strangers = [
        one for seed, name in enumerate(("rocket", "astronaut")) for one in frames(of(name), 10, 200 + seed, True)
    ]
    assert (
        np.mean([one.reason == NONE for one in lesson.answer(encoder.embed(strangers), raw_pixels(strangers))]) >= 0.95
    )
    assert lesson.judged.total == (0 if not varied else len(np.unique(lesson.groups)))
    assert bool(lesson.near_copies()) == bool(burst) or lesson.shots >= 5
