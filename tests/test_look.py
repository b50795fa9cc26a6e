"""`look`: every kind gives the result of its own function, on the grid."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitmsn import attention, checkpoint, relevance
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import Picture, ViTMSNImageProcessor, decode
from vitmsn.look import KINDS, look
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead

CONFIG = ViTMSNConfig(
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=16,
    patch_size=4,
    initializer_range=0.3,
    id2label={0: "ant", 1: "bee", 2: "cat"},
)


def make(folder: Path, classifier: bool = True) -> Encoder:
    torch.manual_seed(0)
    checkpoint.save(
        folder,
        CONFIG,
        ViTMSNModel(CONFIG).state_dict(),
        classifier={"weight": torch.randn(3, 16), "bias": torch.zeros(3)} if classifier else {},
        msn_head=MSNHead(16, 8, 6, 5).state_dict(),
        processor=ViTMSNImageProcessor(16).to_dict(),
    )
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return make(tmp_path_factory.mktemp("models") / "whole")


@pytest.fixture(scope="module")
def picture() -> Picture:
    noise = np.random.default_rng(3).integers(0, 255, (30, 60, 3), dtype=np.uint8)
    return decode(Image.fromarray(noise), name="noise.png")


def test_every_kind_matches_its_function(encoder: Encoder, picture: Picture) -> None:
    model, tokens = encoder.model, encoder.tokens(picture)
    assert encoder.classifier is not None
    score = relevance.class_score(encoder.classifier, 1)
    expected = {
        "cls": attention.cls_attention(model, tokens)[0, 1, 1],
        "rollout": attention.rollout(model, tokens, 1)[0],
        "relevance": relevance.relevance(model, tokens, score, 1)[0],
        "patch": attention.patch_attention(model, tokens, 6, 1)[0, 1],
        "to": attention.attention_to(model, tokens, 6, 1)[0, 1],
        "similar": attention.similarity(tokens, 6, 1)[0],
        "colors": attention.components(tokens, 3, 1)[0][0, :, 0],
    }
    assert list(expected) == list(KINDS)
    for kind, values in expected.items():
        found = look(encoder, picture, kind, layer=1, heads=[1], patch=6, start_layer=1, label="bee")
        np.testing.assert_allclose(found.values.ravel(), values, rtol=1e-5, atol=1e-6)
        assert found.grid == (4, 4) and found.maps.shape == (3, 2, 4, 4)
        assert found.label == ("bee" if kind == "relevance" else None)
    found = look(encoder, picture, "colors")
    assert found.colors is not None and found.colors.shape == (4, 4, 3) and found.explained is not None
    last = look(encoder, picture, "similar", patch=3)
    np.testing.assert_allclose(last.values.ravel(), attention.similarity(tokens, 3)[0], rtol=1e-5)


def test_relevance_explains_the_prediction_by_default(encoder: Encoder, picture: Picture, tmp_path: Path) -> None:
    assert look(encoder, picture, "relevance").label == encoder.classify(picture)[0].labels[0]
    assert look(encoder, picture, "relevance", label=2).label == "cat"
    assert look(encoder, picture, "relevance", label="2").label == "cat"  # as text fields send numbers
    bare = make(tmp_path / "bare", classifier=False)
    assert look(bare, picture, "relevance").label == f"prototype {bare.assign(picture)[0].argmax() + 1}"
    assert look(bare, picture, "relevance", label=4).label == "prototype 5"
    with pytest.raises(MissingHeadError, match="no answer to explain"):
        look(Encoder.random(CONFIG, device="cpu"), picture, "relevance")


def test_other_sizes_and_masked_views(encoder: Encoder, picture: Picture) -> None:
    wide = look(encoder, picture, size=(12, 24))
    assert wide.grid == (3, 6) and wide.values.shape == (3, 6)
    kept = [1, 5, 6, 15]
    hidden = look(encoder, picture, "patch", patch=6, keep_indices=kept)
    assert np.flatnonzero(~np.isnan(hidden.values)).tolist() == kept
    row = attention.patch_attention(encoder.model, encoder.tokens(picture, keep_indices=kept), 2, 2)[0].mean(0)
    np.testing.assert_allclose(hidden.values.ravel()[kept], row, rtol=1e-5)
    assert np.isnan(look(encoder, picture, "colors", keep_indices=kept).colors).sum() == 3 * 12


def test_heads_can_be_combined(encoder: Encoder, picture: Picture) -> None:
    maps = attention.cls_attention(encoder.model, encoder.tokens(picture))[0, 2]
    np.testing.assert_allclose(look(encoder, picture).values.ravel(), maps.mean(0), rtol=1e-5)
    np.testing.assert_allclose(look(encoder, picture, how="max").values.ravel(), maps.amax(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"kind": "eyes"}, "kind is 'eyes'; choose one of cls, rollout"),
        ({"layer": 3}, "layer is 3; this model has the layers 0 to 2"),
        ({"heads": [2]}, "heads 0 to 1"),
        ({"kind": "patch", "patch": 16}, "patches 0 to 15"),
        ({"kind": "patch", "patch": 2, "keep_indices": [1, 5]}, "Patch 2 is hidden"),
        ({"kind": "relevance", "label": "dog"}, "no class called 'dog'"),
        ({"kind": "relevance", "label": 3}, "class is 3"),
        ({"size": 15}, "whole patches"),
    ],
)
def test_invalid_arguments_are_named(encoder: Encoder, picture: Picture, more: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        look(encoder, picture, **more)  # type: ignore[arg-type]


def test_json_of_a_look_counts_from_one(encoder: Encoder, picture: Picture) -> None:
    told = look(encoder, picture, layer=1, heads=[1]).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert (told["kind"], told["layer"], told["head"], told["heads"], told["grid"]) == ("cls", 2, 2, None, [4, 4])
    assert 1 <= told["half"] <= 16 and told["entropy"] > 0
    both = look(encoder, picture, layer=0, heads=[0, 1], how="max").to_dict()
    assert (both["layer"], both["head"], both["heads"]) == (1, -1, [1, 2])
    assert look(encoder, picture).to_dict()["head"] == 0


def test_json_of_relevance_has_shares_and_of_tokens_no_entropy(encoder: Encoder, picture: Picture) -> None:
    found = look(encoder, picture, "relevance", label="bee")
    told = found.to_dict()
    assert (told["layer"], told["head"], told["label"]) == (None, None, "bee")
    np.testing.assert_allclose(told["map"], found.values / found.values.sum(), atol=1e-6)
    for kind in ("similar", "colors"):
        told = look(encoder, picture, kind).to_dict()
        assert told["half"] is None and told["entropy"] is None and told["head"] is None
    assert np.shape(told["map"]) == (4, 4, 3)


def test_json_of_a_masked_view_has_null_for_dropped_patches(encoder: Encoder, picture: Picture) -> None:
    told = look(encoder, picture, keep_indices=[0, 5, 6]).to_dict()
    known = [value for row in told["map"] for value in row if value is not None]
    assert len(known) == 3 and told["half"] <= 3 and json.loads(json.dumps(told)) == told
