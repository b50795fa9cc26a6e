"""Where the model looks: attention as rows, rollout, entropy, distance, and the patches that hold most of it.

Attention is recomputed from the tokens of each layer: a CLS row is one query against the keys of its layer, so all
layers and heads cost layers x heads x tokens numbers, never a token-by-token matrix for each layer. Layers, heads and
patches count from 0. Where patches were dropped, "patches" are the K that were kept, in their order.

Letters: B pictures, L layers, H heads, K patches, T = 1 + K tokens (CLS first), d width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vitmsn.errors import InputError
from vitmsn.model import Attention, Layer, ViTMSNModel, ViTMSNOutput


def cls_attention(model: ViTMSNModel, tokens: ViTMSNOutput, with_cls: bool = False) -> Tensor:
    """What CLS attends to, in every layer and head.

    Args:
        tokens: an output with hidden states, like ``Encoder.tokens`` gives.
        with_cls: also give CLS's attention to itself, as the first column; the rows then sum to 1.

    Returns:
        (B, L, H, K), or (B, L, H, 1 + K) with the CLS column.
    """
    states = _states(model, tokens)
    rows = torch.stack([_rows(model, states[layer], layer, 0) for layer in range(len(model.layers))], dim=1)
    return rows if with_cls else rows[..., 1:]


def patch_attention(model: ViTMSNModel, tokens: ViTMSNOutput, patch: int, layer: int) -> Tensor:
    """What one patch attends to in one layer: (B, H, K), without the CLS column.

    Args:
        patch: its place among the patches kept, 0 to K - 1.

    Raises:
        InputError: a patch or a layer that is not there.
    """
    states = _states(model, tokens)
    _check_layer(model, layer)
    patches = states[0].shape[1] - 1
    if not 0 <= patch < patches:
        raise InputError(f"patch is {patch}; this picture has the patches 0 to {patches - 1}.")
    return _rows(model, states[layer], layer, 1 + patch)[..., 1:]


def rollout(model: ViTMSNModel, tokens: ViTMSNOutput, start_layer: int = 0) -> Tensor:
    """Attention rollout of CLS (Abnar and Zuidema 2020): how layers pass information on, residual included.

    Each layer mixes by (mean over heads + identity) / 2; CLS's row of their product is carried backwards from the last
    layer to ``start_layer``, so one head's matrix is in memory at a time.

    Returns:
        (B, K), without the CLS column.
    """
    states = _states(model, tokens)
    _check_layer(model, start_layer)
    batch, count = states[0].shape[:2]
    row = torch.zeros(batch, 1, count)
    row[..., 0] = 1
    for layer in range(len(model.layers) - 1, start_layer - 1, -1):
        row = (_through(model, states[layer], layer, row) + row) / 2
    return row[:, 0, 1:]


def similarity(tokens: ViTMSNOutput, patch: int) -> Tensor:
    """Cosine similarity of one patch's last token (after the final LayerNorm) to all patches' tokens: (B, K)."""
    last = functional.normalize(tokens.last_hidden_state[:, 1:], dim=-1)
    if not 0 <= patch < last.shape[1]:
        raise InputError(f"patch is {patch}; this picture has the patches 0 to {last.shape[1] - 1}.")
    return (last @ last[:, patch].unsqueeze(-1)).squeeze(-1)


def entropy(maps: Tensor) -> Tensor:
    """Entropy in nats of each map over its last axis, after normalising it to sum to 1: (..., K) -> (...)."""
    shares = _shares(maps)
    return -(shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum(-1)


def mean_distance(maps: Tensor, positions: Tensor, origin: Tensor | None = None) -> Tensor:
    """Mean distance, in patches, of what each map attends to: (..., K) -> (...).

    Args:
        positions: (K, 2), row and column of each patch.
        origin: (2,) where distance is measured from; the centre of the attention itself by default, since CLS has no
            place of its own.
    """
    shares = _shares(maps)
    positions = positions.to(shares.dtype)
    centre = shares @ positions if origin is None else origin.to(shares.dtype).expand(*shares.shape[:-1], 2)
    return (shares * (positions - centre.unsqueeze(-2)).norm(dim=-1)).sum(-1)


def mass_threshold(attention_map: Tensor, mass: float) -> Tensor:
    """The smallest set of patches that holds ``mass`` of the attention (as DINO shows it): (..., K) -> bool (..., K).

    Raises:
        InputError: a mass outside (0, 1].
    """
    if not 0 < mass <= 1:
        raise InputError(f"The mass to keep is {mass}; it must be above 0 and at most 1.")
    shares = _shares(attention_map)
    ordered, order = shares.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # what the stronger patches hold already
    return torch.zeros_like(shares, dtype=torch.bool).scatter(-1, order, before < mass - 1e-6)


def to_grid(values: Tensor, tokens: ViTMSNOutput) -> Tensor:
    """Values of the patches kept (B, ..., K) -> on the grid (B, ..., rows, columns), NaN where a patch was dropped."""
    rows, columns = tokens.grid
    if tokens.keep_indices is None:
        return values.unflatten(-1, (rows, columns))
    grid = values.new_full((*values.shape[:-1], rows * columns), float("nan"))
    places = tokens.keep_indices.view(len(values), *[1] * (values.ndim - 2), -1).expand_as(values)
    return grid.scatter(-1, places, values).unflatten(-1, (rows, columns))


def _shares(maps: Tensor) -> Tensor:
    return maps / maps.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def _states(model: ViTMSNModel, tokens: ViTMSNOutput) -> tuple[Tensor, ...]:
    if tokens.hidden_states is None or len(tokens.hidden_states) != len(model.layers) + 1:
        raise InputError(
            "These tokens lack the hidden states of every layer; take them from Encoder.tokens, or run the model with "
            "output_hidden_states=True."
        )
    return tokens.hidden_states


def _check_layer(model: ViTMSNModel, layer: int) -> None:
    if not 0 <= layer < len(model.layers):
        raise InputError(f"layer is {layer}; this model has the layers 0 to {len(model.layers) - 1}.")


def _block(model: ViTMSNModel, layer: int) -> Layer:
    block = model.layers[layer]
    assert isinstance(block, Layer)
    return block


def _project(attention: Attention, x: Tensor, part: int) -> Tensor:
    """Tokens (B, T, D) -> their queries (part 0) or keys (part 1), (B, H, T, d), in float32 on the CPU."""
    width = attention.heads * attention.head_dim
    rows = slice(part * width, (part + 1) * width)
    bias = attention.qkv.bias
    projected = functional.linear(x, attention.qkv.weight[rows], None if bias is None else bias[rows])
    return projected.unflatten(-1, (attention.heads, attention.head_dim)).transpose(1, 2).float().cpu()


@torch.inference_mode()
def _rows(model: ViTMSNModel, state: Tensor, layer: int, token: int) -> Tensor:
    """One token's attention row in one layer: (B, H, T). One query against all keys."""
    block = _block(model, layer)
    x = block.layernorm_before(state.to(next(block.parameters())))
    query = _project(block.attention, x[:, token : token + 1], 0) * block.attention.scale  # (B, H, 1, d)
    return (query @ _project(block.attention, x, 1).transpose(-2, -1)).squeeze(2).softmax(-1)


@torch.inference_mode()
def _through(model: ViTMSNModel, state: Tensor, layer: int, row: Tensor) -> Tensor:
    """``row`` (B, 1, T) times one layer's attention, averaged over its heads: (B, 1, T)."""
    block = _block(model, layer)
    x = block.layernorm_before(state.to(next(block.parameters())))
    query, key = (_project(block.attention, x, part) for part in (0, 1))
    query = query * block.attention.scale
    total = torch.zeros_like(row)
    for head in range(block.attention.heads):
        total += row @ (query[:, head] @ key[:, head].transpose(-2, -1)).softmax(-1)
    return total / block.attention.heads
