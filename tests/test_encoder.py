"""Encoder: results equal the model's, what it is made of, and errors."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.encoders import CARD, CONFIG, LABELS, picture, png, save_everything
from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError, ViTMSNError
from vitmsn.image import ViTMSNImageProcessor, decode
from vitmsn.model import ViTMSNModel
from vitmsn.timing import timings


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_everything(tmp_path_factory.mktemp("model"))


@pytest.fixture
def whole(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


def test_embeddings_are_the_cls_tokens(encoder: Encoder) -> None:
    pictures = [picture(seed) for seed in range(5)]
    with torch.no_grad():
        tokens = encoder.model(encoder.processor(pictures)["pixel_values"]).last_hidden_state
    found = encoder.embed(pictures, batch_size=2)  # the last batch is of one
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tokens[:, 0].numpy(), atol=1e-5)


def test_before_the_layernorm(encoder: Encoder) -> None:
    pictures = [picture(seed) for seed in range(3)]
    before, after = encoder.embed(pictures, layernorm=False), encoder.embed(pictures)
    np.testing.assert_allclose(encoder.model.layernorm(torch.from_numpy(before)).numpy(), after, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(pictures[0], layernorm=False)[0], before[0], atol=1e-5)
    # the two are remembered apart; one of them alone and not among three, so that its last bits may differ
    np.testing.assert_allclose(encoder.embed(pictures), after, atol=1e-5)


def test_every_kind_of_source_gives_the_same(encoder: Encoder, tmp_path: Path) -> None:
    image = picture()
    path = tmp_path / "a.png"
    path.write_bytes(png(image))
    data = png(image)
    for source in (image, path, str(path), data, bytearray(data), memoryview(data), decode(image)):
        np.testing.assert_array_equal(encoder.embed(source), encoder.embed([image]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(encoder.embed(one for one in (image, path)), encoder.embed([image, image]))


def test_no_pictures_give_no_rows(encoder: Encoder) -> None:
    assert encoder.embed([]).shape == (0, 16)


def test_progress_counts_pictures(encoder: Encoder) -> None:
    told: list[tuple[int, int]] = []
    encoder.embed([picture(seed) for seed in range(5)], batch_size=2, progress=lambda *now: told.append(now))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_dropped_patches_are_dropped(encoder: Encoder) -> None:
    pictures, keep = [picture(0), picture(1)], torch.tensor([0, 3, 9])
    with timings() as forwards:
        found = encoder.embed(pictures, keep_indices=keep)
    assert [(one.patches, one.pictures) for one in forwards] == [(3, 2)]
    pixels = encoder.processor(pictures)["pixel_values"]
    with torch.no_grad():
        tokens = encoder.model(pixels, keep_indices=keep.expand(2, -1)).last_hidden_state
    np.testing.assert_allclose(found, tokens[:, 0].numpy(), atol=1e-5)


def test_each_picture_may_have_its_own_mask_and_order_does_not_matter(encoder: Encoder) -> None:
    pictures = [picture(0), picture(1)]
    found = encoder.embed(pictures, keep_indices=[[5, 1], [2, 3]])
    for row, image, keep in zip(found, pictures, ([1, 5], [3, 2]), strict=True):
        np.testing.assert_allclose(row, encoder.embed(image, keep_indices=keep)[0], atol=1e-5)


def test_all_patches_kept_is_the_full_view(encoder: Encoder) -> None:
    np.testing.assert_allclose(
        encoder.embed(picture(), keep_indices=np.arange(16)), encoder.embed(picture()), atol=1e-5
    )


@pytest.mark.parametrize(
    ("keep", "word"),
    [
        ([], r"\(1, 0\)"),
        ([16], "runs from 16 to 16"),
        ([-1, 2], "from 0 to 15"),
        ([3, 3], "different patches"),
        ([[1], [2], [3]], r"\(3, 1\).*\(2, patches kept\)"),
        ([[[1]]], r"\(1, 1, 1\)"),
        ([0.5, 2.0], "whole numbers"),
        ([True, False], "whole numbers"),
        ([[1, 2], [3]], "whole numbers"),
    ],
)
def test_invalid_masks_are_refused_by_name(encoder: Encoder, keep: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        encoder.embed([picture(0), picture(1)], keep_indices=keep)


def test_other_sizes_interpolate_positions(encoder: Encoder) -> None:
    with timings() as forwards:
        found = encoder.embed([picture(0), picture(1)], size=24)
    assert [(one.patches, one.size) for one in forwards] == [(36, (24, 24))]
    assert np.abs(found - encoder.embed([picture(0), picture(1)])).max() > 1e-3
    assert encoder.tokens(picture(), size=8).grid == (2, 2)


@pytest.mark.parametrize(("size", "word"), [(18, "18 x 18"), (0, "whole patches"), (-4, "multiple")])
def test_sizes_that_are_no_multiple_of_the_patch_are_refused(encoder: Encoder, size: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        encoder.embed(picture(), size=size)


def test_a_size_with_too_many_patches_is_refused(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TOKENS", 30)
    with pytest.raises(InputError, match="36 patches; at most 30"):
        encoder.embed(picture(), size=24)


def test_a_bad_picture_is_an_image_error(encoder: Encoder, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        encoder.embed([picture(), bad])


def test_tokens_hold_every_layer(encoder: Encoder) -> None:
    out = encoder.tokens(picture(), keep_indices=[2, 4, 7])
    assert out.grid == (4, 4) and out.keep_indices is not None and out.keep_indices.tolist() == [[2, 4, 7]]
    assert out.hidden_states is not None and len(out.hidden_states) == 3
    assert {tuple(state.shape) for state in out.hidden_states} == {(1, 4, 16)}
    torch.testing.assert_close(encoder.model.layernorm(out.hidden_states[-1]), out.last_hidden_state)


def test_a_folder_loads_everything(whole: Encoder, folder: Path) -> None:
    assert whole.has_classifier and whole.has_msn_head and whole.labels == list(LABELS)
    assert whole.name == whole.source == str(folder) and whole.card == CARD
    assert (whole.patch_size, whole.input_size) == ((4, 4), (16, 16))
    np.testing.assert_array_equal(whole.feature_mean, np.arange(16))  # type: ignore[arg-type]


def test_patch_grid(encoder: Encoder) -> None:
    assert encoder.grid() == encoder.tokens(picture()).grid == (4, 4)
    assert encoder.grid(8) == (2, 2) and encoder.grid((8, 12)) == (2, 3)
    with pytest.raises(InputError, match="whole patches"):
        encoder.grid(9)


def test_random_weights_are_seeded_and_leave_the_global_generator_unchanged() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = Encoder.random(CONFIG, device="cpu")
    assert torch.rand(1) == expected
    second, other = Encoder.random(CONFIG, device="cpu"), Encoder.random(CONFIG, seed=1, device="cpu")
    np.testing.assert_array_equal(first.embed(picture()), second.embed(picture()))
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_the_fingerprint_covers_everything_that_changes_embeddings(encoder: Encoder) -> None:
    state = encoder.model.state_dict()

    def fingerprint(processor: ViTMSNImageProcessor, labels: dict[int, str] | None = None, **changes: Any) -> str:
        model = ViTMSNModel(replace(CONFIG, **changes).with_labels(id2label=labels))
        model.load_state_dict(state)
        return Encoder(model, processor, name="x").fingerprint

    same = fingerprint(ViTMSNImageProcessor(16))
    assert same == encoder.fingerprint == fingerprint(ViTMSNImageProcessor(16), {0: "other"})
    changed = [
        fingerprint(ViTMSNImageProcessor(24)),
        fingerprint(ViTMSNImageProcessor(16), num_attention_heads=4),
        fingerprint(ViTMSNImageProcessor(16), layer_norm_eps=1e-3),
        fingerprint(ViTMSNImageProcessor(16), hidden_act="relu"),
        fingerprint(ViTMSNImageProcessor(16), image_size=(8, 32)),
    ]
    assert len({same, *changed}) == 6


def test_a_missing_preprocessor_file_warns(tmp_path: Path) -> None:
    ViTMSNModel(CONFIG).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json"):
        encoder = Encoder.from_pretrained(tmp_path / "model", device="cpu")
    assert encoder.input_size == (16, 16)


def test_half_precision_is_near_and_gives_float32(folder: Path) -> None:
    full = Encoder.from_pretrained(folder, device="cpu", dtype="float32")
    half = Encoder.from_pretrained(folder, device="cpu", dtype="bfloat16")
    pictures = [picture(0), picture(1)]
    assert half.dtype == torch.bfloat16 and half.fingerprint == full.fingerprint
    rows = half.embed(pictures)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, full.embed(pictures), atol=0.1)
    assert half.tokens(picture()).last_hidden_state.dtype == torch.float32
    assert half.classify(picture())[0].labels  # heads stay in float32
    assert half.assign(picture()).dtype == np.float32


def test_every_error_is_a_vitmsn_error(encoder: Encoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for wrong in ({"size": 3}, {"keep_indices": [99]}):
            with pytest.raises(ViTMSNError):
                encoder.embed(picture(), **wrong)  # type: ignore[arg-type]
