"""Attention as rows against the model's own maps, transformers' maps, and formulas written out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from vitmsn import ViTMSNConfig, ViTMSNModel, attention
from vitmsn.errors import InputError
from vitmsn.model import ViTMSNOutput

CONFIG = ViTMSNConfig(
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=32,
    image_size=20,
    patch_size=5,
    initializer_range=0.4,  # maps far from even
)


@pytest.fixture
def model() -> ViTMSNModel:
    return ViTMSNModel(CONFIG).eval()


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 20, 20)


def run(model: ViTMSNModel, pixels: Tensor, keep: Tensor | None = None) -> ViTMSNOutput:
    with torch.no_grad():
        return model(
            pixels,
            keep_indices=keep,
            interpolate_pos_encoding=True,
            output_attentions=True,
            output_hidden_states=True,
        )


def maps_of(out: ViTMSNOutput) -> Tensor:
    assert out.attentions is not None
    return torch.stack(out.attentions, dim=1)  # (B, L, H, T, T)


# Rows


def test_rows_are_those_of_the_models_own_maps(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    expected = maps_of(out)
    torch.testing.assert_close(attention.cls_attention(model, out), expected[:, :, :, 0, 1:])
    torch.testing.assert_close(attention.cls_attention(model, out, with_cls=True), expected[:, :, :, 0])
    for layer in range(3):
        for patch in (0, 7, 15):
            row = attention.patch_attention(model, out, patch, layer)
            torch.testing.assert_close(row, expected[:, layer, :, 1 + patch, 1:])


def test_rows_are_those_of_transformers_eager_attention(model: ViTMSNModel, pixels: Tensor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    oracle = transformers.ViTMSNModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = torch.stack(oracle(pixels, output_attentions=True).attentions, dim=1)
    out = run(model, pixels)
    assert theirs.max() > 0.5  # no even maps, which would agree by chance
    torch.testing.assert_close(
        attention.cls_attention(model, out, with_cls=True), theirs[:, :, :, 0], rtol=0, atol=1e-5
    )
    torch.testing.assert_close(attention.patch_attention(model, out, 9, 1), theirs[:, 1, :, 10, 1:], rtol=0, atol=1e-5)


def test_with_the_cls_column_a_row_sums_to_one(model: ViTMSNModel, pixels: Tensor) -> None:
    rows = attention.cls_attention(model, run(model, pixels), with_cls=True)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 3, 4))


def test_other_sizes_and_models_without_qkv_bias() -> None:
    model = ViTMSNModel(replace(CONFIG, qkv_bias=False)).eval()
    out = run(model, torch.randn(1, 3, 10, 35))
    assert out.grid == (2, 7)
    torch.testing.assert_close(attention.cls_attention(model, out), maps_of(out)[:, :, :, 0, 1:])


def test_half_precision_models_are_read_in_float32(pixels: Tensor) -> None:
    model = ViTMSNModel(CONFIG).to(torch.bfloat16).eval()
    rows = attention.cls_attention(model, run(model, pixels), with_cls=True)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 3, 4))


def test_no_gradient_is_kept(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    assert not attention.cls_attention(model, out).requires_grad
    assert not attention.rollout(model, out).requires_grad


# Rollout


@pytest.mark.parametrize("start", [0, 1, 2])
def test_rollout_is_the_product_of_the_mixed_matrices(model: ViTMSNModel, pixels: Tensor, start: int) -> None:
    out = run(model, pixels)
    product = torch.eye(17).expand(2, 17, 17)
    for weights in maps_of(out)[:, start:].unbind(1):
        product = ((weights.mean(1) + torch.eye(17)) / 2) @ product
    torch.testing.assert_close(attention.rollout(model, out, start), product[:, 0, 1:])


def test_rollout_of_dropped_patches(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels, torch.tensor([[1, 5, 6], [0, 2, 15]]))
    product = torch.eye(4).expand(2, 4, 4)
    for weights in maps_of(out).unbind(1):
        product = ((weights.mean(1) + torch.eye(4)) / 2) @ product
    torch.testing.assert_close(attention.rollout(model, out), product[:, 0, 1:])


# Similarity


def test_a_patch_is_most_similar_to_itself(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    alike = attention.similarity(out, 6)
    expected = torch.cosine_similarity(out.last_hidden_state[:, 1:], out.last_hidden_state[:, 7:8], dim=-1)
    torch.testing.assert_close(alike, expected)
    assert alike.argmax(-1).tolist() == [6, 6]


# Summaries of maps


def test_entropy_of_known_maps() -> None:
    maps = torch.tensor([[0.25, 0.25, 0.25, 0.25], [2.0, 0.0, 0.0, 0.0], [0.3, 0.1, 0.0, 0.0]])
    expected = [math.log(4), 0.0, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]
    torch.testing.assert_close(attention.entropy(maps), torch.tensor(expected))


def test_mean_distance_from_a_place_and_from_the_centre() -> None:
    positions = torch.tensor([[0, 0], [0, 2], [0, 4]])
    shares = torch.tensor([0.25, 0.5, 0.25])
    assert attention.mean_distance(shares, positions, torch.tensor([0, 0])) == pytest.approx(2.0)
    assert attention.mean_distance(shares, positions) == pytest.approx(1.0)
    assert attention.mean_distance(torch.tensor([0.0, 0.0, 3.0]), positions) == pytest.approx(0.0)


@pytest.mark.parametrize("mass", [0.05, 0.3, 0.6, 0.95, 1.0])
def test_the_mass_threshold_keeps_the_smallest_set(mass: float) -> None:
    maps = torch.rand(5, 3, 40) ** 4
    kept = attention.mass_threshold(maps, mass)
    shares = maps / maps.sum(-1, keepdim=True)
    held = (shares * kept).sum(-1)
    assert (held >= mass - 1e-5).all()
    weakest = shares.masked_fill(~kept, 2).amin(-1)
    assert (held - weakest < mass).all(), "one patch fewer would do"
    strongest_left = shares.masked_fill(kept, -1).amax(-1)
    assert (weakest >= strongest_left).all()


def test_the_mass_threshold_grows_with_the_mass_and_ignores_scale() -> None:
    maps = torch.rand(30)
    counts = [int(attention.mass_threshold(maps, mass).sum()) for mass in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
    assert counts == sorted(counts) and counts[-1] == 30
    assert torch.equal(attention.mass_threshold(maps, 0.5), attention.mass_threshold(7 * maps, 0.5))
    assert attention.mass_threshold(torch.tensor([0.0, 1.0, 0.0]), 1.0).tolist() == [False, True, False]


@pytest.mark.parametrize("mass", [0.0, -0.1, 1.01, float("nan")])
def test_a_mass_outside_its_range_is_refused(mass: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        attention.mass_threshold(torch.rand(4), mass)


# Grids


def test_maps_return_to_their_places(model: ViTMSNModel, pixels: Tensor) -> None:
    keep = torch.tensor([[1, 5, 6], [0, 2, 15]])
    out = run(model, pixels, keep)
    maps = attention.cls_attention(model, out)
    grid = attention.to_grid(maps, out)
    assert grid.shape == (2, 3, 4, 4, 4)
    for picture in range(2):
        flat = grid[picture].flatten(-2)
        torch.testing.assert_close(flat[..., keep[picture]], maps[picture])
        assert flat.isnan().sum(-1).unique().tolist() == [13]
    full = run(model, pixels)
    rollout = attention.rollout(model, full)
    torch.testing.assert_close(attention.to_grid(rollout, full).flatten(1), rollout)


# Errors


def test_what_is_not_there_is_named(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    with pytest.raises(InputError, match="layer is 3; this model has the layers 0 to 2"):
        attention.patch_attention(model, out, 0, 3)
    with pytest.raises(InputError, match="layer is -1"):
        attention.rollout(model, out, -1)
    for ask in (lambda patch: attention.patch_attention(model, out, patch, 0), lambda p: attention.similarity(out, p)):
        for patch in (-1, 16):
            with pytest.raises(InputError, match=rf"patch is {patch}; this picture has the patches 0 to 15"):
                ask(patch)


def test_tokens_without_every_layer_are_refused(model: ViTMSNModel, pixels: Tensor) -> None:
    with torch.no_grad():
        out = model(pixels)
    with pytest.raises(InputError, match="output_hidden_states=True"):
        attention.cls_attention(model, out)
