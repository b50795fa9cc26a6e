"""The backbone's forward on a CPU, with weights packed for its matrix kernels. For inference only.

The plain forward gives oneDNN each weight as it lies in memory, and it is rearranged in every call. Here that is done
once, and what follows a product is computed by its kernel: the activation after the first layer of an MLP, and in
float32 the addition to the tokens after a projection. In bfloat16 the products are rounded, but the tokens that they
are added to stay in float32, which takes as long and halves the error. Pictures go through the network a few at a time,
so that what one layer makes is still in the cache when the next one reads it.

The operators are private to torch, so nothing relies on them: :func:`pack` compares the result with the plain forward
and says why where it cannot be used. Packed weights take as much memory as those that they are made of.

Letters: B pictures, K patches kept, T = 1 + K tokens (CLS first), D width, H heads, d = D / H.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn.config import pair
from vitmsn.layers import Layer
from vitmsn.model import ViTMSNModel
from vitmsn.outputs import ViTMSNOutput

TOKENS = 1600  # that go through the network together
ROWS = 256  # queries of one picture whose attention is in memory at a time
FUSED_TOKENS = 64  # of a single picture whose attention torch's fused kernel computes fastest in bfloat16 as well
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}  # length of the difference to the plain forward, over its own
PROBE = (3, 5)  # rows and columns of the patches of the input that is compared

# What oneDNN calls an activation: its name, and its variant
_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "swish": ("swish", ""),
    "tanh": ("tanh", ""),
}


class _Linear:
    """``x @ weight.T + bias`` on a packed weight, with what follows it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), TOKENS)
        self.bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor, activation: tuple[str, str] = ("none", "")) -> Tensor:
        name, variant = activation
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], variant)

    def added_to(self, tokens: Tensor, x: Tensor) -> Tensor:
        """``tokens`` in float32, which may be written over, plus the product of ``x``."""
        if x.dtype == tokens.dtype:
            return torch.ops.mkldnn._linear_pointwise.binary(x, tokens, self.weight, self.bias, "add")
        return tokens.add_(self(x))


