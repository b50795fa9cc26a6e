"""kNN against brute force, the solver against scikit-learn, the protocol's seeds, and a report of real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from vitmsn import lowshot
from vitmsn.config import ViTMSNConfig
from vitmsn.data import open_data
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, InputError
from vitmsn.lowshot import logistic, neighbors

CONFIG = ViTMSNConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8
)
Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def clouds(train: int, test: int, classes: int = 4, dim: int = 6, apart: float = 1.5, seed: int = 0) -> Data:
    """Gaussian classes around random means: training rows and labels, test rows and labels."""
    rng = np.random.default_rng(seed)
    means = apart * rng.normal(size=(classes, dim))
    train_y, test_y = np.arange(train) % classes, np.arange(test) % classes

    def rows(labels: np.ndarray) -> np.ndarray:
        return (means[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32)

    return rows(train_y), train_y, rows(test_y), test_y


def folder(where: Path, classes: dict[str, tuple[int, int, int]], each: int, seed: int = 0) -> Path:
    """Noisy pictures around one color for each class."""
    rng = np.random.default_rng(seed)
    for name, color in classes.items():
        (where / name).mkdir(parents=True)
        for number in range(each):
            noise = rng.normal(0, 12, size=(20, 20, 3))
            Image.fromarray(np.uint8(np.clip(color + noise, 0, 255))).save(where / name / f"{number}.png")
    return where


# kNN


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_knn_is_a_weighted_vote_of_the_nearest_rows(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 5)  # 8 x 5 training rows at a time: the best are merged over blocks
    X, y, T, t = clouds(90, 40, apart=0.7)
    mean = X.mean(0)
    unit = [(rows - mean) / np.linalg.norm(rows - mean, axis=1, keepdims=True) for rows in (X, T)]
    cosine = unit[1] @ unit[0].T
    votes = np.zeros((len(T), 4))
    for row, similarity in enumerate(cosine):
        for nearest in np.argsort(-similarity)[:k]:
            votes[row, y[nearest]] += np.exp(similarity[nearest] / 0.07)
    assert lowshot.knn_accuracy(X, y, T, t, k=k) == np.mean(votes.argmax(1) == t)
    assert 0.3 < np.mean(votes.argmax(1) == t) < 1


def test_knn_ignores_scale_and_a_common_shift() -> None:
    X, y, T, t = clouds(80, 40)
    plain = lowshot.knn_accuracy(X, y, T, t)
    assert lowshot.knn_accuracy(100 * X + 7, y, 100 * T + 7, t) == plain > 0.8


def test_knn_takes_names_for_labels() -> None:
    X, y, T, t = clouds(80, 40)
    names = np.array(["owl", "cat", "dog", "ant"])
    assert lowshot.knn_accuracy(X, names[y], T, names[t]) == lowshot.knn_accuracy(X, y, T, t)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"k": 0}, "k is 0"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"test_y": np.full(40, 9)}, r"no training picture has \(9\)"),
        ({"test_X": np.zeros((40, 3))}, "6 features and test rows 3"),
        ({"train_y": np.zeros(3)}, r"labels \(3,\)"),
        ({"train_X": np.full((80, 6), np.nan)}, "not finite"),
    ],
)
def test_mismatched_inputs_are_refused(change: dict[str, object], word: str) -> None:
    given = dict(zip(("train_X", "train_y", "test_X", "test_y"), clouds(80, 40), strict=True)) | change
    with pytest.raises(ValueError, match=word):
        lowshot.knn_accuracy(**given)  # type: ignore[arg-type]


# Logistic regression


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize(("intercept", "round_first"), [(False, False), (False, True), (True, True)])
def test_the_solver_matches_scikit_learn(penalty: float, intercept: bool, round_first: bool) -> None:
    X, y, T, _ = clouds(300, 50, apart=0.8)
    rows = torch.from_numpy(np.c_[X, np.ones(len(X))].astype(np.float32) if intercept else X)
    codes, spread = torch.from_numpy(y), logistic.spread_of(rows) if round_first else None
    ours = logistic.fit_logistic(rows, codes, 4, penalty, intercept=intercept, spread=spread).numpy()
    oracle = LogisticRegression(C=1 / (len(X) * penalty), fit_intercept=intercept, tol=1e-8, max_iter=10_000).fit(X, y)
    weight, bias = (ours[:, :-1], ours[:, -1]) if intercept else (ours, 0)
    ours_says, theirs = T @ weight.T + bias, T @ oracle.coef_.T + oracle.intercept_
    ours_says, theirs = (logits - logits.mean(1, keepdims=True) for logits in (ours_says, theirs))
    np.testing.assert_allclose(ours_says, theirs, atol=2e-2 * np.abs(theirs).max())
    np.testing.assert_array_equal(ours_says.argmax(1), theirs.argmax(1))


def test_the_gradient_matches_the_objective() -> None:
    X, y, _, _ = clouds(30, 4)
    rows, codes = torch.from_numpy(X).double(), torch.from_numpy(y)
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(rows @ weight.T, codes) + 0.05 * weight[:, :-1].square().sum()
    loss.backward()
    value, gradient = logistic.objective(weight.detach(), rows, codes, 0.1, True)
    assert value == pytest.approx(loss.item(), rel=1e-9)
    torch.testing.assert_close(gradient, weight.grad)


def test_the_probe_works_on_raw_features() -> None:
    X, y, T, t = clouds(600, 200)
    found = lowshot.linear_probe(X, y, T, t)
    logits = T @ found.weight.T + found.bias
    assert found.top1 == np.mean(found.classes[logits.argmax(1)] == t) > 0.85
    assert found.top5 == 1.0  # of four classes
    assert found.weight.dtype == np.float32 and found.weight.shape == (4, 6) and found.bias.shape == (4,)


def test_the_probe_is_independent_of_feature_scale() -> None:
    X, y, T, t = clouds(600, 200, apart=0.8)
    scale, shift = np.array([1e3, 1e-3, 1, 1, 50, 1]), np.array([5e3, 0, -3, 0, 0, 1])
    plain, other = lowshot.linear_probe(X, y, T, t), lowshot.linear_probe(X * scale + shift, y, T * scale + shift, t)
    assert other.top1 == pytest.approx(plain.top1, abs=0.011) and other.penalty == plain.penalty


def test_the_probe_survives_a_constant_feature() -> None:
    X, y, T, t = clouds(200, 80)
    X, T = (np.c_[rows, np.full(len(rows), 3.0)] for rows in (X, T))
    found = lowshot.linear_probe(X, y, T, t)
    assert np.isfinite(found.weight).all() and found.top1 > 0.85


def test_the_penalty_is_strong_where_features_are_noise() -> None:
    rng = np.random.default_rng(0)
    noise, signal = rng.normal(size=(400, 60)), clouds(3000, 50, apart=2)
    labels = rng.integers(0, 4, 400)
    of_noise = lowshot.linear_probe(noise, labels, noise, labels).penalty
    assert of_noise >= 1e-2 > lowshot.linear_probe(*signal).penalty


def test_held_out_rows_are_not_trained_on() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 300)), rng.integers(0, 2, 400)  # more features than it takes to learn rows by heart
    found = lowshot.linear_probe(X, y, X, y)
    assert len(found.held_out) == 20 == len(set(found.held_out))
    unseen = np.mean(found.held_out_logits.argmax(1) == y[found.held_out])
    assert found.top1 > 0.85 and unseen < 0.8


def test_a_probe_of_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes"):
        lowshot.linear_probe(np.eye(3), [1, 1, 1], np.eye(3), [1, 1, 1])


# A few labels


def test_shots_are_drawn_from_every_class_and_repeat_with_the_seed() -> None:
    labels = np.repeat([3, 5, 9], [10, 20, 400])
    drawn = lowshot.draw_shots(labels, 4, seed=1)
    assert np.unique(labels[drawn], return_counts=True)[1].tolist() == [4, 4, 4]
    np.testing.assert_array_equal(drawn, lowshot.draw_shots(labels, 4, seed=1))
    assert set(drawn) != set(lowshot.draw_shots(labels, 4, seed=2)) != set(lowshot.draw_shots(labels, 4, 1, split=1))


def test_a_share_of_labels_takes_at_least_one() -> None:
    labels = np.repeat([3, 5, 9], [10, 20, 400])
    assert np.unique(labels[lowshot.draw_shots(labels, 0.01)], return_counts=True)[1].tolist() == [1, 1, 4]


@pytest.mark.parametrize("shots", [0, -1, 1.5, 0.0])
def test_invalid_shots_are_refused(shots: float) -> None:
    with pytest.raises(InputError, match="shots is"):
        lowshot.draw_shots([0, 1], shots)
    with pytest.raises(InputError, match="splits is 0; it must be at least 1"):
        lowshot.low_shot(np.eye(2), [0, 1], np.eye(2), [0, 1], 1, splits=0)


def test_too_few_pictures_for_the_shots() -> None:
    with pytest.raises(DataError, match="cat has 1 training pictures, but 2"):
        lowshot.draw_shots(["cat", "dog", "dog"], 2)


@pytest.mark.parametrize(("centering", "axis"), [("row", 1), ("data", 0)])
def test_rows_are_centered_and_of_length_one(centering: str, axis: int) -> None:
    train, test = torch.randn(9, 5) + 3, torch.randn(4, 5) + 3
    ready, other = lowshot.prepare(train, test, centering)
    torch.testing.assert_close(other.norm(dim=1), torch.ones(4))
    middle = test.mean(1, keepdim=True) if axis == 1 else train.mean(0)
    torch.testing.assert_close(other, torch.nn.functional.normalize(test - middle, dim=1))
    torch.testing.assert_close(ready.norm(dim=1), torch.ones(9))


def test_low_shot_is_the_original_protocol() -> None:
    X, y, T, t = clouds(200, 100, dim=12)
    row = lowshot.low_shot(X, y, T, t, 5, splits=2, features="mine")
    expected = []
    for split in range(2):
        chosen = lowshot.draw_shots(y, 5, 0, split)
        ready = [rows - rows.mean(1, keepdims=True) for rows in (X[chosen], T)]
        ready = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in ready]
        oracle = LogisticRegression(C=1 / 0.0025, fit_intercept=False, tol=1e-8, max_iter=10_000)
        expected.append(oracle.fit(ready[0], y[chosen]).score(ready[1], t))
    assert row.splits == pytest.approx(expected, abs=0.011)  # one row may sit on a border
    assert (row.features, row.protocol, row.images) == ("mine", "5 images per class", 20)
    assert row.accuracy == np.mean(row.splits) and row.spread == pytest.approx(np.std(row.splits, ddof=1))


def test_more_labels_give_higher_accuracy() -> None:
    X, y, T, t = clouds(400, 400, dim=20, apart=0.7)
    one, five, fifty = (lowshot.low_shot(X, y, T, t, shots).accuracy for shots in (1, 5, 50))
    assert one < five < fifty


# Features and the report


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


COLOURS = {"blue": (40, 40, 200), "green": (40, 180, 60), "red": (200, 40, 40)}


def test_features_before_and_after_the_layernorm(encoder: Encoder, tmp_path: Path) -> None:
    data = open_data(folder(tmp_path, COLOURS, 3))
    after = lowshot.extract(encoder, data)
    before = lowshot.extract(encoder, data, "pre-layernorm")
    assert after.X.shape == (9, 16) and after.y.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    normalized = encoder.model.layernorm(torch.from_numpy(before.X)).numpy()
    np.testing.assert_allclose(normalized, after.X, atol=1e-5)
    assert np.abs(before.X - after.X).max() > 0.1


def test_raw_pixels_come_from_the_model_input(encoder: Encoder, tmp_path: Path) -> None:
    data = open_data(folder(tmp_path, COLOURS, 2))
    raw = lowshot.extract(encoder, data, "raw-pixels").X
    first = encoder.processor([next(iter(data)).data], size=16)["pixel_values"]
    np.testing.assert_array_equal(raw[0], first.flatten().numpy())
    assert raw.shape == (6, 3 * 16 * 16)


def test_a_bad_picture_is_skipped_and_reported(encoder: Encoder, tmp_path: Path) -> None:
    where = folder(tmp_path, COLOURS, 3)
    (where / "green" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    found = lowshot.extract(encoder, open_data(where))
    assert len(found.X) == len(found.y) == 8 and found.y.tolist().count(1) == 2
    assert len(found.skipped) == 1 and found.skipped[0].startswith("green/1.png: ")


def test_nothing_labelled_is_an_error(encoder: Encoder, tmp_path: Path) -> None:
    loose = folder(tmp_path, COLOURS, 1) / "red"
    with pytest.raises(DataError, match=r"no labelled picture that can be decoded \(0.png: no label\)"):
        lowshot.extract(encoder, open_data(loose))


def test_unknown_features_list_the_known(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="post-layernorm, pre-layernorm, raw-pixels"):
        lowshot.extract(encoder, open_data(folder(tmp_path, COLOURS, 1)), "pixels")


def test_a_report_contains_every_protocol(encoder: Encoder, tmp_path: Path) -> None:
    train = open_data(folder(tmp_path / "a", COLOURS, 4))
    # another order and number of classes: they are matched by name
    test = open_data(folder(tmp_path / "b", {name: COLOURS[name] for name in ("red", "green")}, 5, seed=1))
    told: list[str] = []
    report = lowshot.evaluate(
        encoder,
        train,
        test,
        features=("post-layernorm", "raw-pixels"),
        shots=(1, 2, 9),
        progress=lambda what, done, total: told.append(what),
    )
    assert (report.train, report.test, report.classes, report.model) == (12, 10, 3, "random weights")
    protocols = ["1 image per class", "2 images per class", "kNN, k = 20", "linear, all labels"]
    assert [row.protocol for row in report.rows] == 2 * protocols
    assert [row.features for row in report.rows] == 4 * ["post-layernorm"] + 4 * ["raw-pixels"]
    assert report.notes == ["left out 9 images per class: blue has 4 pictures"]
    assert {"low-shot", "linear probe", f"{train.name}, raw-pixels"} <= set(told)
    assert all(row.accuracy == 1 for row in report.rows if row.features == "raw-pixels" and row.images == 12)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["rows"][0].keys() == {"features", "protocol", "images", "splits", "top5", "accuracy", "spread"}
    assert len(plain["rows"][0]["splits"]) == 3 and plain["rows"][3]["top5"] == 1
    assert len(report.cells()) == 8 and all(len(row) == len(report.header()) for row in report.cells())


def test_classes_that_were_not_trained_on_fail_before_the_long_part(encoder: Encoder, tmp_path: Path) -> None:
    train = open_data(folder(tmp_path / "a", COLOURS, 2))
    test = open_data(folder(tmp_path / "b", {"yellow": (200, 200, 0), **COLOURS}, 2))

    def progress(what: str, done: int, total: int) -> None:
        raise AssertionError("it started")

    with pytest.raises(DataError, match="yellow"):
        lowshot.evaluate(encoder, train, test, progress=progress)
