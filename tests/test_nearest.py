"""Nearest pictures of a gallery, and prototypes as the pictures that count them most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.models import read, small, write
from tests.support.ui import pictures
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import Picture
from vitmsn.nearest import PictureIndex, kept

COLORS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    config = small(initializer_range=0.3)
    folder = tmp_path_factory.mktemp("nearest") / "model"
    return read(write(folder, config, feature_mean=torch.linspace(-0.5, 0.5, 16)))


@pytest.fixture(scope="module")
def gallery() -> list[Picture]:
    return [picture for color in COLORS for picture in pictures(color, 4)]


@pytest.fixture(scope="module")
def index(encoder: Encoder, gallery: list[Picture]) -> PictureIndex:
    return PictureIndex(encoder, gallery)


def test_a_picture_of_the_gallery_is_nearest_to_itself(index: PictureIndex, gallery: list[Picture]) -> None:
    for place, near in enumerate(index.nearest(index.encoder.embed(gallery), 3)):
        assert near[0].place == place and near[0].name == gallery[place].name
        assert near[0].similarity == pytest.approx(1, abs=1e-5)
        found = [picture.similarity or 0.0 for picture in near]
        assert found == sorted(found, reverse=True) and len(near) == 3


def test_similarity_is_centered_on_the_feature_mean(index: PictureIndex, gallery: list[Picture]) -> None:
    mean = index.encoder.feature_mean
    one, other = index.encoder.embed([gallery[0], gallery[5]]) - mean
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    [near] = index.nearest(index.encoder.embed(gallery[0]), len(gallery))
    assert next(picture.similarity for picture in near if picture.place == 5) == pytest.approx(expected, abs=1e-5)


def test_a_prototype_is_the_pictures_with_the_highest_probability(index: PictureIndex, gallery: list[Picture]) -> None:
    assigned = index.encoder.assign(gallery)
    used = index.prototypes_in_use()
    firsts = [int((assigned.argmax(1) == number).sum()) for number in used]
    assert sum(firsts) == len(gallery) and firsts == sorted(firsts, reverse=True) and min(firsts) > 0
    strip = index.prototype(used[0], 4)
    assert strip.first == firsts[0] and strip.share == pytest.approx(assigned[:, used[0]].mean(), abs=1e-6)
    best = np.argsort(-assigned[:, used[0]], kind="stable")[:4]
    assert [picture.place for picture in strip.pictures] == best.tolist()
    assert strip.pictures[0].probability == pytest.approx(assigned[best[0], used[0]], abs=1e-5)
    told = strip.to_dict()
    assert told["prototype"] == used[0] + 1 and told["first"] == firsts[0] and len(told["pictures"]) == 4
    assert told["pictures"][0]["similarity"] is None and told["pictures"][0]["name"] == gallery[best[0]].name


def test_files_names_and_progress(encoder: Encoder, gallery: list[Picture], tmp_path: Path) -> None:
    for number, picture in enumerate(gallery[:3]):
        picture.rgb.save(tmp_path / f"{number}.png")
    seen: list[tuple[int, int]] = []
    made = PictureIndex(encoder, sorted(tmp_path.glob("*.png")), progress=lambda *done: seen.append(done))
    assert made.names == ["0.png", "1.png", "2.png"] and seen == [(3, 3)] and len(made) == 3
    assert PictureIndex(encoder, gallery[:2], ["a", "b"]).nearest(made.embeddings, 1)[0][0].name == "a"


def test_a_model_without_prototypes_still_has_nearest_pictures(tmp_path: Path, gallery: list[Picture]) -> None:
    bare = read(write(tmp_path / "bare", small(), msn=False))
    made = PictureIndex(bare, gallery)
    assert made.assigned is None and len(made.nearest(bare.embed(gallery[0]), 2)[0]) == 2
    with pytest.raises(MissingHeadError, match="has no prototypes to show pictures of"):
        made.prototype(0)
    with pytest.raises(MissingHeadError):
        made.prototypes_in_use()


def test_bad_questions_are_refused(index: PictureIndex, encoder: Encoder, gallery: list[Picture]) -> None:
    with pytest.raises(InputError, match="0 pictures came"):
        PictureIndex(encoder, [])
    with pytest.raises(InputError, match="2 pictures came with 1 names"):
        PictureIndex(encoder, gallery[:2], ["one"])
    with pytest.raises(InputError, match=r"shape \(1, 3\) came"):
        index.nearest(np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match="0 to 4"):
        index.prototype(5)
    with pytest.raises(InputError, match="ask for at least 1"):
        index.nearest(index.embeddings[:1], 0)


def test_kept_counts_pictures_in_any_order(index: PictureIndex) -> None:
    one, other = index.nearest(index.embeddings[:2], 5)
    assert kept(one, one[::-1]) == 5
    assert kept(one, other) == len({picture.place for picture in one} & {picture.place for picture in other})
