"""Masking measures against their formulas, and searches against all masks."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitmsn import checkpoint, masking, robustness
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import Picture, ViTMSNImageProcessor, decode
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead
from vitmsn.robustness import masked_views
from vitmsn.training.loss import msn_loss, sharpen

CONFIG = ViTMSNConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=12,
    patch_size=4,
    initializer_range=0.3,
    id2label={0: "ant", 1: "bee", 2: "cat"},
)


def make(
    folder: Path, classifier: bool = True, msn: bool = True, seed: int = 0, mean: torch.Tensor | None = None
) -> Encoder:
    torch.manual_seed(seed)
    head = MSNHead(16, 8, 6, 5)
    torch.nn.init.normal_(head.prototypes)
    checkpoint.save(
        folder,
        CONFIG,
        ViTMSNModel(CONFIG).state_dict(),
        classifier={"weight": torch.randn(3, 16), "bias": torch.zeros(3)} if classifier else {},
        msn_head=head.state_dict() if msn else {},
        feature_mean=mean,
        processor=ViTMSNImageProcessor(12).to_dict(),
    )
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return make(tmp_path_factory.mktemp("models") / "whole")


@pytest.fixture(scope="module")
def picture() -> Picture:
    noise = np.random.default_rng(3).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return decode(Image.fromarray(noise), name="noise.png")


def sample(ratio: float, seed: int) -> np.ndarray:
    return masking.random_mask((3, 3), ratio, torch.Generator().manual_seed(seed))[0].numpy()


# Answers, the loss


def test_a_prediction_is_a_class_or_the_nearest_prototype(encoder: Encoder, picture: Picture, tmp_path: Path) -> None:
    embedded = encoder.embed(picture)
    told = robustness.predict(encoder, embedded)
    assert told.kind == "class" and told.name(0) == encoder.classify(picture)[0].labels[0]
    bare = make(tmp_path / "bare", classifier=False)
    told = robustness.predict(bare, bare.embed(picture))
    assert told.kind == "prototype" and told.name(0) == f"prototype {bare.assign(picture)[0].argmax() + 1}"
    with pytest.raises(MissingHeadError, match="neither a classifier nor prototypes"):
        robustness.predict(make(tmp_path / "none", False, False), embedded)


def test_the_assignment_is_the_training_loss(encoder: Encoder, picture: Picture) -> None:
    full, masked = encoder.embed(picture), encoder.embed(picture, keep_indices=[0, 4, 5])
    found = robustness.assignment(encoder, full, masked)
    head = encoder.msn_head
    assert head is not None
    anchors = head.assign(torch.from_numpy(masked))
    targets = sharpen(head.assign(torch.from_numpy(full)), head.sharpening)
    expected = msn_loss(anchors[None], targets, me_max_weight=0).cross_entropy
    assert found.cross_entropy == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(found.target, encoder.assign(picture, sharpen=True)[0], rtol=1e-4)
    assert found.even == pytest.approx(math.log(5)) and found.least <= found.cross_entropy
    same = robustness.Assignment(found.target, found.target)
    assert same.cross_entropy == pytest.approx(found.least)
    even = robustness.Assignment(found.target, np.full(5, 0.2))
    assert even.cross_entropy == pytest.approx(math.log(5), rel=1e-5)


# Views, curves


def test_views_match_the_encoder(encoder: Encoder, picture: Picture) -> None:
    kept = np.stack([sample(0.5, seed) for seed in range(3)])
    found = robustness.views(encoder, picture, kept)
    full = encoder.embed(picture)
    for number, row in enumerate(kept):
        view = encoder.embed(picture, keep_indices=row)
        expected = float((full @ view.T).item() / np.linalg.norm(full) / np.linalg.norm(view))
        assert found.similarity[number] == pytest.approx(expected, abs=1e-5)
        assert found.cross_entropy is not None and found.same is not None
        assert found.cross_entropy[number] == pytest.approx(
            robustness.assignment(encoder, full, view).cross_entropy, rel=1e-3
        )
        label = encoder.classify(picture, keep_indices=row)[0].labels[0]
        assert bool(found.same[number]) == (label == encoder.classify(picture)[0].labels[0])


def test_a_model_without_heads_still_has_similarities(picture: Picture, tmp_path: Path) -> None:
    found = robustness.views(make(tmp_path / "none", False, False), picture, sample(0.5, 0)[None])
    assert found.similarity.shape == (1,) and found.same is None and found.cross_entropy is None


def test_centered_is_the_cosine_around_the_models_mean(tmp_path: Path, picture: Picture) -> None:
    mean = torch.randn(16, generator=torch.Generator().manual_seed(1))
    encoder = make(tmp_path / "mean", mean=mean)
    kept = np.stack([sample(0.5, seed) for seed in range(3)])
    found = robustness.views(encoder, picture, kept)
    assert found.centered is not None and found.centered.shape == (3,)
    full, around = encoder.embed(picture)[0], mean.numpy()
    for number, row in enumerate(kept):
        one, two = full - around, encoder.embed(picture, keep_indices=row)[0] - around
        expected = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        assert found.centered[number] == pytest.approx(expected, abs=1e-5)
    assert found.others == pytest.approx(float(full @ around / (full @ full)), abs=1e-5)
    assert abs(found.centered - found.similarity).max() > 0.01, "the mean counts"


def test_others_is_the_mean_cosine_to_other_pictures(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings with much in common: plain cosines near 1, centered ones 0 on average, known from the mean alone."""
    rows = np.random.default_rng(0).normal(size=(400, 16)) + np.r_[16, np.zeros(15)]
    rows = np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    monkeypatch.setattr(encoder, "feature_mean", rows.mean(0))
    for place in (0, 1):
        one, rest = rows[place : place + 1], np.delete(rows, place, axis=0)
        assert robustness.others(encoder, one) == pytest.approx(robustness.cosine(one, rest).mean(), abs=0.005)
        centered = robustness.centered(encoder, one, rest)
        assert centered is not None and abs(centered.mean()) < 0.02 and robustness.cosine(one, rest).mean() > 0.9


