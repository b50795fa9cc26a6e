"""Where the model looks: attention rows, rollout, entropy, distance, and the patches that hold most of the attention.

Attention is recomputed from the tokens of each layer: a CLS row is one query against the keys of its layer, so all
layers and heads cost layers x heads x tokens numbers. What needs every query (rollout, attention to a patch,
distance) is computed a few rows at a time: no token-by-token matrix is kept. Layers, heads and patches count
from 0. Where patches were dropped, "patches" are the K that were kept, in their order.

Letters: B pictures, L layers, H heads, K patches, T = 1 + K tokens (CLS first), d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vitmsn.errors import InputError
from vitmsn.layers import Attention, Layer
from vitmsn.model import ViTMSNModel
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import PackedModel

PIECE = 128  # queries whose attention is in memory at a time
COMBINATIONS = ("mean", "max")


# ------------------------------------------------------------------------------------------------------------- rows


def cls_attention(model: ViTMSNModel, tokens: ViTMSNOutput, with_cls: bool = False) -> Tensor:
    """What CLS attends to, in every layer and head.

    Args:
        tokens: an output with hidden states, like ``Encoder.tokens`` gives.
        with_cls: also give CLS's attention to itself, as the first column; the rows then sum to 1.

    Returns:
        (B, L, H, K), or (B, L, H, 1 + K) with the CLS column.
    """
    states = layer_states(model, tokens)
    rows = torch.stack([_rows(model, states[layer], layer, 0) for layer in range(len(model.layers))], dim=1)
    return rows if with_cls else rows[..., 1:]


@torch.inference_mode()
def cls_maps(
    model: ViTMSNModel | PackedModel, pixel_values: Tensor, keep_indices: Tensor | None = None, with_cls: bool = False
) -> Tensor:
    """The same maps from pixels, for large inputs: each layer's are computed as the forward passes it, and no layer's
    tokens are kept.

    Args:
        model: a backbone, or its ``packed.pack``, which is faster on a CPU.
        pixel_values, keep_indices: as the backbone takes them, at any size that its patches divide.

    Returns:
        (B, L, H, K), or (B, L, H, 1 + K) with the CLS column.
    """
    backbone = model.model if isinstance(model, PackedModel) else model
    found: list[list[Tensor]] = [[] for _ in backbone.layers]  # of each layer, the pictures in their order

    def watch(layer: int, tokens: Tensor) -> None:
        found[layer].append(_rows(backbone, tokens, layer, 0))

    if isinstance(model, PackedModel):
        model(pixel_values, keep_indices, watch=watch)
    else:
        grid = model.checked_grid(pixel_values, None, keep_indices, interpolate=True)
        x = model.embeddings(pixel_values.to(model.device, model.dtype), grid, None, keep_indices)
        for number, layer in enumerate(model.layers):  # no hooks: other threads may use the model now
            watch(number, x)
            x = layer(x, False)[0]
    rows = torch.stack([torch.cat(of_layer) for of_layer in found], dim=1)
    return rows if with_cls else rows[..., 1:]


def patch_attention(model: ViTMSNModel, tokens: ViTMSNOutput, patch: int, layer: int) -> Tensor:
    """What one patch attends to in one layer: (B, H, K), without the CLS column.

    Args:
        patch: its place among the patches kept, 0 to K - 1.

    Raises:
        InputError: a patch or a layer that is not there.
    """
    states = layer_states(model, tokens)
    check_layer(model, layer)
    _check_patch(patch, states[0].shape[1] - 1)
    return _rows(model, states[layer], layer, 1 + patch)[..., 1:]


def attention_to(model: ViTMSNModel, tokens: ViTMSNOutput, patch: int, layer: int) -> Tensor:
    """The attention that all patches pay to one patch: a column, (B, H, K), each number a share of its row.

    Columns do not sum to 1: a patch with much attention from all others has large values.

    Raises:
        InputError: a patch or a layer that is not there.
    """
    states = layer_states(model, tokens)
    check_layer(model, layer)
    _check_patch(patch, states[0].shape[1] - 1)
    columns = [weights[..., 1 + patch] for _, weights in pieces(model, states[layer], layer)]
    return torch.cat(columns, dim=-1)[..., 1:]  # without CLS's own row


def rollout(model: ViTMSNModel, tokens: ViTMSNOutput, start_layer: int = 0) -> Tensor:
    """Attention rollout of CLS (Abnar and Zuidema 2020): how layers pass information on, residual included.

    Each layer mixes by (mean over heads + identity) / 2; CLS's row of their product is carried backwards from the last
    layer to ``start_layer``.

    Returns:
        (B, K), without the CLS column.
    """
    states = layer_states(model, tokens)
    check_layer(model, start_layer)
    batch, count = states[0].shape[:2]
    row = torch.zeros(batch, 1, count)
    row[..., 0] = 1
    for layer in range(len(model.layers) - 1, start_layer - 1, -1):
        through = torch.zeros_like(row)
        for rows, weights in pieces(model, states[layer], layer):
            through += row[..., rows] @ weights.mean(1)
        row = (through + row) / 2
    return row[:, 0, 1:]


def combine(maps: Tensor, heads: Sequence[int] | None = None, how: str = "mean") -> Tensor:
    """Maps of all heads (..., H, K) -> one map (..., K): the mean or the largest of the ``heads`` chosen (all).

    Raises:
        InputError: a head that is not there, no head at all, or another word than mean or max.
    """
    many = maps.shape[-2]
    chosen = range(many) if heads is None else heads
    if not chosen or any(not 0 <= head < many for head in chosen):
        raise InputError(f"heads are {list(chosen)}; choose at least one of the heads 0 to {many - 1}.")
    if how not in COMBINATIONS:
        raise InputError(f"how is {how!r}; choose one of {', '.join(COMBINATIONS)}.")
    some = maps[..., list(chosen), :]
    return some.mean(-2) if how == "mean" else some.amax(-2)


# ----------------------------------------------------------------------------------------------------------- tokens


def similarity(tokens: ViTMSNOutput, patch: int, layer: int | None = None) -> Tensor:
    """Cosine similarity of one patch's token to all patches' tokens: (B, K), from -1 to 1.

    Args:
        layer: of that layer's output; None: of the last one after the final LayerNorm.
    """
    patches = functional.normalize(_patch_tokens(tokens, layer), dim=-1)
    _check_patch(patch, patches.shape[1])
    return (patches @ patches[:, patch].unsqueeze(-1)).squeeze(-1)


def components(tokens: ViTMSNOutput, count: int = 3, layer: int | None = None) -> tuple[Tensor, Tensor]:
    """Principal components of the patches' tokens, each picture by itself: three of them make colors (as DINOv2 does).

    Args:
        layer: as in :func:`similarity`.

    Returns:
        scores (B, K, count), each component turned so that its largest score is positive; and the share of the variance
        each explains, (B, count).
    """
    patches = _patch_tokens(tokens, layer).double()
    if not 1 <= count <= min(patches.shape[1:]):
        raise InputError(f"count is {count}; these tokens have from 1 to {min(patches.shape[1:])} components.")
    centered = patches - patches.mean(1, keepdim=True)
    left, size, _ = torch.linalg.svd(centered, full_matrices=False)  # (B, K, r), (B, r)
    scores = left[..., :count] * size[:, None, :count]
    largest = scores.gather(1, scores.abs().argmax(1, keepdim=True))
    shares = size.square() / size.square().sum(-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
    return (scores * largest.sign()).float(), shares[:, :count].float()


def colors(scores: Tensor) -> Tensor:
    """Scores (..., K, 3) -> RGB from 0 to 1: each component stretched from its least to its largest."""
    low, high = scores.amin(-2, keepdim=True), scores.amax(-2, keepdim=True)
    return (scores - low) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny)


# -------------------------------------------------------------------------------------------------------- summaries


def entropy(maps: Tensor) -> Tensor:
    """Entropy in nats of each map over its last axis, after normalizing it to sum to 1: (..., K) -> (...)."""
    shares = _shares(maps)
    return -(shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum(-1)


def mean_distance(maps: Tensor, positions: Tensor, origin: Tensor | None = None) -> Tensor:
    """Mean distance, in patches, of what each map attends to: (..., K) -> (...).

    Args:
        positions: (K, 2), row and column of each patch.
        origin: (2,) where distance is measured from; the center of the attention itself by default, since CLS has no
            position.
    """
    shares = _shares(maps)
    positions = positions.to(shares.dtype)
    center = shares @ positions if origin is None else origin.to(shares.dtype).expand(*shares.shape[:-1], 2)
    return (shares * (positions - center.unsqueeze(-2)).norm(dim=-1)).sum(-1)


def overlap(maps: Tensor, others: Tensor) -> Tensor:
    """Share of the attention that two maps have in common, 0 to 1: (..., K) and (..., K) -> (...)."""
    return torch.minimum(_shares(maps), _shares(others)).sum(-1)


def agreement(maps: Tensor) -> Tensor:
    """How much of each head's attention overlaps with the mean of all heads: (..., H, K) -> (..., H), 0 to 1."""
    shares = _shares(maps)
    return overlap(shares, shares.mean(-2, keepdim=True))


