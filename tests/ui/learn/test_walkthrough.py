"""The walkthrough's computation: views as in the recipe, and the same loss as the trainer's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.ui import CONFIG
from vitmsn import attention, image
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.training import loss
from vitmsn.training.recipe import PRESETS
from vitmsn.ui.learn import walkthrough
from vitmsn.ui.learn.walkthrough import LearnControls, Walk, entropy, focal_side, study, views
from vitmsn.ui.shared import examples, picture_gallery


@pytest.fixture
def studied(headed: Encoder, picture: Picture) -> Walk:
    return study(headed, picture, LearnControls(layer=1))


def test_views_follow_the_recipe(picture: Picture) -> None:
    recipe = PRESETS["tiny-8-64"]
    assert (recipe.target_scale, recipe.focal_scale) == (walkthrough.WHOLE, walkthrough.FOCAL)
    assert recipe.focal_views == walkthrough.FOCAL_VIEWS and recipe.target_view.ratio == walkthrough.RATIO
    view = recipe.target_view
    assert list(walkthrough.JITTER.values()) == [view.brightness, view.contrast, view.saturation]
    wide = image.decode(picture.rgb.resize((300, 100)), name="wide.png")
    shares: dict[bool, list[float]] = {True: [], False: []}
    for draw in range(60):
        cut = views(wide, draw, (16, 16), (8, 8))
        assert [one.name for one in cut[:3]] == ["full view", "masked view", "close-up 1"] and len(cut) == 6
        for one in cut:
            left, top, right, bottom = one.box
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
            assert one.picture.rgb.size == one.size[::-1] == ((16, 16) if one in cut[:2] else (8, 8))
            shares[one in cut[:2]].append(one.share)
            if one.share < 0.2:  # small enough not to be cut at the edge: pixels keep the recipe's proportions
                aspect = (right - left) * 300 / ((bottom - top) * 100)
                assert 3 / 4 - 1e-6 <= aspect <= 4 / 3 + 1e-6
    for kind, (least, most) in ((True, walkthrough.WHOLE), (False, walkthrough.FOCAL)):
        assert max(shares[kind]) <= most + 1e-9
        if not kind:
            assert min(shares[kind]) == pytest.approx(least, abs=0.02)
    same, again, another = (views(wide, draw, (16, 16), (8, 8))[0].picture.digest for draw in (1, 1, 2))
    assert same == again != another


def test_the_loss_equals_the_trainers(headed: Encoder, studied: Walk) -> None:
    found, index = studied.assigned, studied.index
    assert found is not None and index is not None
    anchors = torch.from_numpy(found.views[1:])
    parts = loss.msn_loss(anchors.log()[:, None], torch.from_numpy(found.sharp)[None])
    assert found.cross_entropies.mean() == pytest.approx(float(parts.cross_entropy), rel=1e-4)
    sharp = loss.sharpen(torch.from_numpy(found.views[:1]).log(), 0.25)
    np.testing.assert_allclose(found.sharp, sharp[0].numpy(), rtol=1e-3)
    log = torch.from_numpy(found.mean).log()
    assert entropy(found.mean) == pytest.approx(float(-(log.exp() * log).sum()), rel=1e-4)
    assert studied.loss == pytest.approx(found.cross_entropies.mean() - entropy(found.mean), rel=1e-5)
    assert found.pictures == 1 + len(index) == 1 + len(picture_gallery.pieces())


def test_sinkhorn_balances_the_batch(studied: Walk) -> None:
    found = studied.assigned
    assert found is not None
    sharp, balanced = found.batch
    assert sharp.sum() == pytest.approx(1, abs=1e-4) and balanced.sum() == pytest.approx(1, abs=1e-4)
    assert np.abs(balanced - 1 / 8).max() < np.abs(sharp - 1 / 8).max()
    assert found.balanced.sum() == pytest.approx(1, abs=1e-4)


def test_every_token_looks_at_the_patches_that_are_left(headed: Encoder, studied: Walk) -> None:
    there = np.isin(np.arange(16), studied.kept).reshape(4, 4)
    assert studied.looks[0].patch is None  # CLS
    patches = [look.patch for look in studied.looks[1:]]
    assert len(set(patches)) == walkthrough.LOOKING and set(patches) <= set(studied.kept.tolist())
    for look in studied.looks:
        np.testing.assert_array_equal(~np.isnan(look.values), there)
        assert 0 < np.nansum(look.values) <= 1  # the rest is for CLS
    tokens = headed.tokens(studied.views[1].picture, keep_indices=studied.kept)
    rows = attention.cls_attention(headed.model, tokens)[0, 0].mean(0)  # layer 1, mean of heads
    np.testing.assert_allclose(studied.looks[0].values[there], rows.numpy(), rtol=1e-5)
    assert patches[0] == studied.kept[int(rows.argmax())]


def test_the_nearest_pictures_are_those_of_each_view(headed: Encoder, studied: Walk) -> None:
    assert studied.index is not None and len(studied.near) == 7
    full = studied.index.nearest(headed.embed(studied.views[0].picture), walkthrough.NEAR)[0]
    other = studied.index.nearest(headed.embed(examples.by_name("coffee").picture), walkthrough.NEAR)[0]
    assert [one.place for one in studied.near[0]] == [one.place for one in full]
    assert [one.place for one in studied.near[6]] == [one.place for one in other]


def test_entropy_of_certain_and_even_assignments() -> None:
    assert entropy(np.eye(8, dtype=np.float32)[3]) == pytest.approx(0, abs=1e-6)
    assert entropy(np.full(8, 1 / 8, np.float32)) == pytest.approx(math.log(8))


def test_each_control_changes_only_its_own_step(headed: Encoder, picture: Picture) -> None:
    start = study(headed, picture, LearnControls())
    assert start.assigned is not None
    half = study(headed, picture, LearnControls(ratio=50))
    assert len(start.kept) == 11 and len(half.kept) == 8 and len(half.looks) == 1 + min(8, walkthrough.LOOKING)
    warm = study(headed, picture, LearnControls(temperature=1))
    assert warm.assigned is not None and warm.assigned.views.max() < start.assigned.views.max()
    np.testing.assert_array_equal(warm.similarity, start.similarity)
    hard = study(headed, picture, LearnControls(sharpening=0.05))
    assert hard.assigned is not None and hard.assigned.sharp.max() > start.assigned.sharp.max()
    np.testing.assert_array_equal(hard.assigned.views, start.assigned.views)
    surprise = start.assigned.cross_entropies.mean()
    assert study(headed, picture, LearnControls(weight=0)).loss == pytest.approx(surprise)
    assert study(headed, picture, LearnControls(other="cat")).other != start.other
    np.testing.assert_array_equal(study(headed, picture, LearnControls(layer=1)).kept, start.kept)
    assert study(headed, picture, LearnControls(layer=99)).ask.layer == 2  # this model's last


def test_without_prototypes_the_walkthrough_ends_at_the_embeddings(tiny: Encoder, picture: Picture) -> None:
    studied = study(tiny, picture, LearnControls())
    assert studied.assigned is None and len(studied.near) == 7
    assert np.abs(studied.similarity).max() <= 1 + 1e-6 and len(studied.similarity) == 5


def test_close_ups_are_half_the_input_in_whole_patches(tiny: Encoder) -> None:
    assert focal_side(tiny) == 8
    assert focal_side(Encoder.random(replace(CONFIG, image_size=4), device="cpu")) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "huge"}, "size is 'huge'"),
        ({"draw": 0}, "draw is 0"),
        ({"ratio": float("nan")}, "The share dropped is nan"),
        ({"layer": 1.5}, "layer is 1.5"),
        ({"layer": 0}, "layer is 0"),
        ({"other": "<b>"}, "There is no example called"),
        ({"temperature": 0}, "The temperature is 0"),
        ({"sharpening": 2}, "The sharpening is 2"),
        ({"weight": True}, "The weight of me-max is True"),
    ],
)
def test_an_invalid_value_is_refused_by_name(
    tiny: Encoder, picture: Picture, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        study(tiny, picture, replace(LearnControls(), **changes))  # type: ignore[arg-type]
