"""Which patches count for an answer: gradient-weighted attention from CLS back (Chefer et al. 2021, arXiv 2103.15679).

Each layer mixes relevance by I + mean over heads of (A * dy/dA)+, where y is the score to explain (equations 5 and 6).
Only CLS's row of the product is wanted, so it goes backwards from the last layer, together with the gradient of the
score: one layer is run again at a time, its fast attention differentiated, and A and dy/dA = (dy/do) v^T are written
out for a few rows at a time. Nothing grows with the square of the tokens.

Letters: B pictures, H heads, K patches, T = 1 + K tokens (CLS first), D width, d = D / H.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitmsn.attention import PIECE, check_layer, layer_states
from vitmsn.errors import InputError
from vitmsn.layers import Layer
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead
from vitmsn.outputs import ViTMSNOutput

# CLS after the final LayerNorm (B, D) -> the number to explain, of each picture (B,)
Score = Callable[[Tensor], Tensor]


def class_score(classifier: nn.Linear, label: int) -> Score:
    """The logit of one class."""
    if not 0 <= label < classifier.out_features:
        raise InputError(f"The class is {label}; this classifier has the classes 0 to {classifier.out_features - 1}.")
    return lambda cls: classifier(cls)[:, label]


def prototype_score(head: MSNHead, prototype: int) -> Score:
    """The cosine similarity of the projection to one prototype, over the temperature: its logit."""
    if not 0 <= prototype < len(head.prototypes):
        raise InputError(f"The prototype is {prototype}; there are the prototypes 0 to {len(head.prototypes) - 1}.")

    def score(cls: Tensor) -> Tensor:
        wanted = functional.normalize(head.prototypes[prototype].float(), dim=-1)
        return functional.normalize(head(cls).float(), dim=-1) @ wanted / head.temperature

    return score


def relevance(model: ViTMSNModel, tokens: ViTMSNOutput, score: Score, start_layer: int = 0) -> Tensor:
    """How much each patch counts for a score: at least 0, in the units of the score's gradient.

    Args:
        tokens: an output with hidden states, like ``Encoder.tokens`` gives.
        score: what to explain: :func:`class_score`, :func:`prototype_score`, or any function of CLS.
        start_layer: go back to this layer; 0 is all the way.

    Returns:
        (B, K), without the CLS column; all zeros where no head's attention raises the score.
    """
    states = layer_states(model, tokens)
    check_layer(model, start_layer)
    device = next(model.parameters()).device
    with torch.inference_mode(False), torch.enable_grad():
        last = states[-1].detach().to(device, torch.float32).clone().requires_grad_()
        score_of = score(functional.layer_norm(last, last.shape[-1:], *_norm(model.layernorm))[:, 0])
        [gradient] = torch.autograd.grad(score_of.sum(), last)
        row = torch.zeros(last.shape[:2], device=device)  # (B, T): CLS's row of the product
        row[:, 0] = 1
        for layer in range(len(model.layers) - 1, start_layer - 1, -1):
            block = model.layers[layer]
            assert isinstance(block, Layer)
            row, gradient = _back(_in_float32(block), states[layer].to(device, torch.float32).clone(), gradient, row)
    return row[:, 1:].cpu()


def _back(block: Layer, x: Tensor, gradient: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """One layer backwards: (tokens before it (B, T, D), gradient after it, row so far) -> (row, gradient before it)."""
    x.requires_grad_()
    query, key, value = block.attention.split(block.layernorm_before(x))  # (B, H, T, d)
    mixed = functional.scaled_dot_product_attention(query, key, value)
    after = x + block.attention.output(mixed.transpose(1, 2).flatten(2))
    after = after + block.mlp(block.layernorm_after(after))
    before, from_mixed = torch.autograd.grad(after, (x, mixed), gradient)
    with torch.no_grad():
        through = torch.zeros_like(row)
        for start in range(0, row.shape[1], PIECE):
            rows = slice(start, start + PIECE)
            weights = (query[:, :, rows] * block.attention.scale @ key.transpose(-2, -1)).softmax(-1)
            weights *= from_mixed[:, :, rows] @ value.transpose(-2, -1)  # A * dy/dA, (B, H, rows, T)
            through += (row[:, None, rows] @ weights.clamp_min_(0).mean(1)).squeeze(1)
    return row + through, before


def _norm(norm: nn.LayerNorm) -> tuple[Tensor, Tensor, float]:
    return norm.weight.detach().float(), norm.bias.detach().float(), norm.eps


def _in_float32(block: Layer) -> Layer:
    """The layer itself, or where it is in half precision a copy: small gradients would be lost."""
    same = next(block.parameters()).dtype == torch.float32
    return block if same else copy.deepcopy(block).float()