@dataclass(frozen=True)
class HeadStatistics:
    """What the patches do in each head, (B, L, H): the mean over all patches as queries, CLS left out on both sides.

    Attributes:
        distance: mean distance, in patches, from query to attended patch (Dosovitskiy et al. 2021, figure 7).
        entropy: of the rows, in nats; log K at most.
    """

    distance: Tensor
    entropy: Tensor


def head_statistics(model: ViTMSNModel, tokens: ViTMSNOutput) -> HeadStatistics:
    """Distance and entropy of the patches' attention, in every layer and head; a few rows at a time."""
    states = layer_states(model, tokens)
    places = positions(tokens)  # (B, K, 2)
    found = torch.zeros(2, len(states[0]), len(model.layers), model.config.num_attention_heads)
    for layer in range(len(model.layers)):
        for rows, weights in pieces(model, states[layer], layer, first=1):
            queries = places[:, rows.start - 1 : rows.stop - 1]
            apart = torch.cdist(queries, places).unsqueeze(1)  # (B, 1, rows, K)
            shares = _shares(weights[..., 1:])
            found[0, :, layer] += (shares * apart).sum((-2, -1))
            found[1, :, layer] += entropy(shares).sum(-1)
    distance, spread = found / places.shape[1]
    return HeadStatistics(distance, spread)


