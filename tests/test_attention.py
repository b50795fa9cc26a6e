"""Attention as rows against the model's own maps, transformers' maps, and formulas written out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from sklearn.decomposition import PCA
from torch import Tensor

from vitmsn import ViTMSNConfig, ViTMSNModel, attention
from vitmsn.errors import InputError
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import NotPacked, pack

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


@pytest.mark.parametrize("packed", [False, True])
def test_maps_are_the_same_without_keeping_tokens(
    model: ViTMSNModel, pixels: Tensor, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitmsn.packed.TOKENS", 20)  # a picture at a time
    maker = pack(model) if packed else model
    assert not isinstance(maker, NotPacked)
    for keep in (None, torch.tensor([[3, 1, 8], [0, 15, 2]])):
        wanted = run(model, pixels, keep)
        found = attention.cls_maps(maker, pixels, keep)
        torch.testing.assert_close(found, maps_of(wanted)[:, :, :, 0, 1:], rtol=0, atol=1e-5)
        assert found.shape == (2, 3, 4, 16 if keep is None else 3)
    torch.testing.assert_close(attention.cls_maps(maker, pixels, with_cls=True).sum(-1), torch.ones(2, 3, 4))
    other = torch.randn(1, 3, 10, 35)
    torch.testing.assert_close(
        attention.cls_maps(maker, other), attention.cls_attention(model, run(model, other)), rtol=0, atol=1e-5
    )
    with pytest.raises(InputError, match="keep_indices runs"):
        attention.cls_maps(maker, pixels, torch.tensor([[3], [16]]))


def test_maps_are_right_while_another_thread_uses_the_model(model: ViTMSNModel, pixels: Tensor) -> None:
    wanted, done = attention.cls_maps(model, pixels), threading.Event()

    def use() -> None:
        while not done.is_set():
            run(model, pixels[:1])

    other = threading.Thread(target=use)
    other.start()
    try:
        for _ in range(20):
            torch.testing.assert_close(attention.cls_maps(model, pixels), wanted)
    finally:
        done.set()
        other.join()


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


def test_attention_needs_no_gradient(model: ViTMSNModel, pixels: Tensor) -> None:
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


def test_rollout_and_columns_of_more_rows_than_a_piece() -> None:
    model = ViTMSNModel(replace(CONFIG, image_size=65)).eval()  # 170 tokens
    out = run(model, torch.randn(1, 3, 65, 65))
    product = torch.eye(170)
    for weights in maps_of(out)[0].unbind(0):
        product = ((weights.mean(0) + torch.eye(170)) / 2) @ product
    torch.testing.assert_close(attention.rollout(model, out)[0], product[0, 1:])
    for patch in (0, 126, 127, 168):
        torch.testing.assert_close(attention.attention_to(model, out, patch, 2), maps_of(out)[:, 2, :, 1:, 1 + patch])


def test_no_matrix_of_tokens_by_tokens_is_kept() -> None:
    """1025 tokens, 16 heads: the matrices of one layer alone would be 67 MB."""
    code = """
import resource, torch
from vitmsn import ViTMSNConfig, ViTMSNModel, attention, relevance
config = ViTMSNConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=16, intermediate_size=32, patch_size=7)
model = ViTMSNModel(config).eval()
def run(pixels):
    with torch.inference_mode():
        tokens = model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
    attention.rollout(model, tokens)
    attention.attention_to(model, tokens, 3, 3)
    attention.head_statistics(model, tokens)
    relevance.relevance(model, tokens, lambda cls: cls[:, 0])
    return attention.cls_attention(model, tokens).shape[-1]
run(torch.zeros(1, 3, 28, 28))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert run(torch.zeros(1, 3, 224, 224)) == 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=threads)
    assert float(done.stdout) < 55, "MB"


# Columns, combinations


@pytest.mark.parametrize("keep", [None, torch.tensor([[1, 5, 6], [0, 2, 15]])])
def test_attention_to_a_patch_is_a_column(model: ViTMSNModel, pixels: Tensor, keep: Tensor | None) -> None:
    out = run(model, pixels, keep)
    for layer in range(3):
        for patch in (0, 2):
            column = attention.attention_to(model, out, patch, layer)
            torch.testing.assert_close(column, maps_of(out)[:, layer, :, 1:, 1 + patch])


def test_heads_are_combined() -> None:
    maps = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(attention.combine(maps), maps.mean(2))
    torch.testing.assert_close(attention.combine(maps, how="max"), maps.max(2).values)
    torch.testing.assert_close(attention.combine(maps, [1, 3]), (maps[:, :, 1] + maps[:, :, 3]) / 2)
    for heads in ([], [4], [-1]):
        with pytest.raises(InputError, match="at least one of the heads 0 to 3"):
            attention.combine(maps, heads)
    with pytest.raises(InputError, match="mean, max"):
        attention.combine(maps, how="median")


# Similarity, components