def test_without_a_feature_mean_nothing_is_centered(encoder: Encoder, picture: Picture) -> None:
    assert encoder.feature_mean is None
    full = encoder.embed(picture)
    assert robustness.centered(encoder, full, full) is None and robustness.others(encoder, full) is None
    found = robustness.views(encoder, picture, sample(0.5, 0)[None])
    assert found.centered is None and found.others is None and found.similarity.shape == (1,)


def timed(full: float, masked: float) -> Callable[..., float]:
    """A stand-in for ``Encoder.time``."""
    return lambda image, *, keep_indices=None, repeats: full if keep_indices is None else masked


def test_a_steady_time_is_a_median_of_rounds_in_turns(
    encoder: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([9, 1, 100, 2, 11, 3, 10, 500, 12, 4] * 2)
    monkeypatch.setattr(encoder, "time", lambda image, **more: float(next(given)))
    full, masked = robustness.steady_times(encoder, picture, sample(0.5, 0)) or (0, 0)
    assert (full, masked) == (11, 3)  # nine rounds; one that another program disturbed does not count
    monkeypatch.setattr(masked_views, "STEADY_SECONDS", 0)
    assert robustness.steady_times(encoder, picture, sample(0.5, 0)) is None


def test_a_slow_model_has_a_curve_without_steady_times(
    encoder: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "time", timed(robustness.QUICK + 1, 7))
    point = next(robustness.curve(encoder, picture, sample))
    assert not point.steady and point.milliseconds == 7 and point.ideal == robustness.QUICK + 1


def test_on_a_busy_machine_a_curve_is_measured_steadily_for_some_seconds_only(
    encoder: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "time", timed(10, 7))
    monkeypatch.setattr(masked_views, "CURVE_SECONDS", 0)
    points = list(robustness.curve(encoder, picture, sample))
    assert not any(point.steady for point in points) and all(point.milliseconds == 7 for point in points)


def test_the_curve_yields_a_point_for_every_ratio(
    encoder: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "time", timed(10, 7))
    running = robustness.curve(encoder, picture, sample, seeds=(0, 1))
    first = next(running)
    assert first.ratio == 0 and first.kept == 9 and first.views.similarity == pytest.approx([1, 1])
    assert (
        first.steady
        and first.milliseconds == 7
        and first.ideal == 10
        and first.views.same is not None
        and first.views.same.all()
    )
    rest = list(running)
    assert [point.ratio for point in rest] == pytest.approx(np.arange(0.05, 0.96, 0.05))
    assert [point.kept for point in rest] == [masking.kept_count(9, point.ratio) for point in rest]
    np.testing.assert_allclose([p.ideal for p in rest], [1 + p.kept for p in rest])
    assert rest[9].views.similarity[1] == pytest.approx(
        robustness.views(encoder, picture, sample(0.5, 1)[None]).similarity[0], abs=1e-5
    )


# One masked view, and results as JSON


def test_a_comparison_matches_the_single_functions(tmp_path: Path, picture: Picture) -> None:
    encoder = make(tmp_path / "mean", mean=torch.ones(16))
    keep = sample(0.5, 0)
    found = robustness.compare(encoder, picture, keep, top_k=2, timed=True)
    patches = found.total
    for wrong in ([0] * patches, range(1, patches + 1), [0, 0, 1]):  # as many as there are, and fewer
        with pytest.raises(InputError, match="keep_indices"):
            robustness.compare(encoder, picture, list(wrong))
    full, masked = encoder.embed(picture), encoder.embed(picture, keep_indices=keep)
    np.testing.assert_array_equal(found.keep_indices, keep)
    assert (found.count, found.total, found.kept.shape) == (len(keep), 9, (3, 3))
    assert found.similarity == robustness.cosine(full, masked)[0]
    assert found.centered == robustness.centered(encoder, full, masked)[0]  # type: ignore[index]
    assert found.before is not None and found.after is not None
    assert found.before.labels == encoder.classify(picture, top_k=2)[0].labels
    expected = encoder.classify(picture, top_k=2, keep_indices=keep)[0]
    assert found.after.labels == expected.labels
    assert found.after.probabilities == pytest.approx(expected.probabilities, rel=1e-4)
    told = found.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["similarity"] == pytest.approx(found.similarity, abs=1e-6)
    assert told["top_after"] == found.after.top() and len(told["top_after"]) == 2
    assert told["cross_entropy_least"] <= told["cross_entropy"] and told["milliseconds_masked"] > 0
    shown = told["prototypes"]
    assert shown[0]["full"] == max(one["full"] for one in shown)
    assert {one["prototype"] for one in shown} <= set(range(1, 6))


def test_a_comparison_is_null_where_the_model_has_no_head(picture: Picture, tmp_path: Path) -> None:
    told = robustness.compare(make(tmp_path / "none", False, False), picture, [0, 4]).to_dict()
    known = ("kept", "total", "similarity")
    assert [name for name, value in told.items() if value is not None] == list(known)
    assert (told["kept"], told["total"]) == (2, 9)


def test_results_are_plain_json(encoder: Encoder, picture: Picture) -> None:
    points = list(robustness.curve(encoder, picture, sample, ratios=(0.0, 0.5), seeds=(0, 1)))
    curve = robustness.MaskCurve(points).to_dict()
    assert json.loads(json.dumps(curve)) == curve
    assert curve["mask_ratio"] == [0, 0.5] and np.shape(curve["similarity"]) == (2, 2)
    assert curve["answer_kept"][0] == [True, True] and curve["similarity_centered"] == [None, None]
    views = robustness.views(encoder, picture, np.stack([sample(0.5, seed) for seed in range(3)])).to_dict()
    assert json.loads(json.dumps(views)) == views
    assert views["draws"] == 3 and views["similarity_least"] <= views["similarity_mean"]
    found = robustness.search(encoder, picture)
    told = found.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert [(row - 1) * 3 + column - 1 for row, column in told["keeps"]] == found.keep.tolist()
    assert told["patches"] == 9 and told["changes_to"] == found.changes_to
    assert told["changes_to_sure"] == (None if found.flip is None else found.flip_steps[-1].sure)
    assert told["keeps_sure"] == (found.keep_steps[-1].probability >= encoder.threshold)


# Search for the patches that change the prediction


def smallest(encoder: Encoder, picture: Picture) -> tuple[int | None, int]:
    """By trying all masks of 9 patches: the fewest hidden that flip the answer, the fewest kept that hold it."""
    first = robustness.predict(encoder, encoder.embed(picture)).index[0]
    flips, keeps = [], []
    for count in range(1, 10):
        rows = np.array(list(itertools.combinations(range(9), count)))
        told = robustness.predict(encoder, encoder.embed([picture] * len(rows), keep_indices=rows))
        flips += [9 - count] if (told.index != first).any() else []
        keeps += [count] if (told.index == first).any() else []
    return min(flips, default=None), min(keeps)


@pytest.mark.parametrize("seed", range(6))
def test_a_search_finds_minimal_sets(tmp_path: Path, picture: Picture, seed: int) -> None:
    encoder = make(tmp_path / "model", classifier=seed % 2 == 0, seed=seed)
    first = robustness.predict(encoder, encoder.embed(picture)).index[0]

    def same(kept: np.ndarray) -> bool:
        return bool(robustness.predict(encoder, encoder.embed(picture, keep_indices=kept)).index[0] == first)

    found = robustness.search(encoder, picture)
    least, fewest = smallest(encoder, picture)
    assert same(found.keep) and len(found.keep) >= fewest
    for patch in found.keep if len(found.keep) > 1 else []:
        assert not same(found.keep[found.keep != patch]), "it keeps the answer without this one"
    if found.flip is not None:
        assert least is not None and len(found.flip) >= least
        assert not same(np.setdiff1d(np.arange(9), found.flip))
        for patch in found.flip:
            assert same(np.setdiff1d(np.arange(9), found.flip[found.flip != patch])), "this one need not be hidden"
        assert not found.flip_steps[-1].same and set(found.flip_steps[-1].hidden) == set(found.flip)
        assert all(step.same for step in found.flip_steps[:-2])
    assert found.keep_steps[-1].same and not set(found.keep_steps[-1].hidden) & set(found.keep)
    assert len(found.flip_random) == len(found.keep_random) == robustness.ORDERS
    assert all(size is None or size >= least for size in found.flip_random if least)
    assert all(size >= fewest for size in found.keep_random)


def test_a_search_uses_the_given_scores(encoder: Encoder, picture: Picture) -> None:
    scores = np.arange(9.0)
    found = robustness.search(encoder, picture, scores)
    for step in found.flip_steps[:-1]:
        assert step.hidden.tolist() == list(range(8, 8 - len(step.hidden), -1))
    seen: list[tuple[int, int]] = []
    robustness.search(encoder, picture, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(InputError, match="8 scores and 9 patches"):
        robustness.search(encoder, picture, scores[1:])