@dataclass(frozen=True)
class Suggestion:
    """A head worth a look: ``reason`` is focused, alone, far or near; ``value`` the number that says so."""

    layer: int
    head: int
    reason: str
    value: float


def suggest(maps: Tensor, distance: Tensor | None = None) -> list[Suggestion]:
    """Heads worth a look, each named once.

    Args:
        maps: (L, H, K), what CLS (or a patch) attends to.
        distance: (L, H), of :func:`head_statistics`; without it nothing is far or near.

    Returns:
        focused: the map that needs the fewest patches for half its attention (value: how many; the lower entropy of
        equals); alone: least agreement with the mean of its layer's heads (value: that share; not with a single head);
        far and near: largest and least mean distance (value: patches).
    """
    half = mass_threshold(maps, 0.5).sum(-1).float()  # (L, H)
    ranks = [("focused", half, half + entropy(maps) / 1000)]
    if maps.shape[1] > 1:
        ranks.append(("alone", agreement(maps), agreement(maps)))
    if distance is not None:
        ranks += [("far", distance, -distance), ("near", distance, distance)]
    found: list[Suggestion] = []
    for reason, values, order in ranks:
        for place in order.flatten().argsort(stable=True).tolist():
            layer, head = divmod(place, maps.shape[1])
            if all((other.layer, other.head) != (layer, head) for other in found):
                found.append(Suggestion(layer, head, reason, float(values[layer, head])))
                break
    return found


def mass_threshold(attention_map: Tensor, mass: float) -> Tensor:
    """The smallest set of patches that holds ``mass`` of the attention (as DINO shows it): (..., K) -> bool (..., K).

    Raises:
        InputError: a mass outside (0, 1].
    """
    if not 0 < mass <= 1:
        raise InputError(f"The mass to keep is {mass}; it must be above 0 and at most 1.")
    shares = _shares(attention_map)
    ordered, order = shares.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the share of all stronger patches
    return torch.zeros_like(shares, dtype=torch.bool).scatter(-1, order, before < mass - 1e-6)


# ------------------------------------------------------------------------------------------------------------ grids