def test_a_patch_is_most_similar_to_itself(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    alike = attention.similarity(out, 6)
    expected = torch.cosine_similarity(out.last_hidden_state[:, 1:], out.last_hidden_state[:, 7:8], dim=-1)
    torch.testing.assert_close(alike, expected)
    assert alike.argmax(-1).tolist() == [6, 6]


def test_similarity_in_a_layer(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    assert out.hidden_states is not None
    states = out.hidden_states[2][:, 1:]
    torch.testing.assert_close(
        attention.similarity(out, 4, layer=1), torch.cosine_similarity(states, states[:, 4:5], dim=-1)
    )
    with pytest.raises(InputError, match="layer is 3; these tokens have the layers 0 to 2"):
        attention.similarity(out, 4, layer=3)


def test_components_are_those_of_scikit_learn(model: ViTMSNModel, pixels: Tensor) -> None:
    out = run(model, pixels)
    scores, shares = attention.components(out)
    for picture in range(2):
        pca = PCA(3).fit(out.last_hidden_state[picture, 1:])
        expected = torch.from_numpy(pca.transform(out.last_hidden_state[picture, 1:])).float()
        torch.testing.assert_close(scores[picture].abs(), expected.abs(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(shares[picture], torch.from_numpy(pca.explained_variance_ratio_).float())
    largest = scores.gather(1, scores.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()
    rgb = attention.colors(scores)
    assert rgb.amin(1).tolist() == [[0, 0, 0]] * 2 and rgb.amax(1).tolist() == [[1, 1, 1]] * 2
    with pytest.raises(InputError, match="from 1 to 16 components"):
        attention.components(out, 17)


# Summaries of maps


def test_head_statistics_are_those_of_the_whole_matrices(model: ViTMSNModel, pixels: Tensor) -> None:
    for keep in (None, torch.tensor([[1, 5, 6, 12], [0, 2, 15, 9]])):
        out = run(model, pixels, keep)
        found = attention.head_statistics(model, out)
        maps = maps_of(out)[..., 1:, 1:]
        maps = maps / maps.sum(-1, keepdim=True)
        for picture in range(2):
            places = torch.arange(16) if keep is None else keep[picture]
            apart = [[math.hypot(int(a) // 4 - int(b) // 4, int(a) % 4 - int(b) % 4) for b in places] for a in places]
            distance = (maps[picture] * torch.tensor(apart)).sum(-1).mean(-1)
            torch.testing.assert_close(found.distance[picture], distance)
            torch.testing.assert_close(found.entropy[picture], -(maps[picture] * maps[picture].log()).sum(-1).mean(-1))


def test_overlap_and_agreement() -> None:
    one, other = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 2.0, 2.0, 0.0])
    assert attention.overlap(one, other) == pytest.approx(0.5) and attention.overlap(one, one) == pytest.approx(1)
    torch.testing.assert_close(attention.agreement(torch.stack([one, one, one])), torch.ones(3))
    torch.testing.assert_close(attention.agreement(torch.stack([one, other])), torch.tensor([0.75, 0.75]))


def test_suggested_heads_are_the_extremes_and_each_is_named_once() -> None:
    maps = torch.full((2, 3, 10), 0.1)
    maps[1, 2] = torch.eye(10)[4]  # focused, and alone
    maps[0, 1] = torch.tensor([0.19] * 5 + [0.01] * 5)
    distance = torch.tensor([[3.0, 2.0, 5.0], [4.0, 1.0, 9.0]])
    found = [(s.layer, s.head, s.reason) for s in attention.suggest(maps, distance)]
    assert found == [(1, 2, "focused"), (0, 1, "alone"), (0, 2, "far"), (1, 1, "near")]
    focused, alone, far, near = (s.value for s in attention.suggest(maps, distance))
    assert (focused, far, near) == (1, 5, 1) and alone == pytest.approx(float(attention.agreement(maps)[0, 1]))
    assert "alone" not in [s.reason for s in attention.suggest(maps[:, :1], distance[:, :1])]


@pytest.mark.parametrize(
    ("picture", "side", "patch", "expected"),
    [
        ((640, 640), 64, (8, 8), (64, 64)),
        ((1600, 400), 64, (8, 8), (32, 128)),
        ((400, 1600), 224, (16, 16), (448, 112)),
        ((5000, 100), 64, (8, 8), (8, 512)),
        ((300, 300), 64, (8, 16), (64, 64)),
    ],
)
def test_inputs_that_keep_proportions(
    picture: tuple[int, int], side: int, patch: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert attention.fitting_size(picture, side, patch) == expected


def test_entropy_of_known_maps() -> None:
    maps = torch.tensor([[0.25, 0.25, 0.25, 0.25], [2.0, 0.0, 0.0, 0.0], [0.3, 0.1, 0.0, 0.0]])
    expected = [math.log(4), 0.0, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]
    torch.testing.assert_close(attention.entropy(maps), torch.tensor(expected))


def test_mean_distance_from_a_patch_and_from_the_center() -> None:
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


def test_maps_of_kept_patches_go_back_to_their_grid_places(model: ViTMSNModel, pixels: Tensor) -> None:
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


def test_invalid_arguments_are_named(model: ViTMSNModel, pixels: Tensor) -> None:
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
