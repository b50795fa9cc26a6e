"""Relevance against the formula written out on transformers' own attention maps and gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from vitmsn import ViTMSNConfig, ViTMSNModel, relevance
from vitmsn.errors import InputError
from vitmsn.msn_head import MSNHead
from vitmsn.outputs import ViTMSNOutput

CONFIG = ViTMSNConfig(
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=32,
    image_size=20,
    patch_size=5,
    initializer_range=0.4,
)


def run(model: ViTMSNModel, pixels: Tensor, keep: Tensor | None = None) -> ViTMSNOutput:
    with torch.inference_mode():
        return model(pixels, keep_indices=keep, interpolate_pos_encoding=True, output_hidden_states=True)


def written_out(
    model: ViTMSNModel, pixels: Tensor, score: relevance.Score, folder: Path, start: int = 0, **more: bool
) -> Tensor:
    """Chefer et al. with whole matrices: R <- R + mean_h (A * dy/dA)+ R from the identity up, on transformers' maps."""
    model.save_pretrained(folder)
    oracle = transformers.ViTMSNModel.from_pretrained(folder, attn_implementation="eager").eval()
    out = oracle(pixels, output_attentions=True, **more)
    gradients = torch.autograd.grad(score(out.last_hidden_state[:, 0]).sum(), out.attentions)
    product = torch.eye(out.attentions[0].shape[-1]).expand(len(pixels), -1, -1)
    for weights, gradient in list(zip(out.attentions, gradients, strict=True))[start:]:
        product = product + (weights * gradient).clamp_min(0).mean(1) @ product
    return product[:, 0, 1:].detach()


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("label", [0, 2])
def test_relevance_matches_the_formula_on_transformers_maps(tmp_path: Path, label: int, start: int) -> None:
    model, pixels = ViTMSNModel(CONFIG).eval(), torch.randn(2, 3, 20, 20)
    score = relevance.class_score(torch.nn.Linear(24, 3), label)
    found = relevance.relevance(model, run(model, pixels), score, start)
    expected = written_out(model, pixels, score, tmp_path, start)
    assert expected.max() > 10 * expected.mean() / 4, "no even map, which would agree by chance"
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_other_models_and_sizes(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    config = replace(
        CONFIG,
        hidden_size=(24, 32, 20, 48)[seed],
        num_attention_heads=(2, 8, 1, 3)[seed],
        num_hidden_layers=seed + 1,
        qkv_bias=seed != 1,
        hidden_act=("gelu", "relu", "gelu_new", "silu")[seed],
        patch_size=(5, 4, 10, 5)[seed],
    )
    model, pixels = ViTMSNModel(config).eval(), torch.randn(1, 3, 20, (20, 60, 40, 85)[seed])
    score = relevance.prototype_score(MSNHead(config.hidden_size, 16, 8, 7).eval(), 3)
    found = relevance.relevance(model, run(model, pixels), score)
    expected = written_out(model, pixels, score, tmp_path, interpolate_pos_encoding=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_more_rows_than_a_piece() -> None:
    config = replace(CONFIG, image_size=65, patch_size=5)  # 170 tokens
    model, pixels = ViTMSNModel(config).eval(), torch.randn(1, 3, 65, 65)
    score = relevance.class_score(torch.nn.Linear(24, 3), 1)
    whole = model(pixels, output_attentions=True)
    assert whole.attentions is not None
    gradients = torch.autograd.grad(score(whole.last_hidden_state[:, 0]).sum(), whole.attentions)
    product = torch.eye(170)
    for weights, gradient in zip(whole.attentions, gradients, strict=True):
        product = product + (weights * gradient).clamp_min(0).mean(1) @ product
    found = relevance.relevance(model, run(model, pixels), score)
    torch.testing.assert_close(found, product[:, 0, 1:].detach(), rtol=1e-4, atol=1e-6)


def test_dropped_patches_and_inference_mode() -> None:
    model, pixels = ViTMSNModel(CONFIG).eval(), torch.randn(2, 3, 20, 20)
    out = run(model, pixels, torch.tensor([[1, 5, 6], [0, 2, 15]]))
    score = relevance.class_score(torch.nn.Linear(24, 3), 0)
    with torch.inference_mode():
        found = relevance.relevance(model, out, score)
    assert found.shape == (2, 3) and (found >= 0).all() and not found.requires_grad
    alone = relevance.relevance(model, run(model, pixels[1:], torch.tensor([[0, 2, 15]])), score)
    torch.testing.assert_close(found[1:], alone, rtol=1e-4, atol=1e-6)


def test_half_precision_models_are_explained_in_float32() -> None:
    model, pixels = ViTMSNModel(CONFIG).eval(), torch.randn(1, 3, 20, 20)
    score = relevance.class_score(torch.nn.Linear(24, 3), 0)
    exact = relevance.relevance(model, run(model, pixels), score)
    half = relevance.relevance(model.to(torch.bfloat16), run(model, pixels), score)
    assert half.dtype == torch.float32 and next(model.parameters()).dtype == torch.bfloat16
    assert torch.corrcoef(torch.cat([exact, half]))[0, 1] > 0.9


def test_invalid_arguments_are_named() -> None:
    model = ViTMSNModel(CONFIG).eval()
    out = run(model, torch.randn(1, 3, 20, 20))
    with pytest.raises(InputError, match="class is 3; this classifier has the classes 0 to 2"):
        relevance.class_score(torch.nn.Linear(24, 3), 3)
    with pytest.raises(InputError, match="prototype is -1; there are the prototypes 0 to 6"):
        relevance.prototype_score(MSNHead(24, 8, 6, 7), -1)
    with pytest.raises(InputError, match="layer is 3"):
        relevance.relevance(model, out, relevance.class_score(torch.nn.Linear(24, 3), 0), 3)