def positions(tokens: ViTMSNOutput) -> Tensor:
    """Row and column of every patch kept: (B, K, 2) float32."""
    rows, columns = tokens.grid
    batch, kept = len(tokens.last_hidden_state), tokens.keep_indices
    places = torch.arange(rows * columns).expand(batch, -1) if kept is None else kept.cpu()
    return torch.stack((places // columns, places % columns), dim=-1).float()


def fitting_size(picture: tuple[int, int], side: int, patch: tuple[int, int]) -> tuple[int, int]:
    """The input (height, width) that keeps a picture's proportions, with about the patches of a square of ``side``.

    Args:
        picture: its (width, height).
        side: pixels of the square input.
        patch: (height, width) of a patch in pixels; the result is made of whole ones, at least one each way.
    """
    patches = max(1.0, side / patch[0]) * max(1.0, side / patch[1])
    aspect = (picture[0] / patch[1]) / (picture[1] / patch[0])  # columns over rows
    rows = max(1, round((patches / aspect) ** 0.5))
    return rows * patch[0], max(1, round(patches / rows)) * patch[1]


def to_grid(values: Tensor, tokens: ViTMSNOutput) -> Tensor:
    """Values of the patches kept (B, ..., K) -> on the grid (B, ..., rows, columns), NaN where a patch was dropped."""
    rows, columns = tokens.grid
    if tokens.keep_indices is None:
        return values.unflatten(-1, (rows, columns))
    grid = values.new_full((*values.shape[:-1], rows * columns), float("nan"))
    places = tokens.keep_indices.view(len(values), *[1] * (values.ndim - 2), -1).expand_as(values)
    return grid.scatter(-1, places, values).unflatten(-1, (rows, columns))


# -------------------------------------------------------------------------------------------------------- computation


def _shares(maps: Tensor) -> Tensor:
    return maps / maps.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def layer_states(model: ViTMSNModel, tokens: ViTMSNOutput) -> tuple[Tensor, ...]:
    """The tokens before each layer and after the last; InputError when the output lacks them."""
    if tokens.hidden_states is None or len(tokens.hidden_states) != len(model.layers) + 1:
        raise InputError(
            "These tokens lack the hidden states of every layer; take them from Encoder.tokens, or run the model with "
            "output_hidden_states=True."
        )
    return tokens.hidden_states


def check_layer(model: ViTMSNModel, layer: int) -> None:
    """InputError for a layer that is not there."""
    if not 0 <= layer < len(model.layers):
        raise InputError(f"layer is {layer}; this model has the layers 0 to {len(model.layers) - 1}.")


def _check_patch(patch: int, patches: int) -> None:
    if not 0 <= patch < patches:
        raise InputError(f"patch is {patch}; this picture has the patches 0 to {patches - 1}.")


def _patch_tokens(tokens: ViTMSNOutput, layer: int | None) -> Tensor:
    """The patches' tokens (B, K, D): of a layer's output, or of the last one after the final LayerNorm."""
    if layer is None:
        return tokens.last_hidden_state[:, 1:].float()
    states = tokens.hidden_states
    if states is None or not 0 <= layer < len(states) - 1:
        has = "none: run the model with output_hidden_states=True" if states is None else f"0 to {len(states) - 2}"
        raise InputError(f"layer is {layer}; these tokens have the layers {has}.")
    return states[layer + 1][:, 1:].float()


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
    """One token's attention row in one layer: (B, H, T).

    One query q against all keys is q (W x + b) = (q W) x + q b for each token x: no key is computed, and q b, the same
    for all, makes no difference to the softmax.
    """
    block = _block(model, layer)
    attention = block.attention
    x = block.layernorm_before(state.to(next(block.parameters())))
    query = _project(attention, x[:, token : token + 1], 0) * attention.scale  # (B, H, 1, d)
    weight = attention.qkv.weight.chunk(3)[1].unflatten(0, (attention.heads, attention.head_dim)).float().cpu()
    return (query @ weight).squeeze(2).matmul(x.float().cpu().transpose(1, 2)).softmax(-1)


def pieces(model: ViTMSNModel, state: Tensor, layer: int, first: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """One layer's attention a few rows at a time: (which rows of the tokens, their weights (B, H, rows, T))."""
    with torch.inference_mode():
        block = _block(model, layer)
        x = block.layernorm_before(state.to(next(block.parameters())))
        query, key = (_project(block.attention, x, part) for part in (0, 1))
    for start in range(first, query.shape[2], PIECE):
        rows = slice(start, min(start + PIECE, query.shape[2]))
        with torch.inference_mode():
            weights = (query[:, :, rows] * block.attention.scale @ key.transpose(-2, -1)).softmax(-1)
        yield rows, weights