class _Norm:
    """A LayerNorm of tokens in float32, rounded to what the next product takes."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.weight, self.bias, self.eps = norm.weight.detach().float(), norm.bias.detach().float(), norm.eps

    def __call__(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        return F.layer_norm(tokens, self.weight.shape, self.weight, self.bias, self.eps).to(dtype)


class _PackedLayer:
    def __init__(self, layer: Layer, activation: tuple[str, str]) -> None:
        attention = layer.attention
        self.heads, self.activation = attention.heads, activation
        self.before, self.after = _Norm(layer.layernorm_before), _Norm(layer.layernorm_after)
        weight, bias = attention.qkv.weight.detach().clone(), attention.qkv.bias
        query = slice(None, attention.heads * attention.head_dim)
        weight[query] *= attention.scale
        if bias is not None:
            scaled = bias.detach().clone()
            scaled[query] *= attention.scale
        self.qkv = _Linear(weight, None if bias is None else scaled)
        self.output = _Linear(attention.output.weight, attention.output.bias)
        self.fc1 = _Linear(layer.mlp.fc1.weight, layer.mlp.fc1.bias)
        self.fc2 = _Linear(layer.mlp.fc2.weight, layer.mlp.fc2.bias)

    def __call__(self, x: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
        """(B T, D) -> (B T, D) float32, of pictures of T ``tokens``; products in ``dtype``."""
        x = self.output.added_to(x, _attention(self.qkv(self.before(x, dtype)), tokens, self.heads))
        return self.fc2.added_to(x, self.fc1(self.after(x, dtype), self.activation))


def _attention(qkv: Tensor, tokens: int, heads: int) -> Tensor:
    """Queries (scaled), keys and values (B T, 3 D) -> what each token takes from the others (B T, D).

    In float32 torch's fused kernel is fastest at all lengths. In bfloat16 it is slower than plain products but for a
    single picture with few tokens, where calling several operators costs more than they compute. Of plain products a
    few rows are computed at a time, so that memory grows with the tokens and not with their square.
    """
    split = qkv.view(-1, tokens, 3, heads, qkv.shape[1] // (3 * heads))  # (B, T, 3, H, d)
    if qkv.dtype == torch.float32 or (len(split) == 1 and tokens <= FUSED_TOKENS):
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2).flatten(0, 1)
    mixed = qkv.new_empty(len(split), tokens, heads, split.shape[-1])
    together = max(1, 2 * ROWS // tokens)  # pictures
    for some, out in zip(split.split(together), mixed.split(together), strict=True):
        query, key, value = some.permute(2, 0, 3, 1, 4).reshape(3, -1, *split.shape[1::3]).unbind(0)  # (B H, T, d)
        key = key.transpose(1, 2)
        for start in range(0, tokens, ROWS):
            weights = torch.bmm(query[:, start : start + ROWS], key).softmax(-1)
            found = torch.bmm(weights, value).unflatten(0, (-1, heads))  # (B, H, rows, d)
            out[:, start : start + ROWS] = found.transpose(1, 2)
    return mixed.flatten(2).flatten(0, 1)


class PackedModel:
    """A frozen backbone, ready for many forwards on the CPU; :func:`pack` makes it. Not a module: it cannot train."""

    def __init__(self, model: ViTMSNModel) -> None:
        self.model = model
        projection = model.embeddings.patch_embeddings.projection
        self.patches = _Linear(projection.weight.flatten(1), projection.bias)
        self.norm, activation = _Norm(model.layernorm), _ACTIVATIONS[model.config.hidden_act]
        self.layers = [_PackedLayer(layer, activation) for layer in model.layers if isinstance(layer, Layer)]

    def __call__(
        self,
        pixel_values: Tensor,
        keep_indices: Tensor | None = None,
        output_hidden_states: bool = False,
        *,
        watch: Callable[[int, Tensor], object] | None = None,
    ) -> ViTMSNOutput:
        """As the plain forward with ``interpolate_pos_encoding``, but float32; no mask tokens, no attention maps.

        ``watch`` is called with each layer's number and the tokens (b, T, D) before it, of a few pictures at a time;
        they are written over afterwards.
        """
        dtype = self.model.dtype
        grid = self.model.checked_grid(pixel_values, None, keep_indices, interpolate=True)
        batch = len(pixel_values)
        tokens = 1 + (grid[0] * grid[1] if keep_indices is None else keep_indices.shape[1])
        width, depth = self.model.config.hidden_size, len(self.layers)
        last = torch.empty(batch, tokens, width)
        states = torch.empty(1 + depth, batch, tokens, width) if output_hidden_states else None
        together = max(1, TOKENS // tokens)  # pictures
        for start in range(0, batch, together):
            part = slice(start, start + together)
            x = self._embed(pixel_values[part].to(dtype), grid, None if keep_indices is None else keep_indices[part])
            for place, layer in enumerate(self.layers):
                if states is not None:
                    states[place, part] = x.unflatten(0, (-1, tokens))
                if watch is not None:
                    watch(place, x.unflatten(0, (-1, tokens)))
                x = layer(x, tokens, dtype)
            if states is not None:
                states[depth, part] = x.unflatten(0, (-1, tokens))
            last[part] = self.norm(x, torch.float32).unflatten(0, (-1, tokens))
        return ViTMSNOutput(last, grid, keep_indices, hidden_states=None if states is None else tuple(states))

    def _embed(self, pixel_values: Tensor, grid: tuple[int, int], keep_indices: Tensor | None) -> Tensor:
        """Pictures -> tokens (B T, D) float32."""
        embeddings = self.model.embeddings
        positions, chosen = embeddings.kept(grid, keep_indices)
        positions = positions.expand(len(pixel_values), -1, -1)
        x = torch.empty(len(pixel_values), 1 + positions.shape[1], positions.shape[2])
        x[:, 0] = (embeddings.cls_token + embeddings.position_embeddings[:, :1])[0, 0]
        cut = embeddings.patch_embeddings.cut(pixel_values, chosen)
        torch.add(self.patches(cut).view_as(positions).float(), positions, out=x[:, 1:])
        return x.flatten(0, 1)


@dataclass(frozen=True)
class NotPacked:
    """Why a model takes the plain forward."""

    reason: str


@torch.inference_mode()
def pack(model: ViTMSNModel) -> PackedModel | NotPacked:
    """Pack a backbone's weights for the CPU, and compare it with the plain forward on a small random input.

    Packing takes about as long as two forwards of one picture.
    """
    if model.device.type != "cpu" or model.dtype not in TOLERANCE:
        return NotPacked(f"packed weights are for float32 and bfloat16 on a CPU, not {model.dtype} on {model.device}")
    missing = [name for name in ("_linear_pointwise", "_reorder_linear_weight") if not has_operator(name)]
    if missing:
        return NotPacked(f"this build of torch has no mkldnn::{missing[0]}")
    if model.config.hidden_act not in _ACTIVATIONS:
        return NotPacked(f"oneDNN has no activation {model.config.hidden_act}")
    try:
        packed = PackedModel(model)
        apart = difference(model, packed, every_layer=True)
    except RuntimeError as error:  # a processor or a shape that the operators refuse
        return NotPacked(f"torch refused to pack it: {str(error).splitlines()[0]}")
    if not apart <= TOLERANCE[model.dtype]:
        reason = f"packed weights gave numbers {apart:.1e} apart where {TOLERANCE[model.dtype]:g} is allowed"
        warnings.warn(f"On this processor {reason}; the plain forward is used, which is slower.", stacklevel=2)
        return NotPacked(reason)
    return packed


@torch.inference_mode()
def difference(model: ViTMSNModel, forward: Callable[[Tensor, None, bool], ViTMSNOutput], every_layer: bool) -> float:
    """How far another forward of a backbone is from the plain one on a small random input: the length of the
    difference of the last tokens, over their own; of ``every_layer`` where it is farthest."""
    size = [rows * side for rows, side in zip(PROBE, pair(model.config.patch_size), strict=True)]
    probe = torch.randn(2, model.config.num_channels, *size, generator=torch.Generator().manual_seed(0))
    probe = probe.to(model.device)
    found = forward(probe, None, every_layer)
    wanted = model(probe, interpolate_pos_encoding=True, output_hidden_states=every_layer)
    pairs = zip(
        (found.last_hidden_state, *(found.hidden_states or ())),
        (wanted.last_hidden_state, *(wanted.hidden_states or ())),
        strict=True,
    )
    apart = [(one.float() - other.float()).norm() / other.float().norm().clamp_min(1e-30) for one, other in pairs]
    return float(torch.stack(apart).max())  # not a number where one is none


def has_operator(name: str) -> bool:
    """Whether torch has an operator of oneDNN, by its private name."""
    return hasattr(torch.ops.mkldnn, name)
