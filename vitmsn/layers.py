"""What the backbone is made of: patch and position embeddings, attention, MLP.

Letters in shape comments: B pictures, C channels, N patches of the grid, K patches kept (K = N unless some are
dropped), T = 1 + K tokens (CLS first), D width, H heads, d = D / H.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn.config import ViTMSNConfig, pair
from vitmsn.errors import InputError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_new": lambda: nn.GELU(approximate="tanh"),
    "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}


class PatchEmbeddings(nn.Module):
    """One linear map of the pixels of a patch; its weight has the shape of a convolution, as checkpoints have it."""

    def __init__(self, config: ViTMSNConfig) -> None:
        super().__init__()
        patch = pair(config.patch_size)
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)

    def forward(self, pixel_values: Tensor, chosen: Tensor | None) -> Tensor:
        """Pictures (B, C, height, width) -> (B N, D), or (B K, D) for the rows ``chosen`` of all B x N patches.

        A product over the chosen patches is faster than the convolution, which computes all of them.
        """
        pixels = self.cut(pixel_values, chosen)
        return F.linear(pixels, self.projection.weight.flatten(1), self.projection.bias)

    def cut(self, pixel_values: Tensor, chosen: Tensor | None) -> Tensor:
        """The pixels of each patch, in the order of the weights: (B N, C patch_height patch_width), or the chosen."""
        patch_height, patch_width = self.projection.weight.shape[2:]
        rows, columns = pixel_values.shape[2] // patch_height, pixel_values.shape[3] // patch_width
        pixels = pixel_values[:, :, : rows * patch_height, : columns * patch_width]  # the remainder fills no patch
        pixels = pixels.unflatten(3, (columns, patch_width)).unflatten(2, (rows, patch_height))
        pixels = pixels.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).flatten(1)
        return pixels if chosen is None else pixels.index_select(0, chosen)


class Embeddings(nn.Module):
    """Pixels -> tokens: of the patches kept, then the mask token, then positions, then CLS before them."""

    def __init__(self, config: ViTMSNConfig, use_mask_token: bool) -> None:
        super().__init__()
        self.config = config
        self.patch_embeddings = PatchEmbeddings(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if use_mask_token else None
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + config.num_patches, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Patch position embeddings (1, rows * columns, D), bicubically interpolated to another grid."""
        patches = self.position_embeddings[:, 1:]
        if grid == self.config.grid:
            return patches
        plane = patches.unflatten(1, self.config.grid).permute(0, 3, 1, 2)  # (1, D, native rows, native columns)
        plane = F.interpolate(plane, size=grid, mode="bicubic", align_corners=False)
        return plane.flatten(2).transpose(1, 2)

    def kept(self, grid: tuple[int, int], keep_indices: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Positions of the patches kept (B, K, D), and their places among all B x N patches (B K,).

        Without ``keep_indices``: (1, N, D) for all pictures, and None.
        """
        positions = self.positions(grid)
        if keep_indices is None:
            return positions, None
        first = grid[0] * grid[1] * torch.arange(keep_indices.shape[0], device=keep_indices.device)
        chosen = (keep_indices + first[:, None]).flatten()
        return positions[0].index_select(0, keep_indices.flatten()).unflatten(0, keep_indices.shape), chosen

    def forward(
        self,
        pixel_values: Tensor,
        grid: tuple[int, int],
        bool_masked_pos: Tensor | None = None,
        keep_indices: Tensor | None = None,
    ) -> Tensor:
        batch = pixel_values.shape[0]  # not len(), which an exported batch has not
        positions, chosen = self.kept(grid, keep_indices)
        tokens = self.patch_embeddings(pixel_values, chosen).unflatten(0, (batch, positions.shape[1]))  # (B, K, D)
        if bool_masked_pos is not None:
            if self.mask_token is None:
                raise InputError(
                    "bool_masked_pos was given but this model has no mask token; build it with use_mask_token=True, "
                    "or drop patches with keep_indices."
                )
            masked = bool_masked_pos.bool() if keep_indices is None else bool_masked_pos.bool().gather(1, keep_indices)
            tokens = torch.where(masked.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        cls = self.cls_token + self.position_embeddings[:, :1]
        return self.dropout(torch.cat((cls.expand(batch, -1, -1), tokens + positions), dim=1))


# With half precision in CPU hardware, plain products beat the fused kernel up to about this many tokens
PLAIN_TOKENS = 320


class Attention(nn.Module):
    def __init__(self, config: ViTMSNConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.scale = self.head_dim**-0.5
        self.dropout = config.attention_probs_dropout_prob
        self.eager = False  # always compute plain products
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, T, D) -> query, key, value, each (B, H, T, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim))  # (B, T, 3, H, d)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def forward(self, x: Tensor, want_weights: bool) -> tuple[Tensor, Tensor | None]:
        query, key, value = self.split(x)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if want_weights or self.eager or self.plain(query):
            # transformers' eager attention takes every softmax in float32, float64 models included
            scores = (query * self.scale) @ key.transpose(-2, -1)  # (B, H, T, T)
            weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
            mixed = F.dropout(weights, dropout) @ value  # (B, H, T, d)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2)), weights if want_weights else None

    @staticmethod
    def plain(query: Tensor) -> bool:
        """Whether to compute plain products: exact for float64, and faster for half precision on a CPU."""
        if query.dtype in (torch.float32, torch.float64):
            return query.dtype == torch.float64
        return query.device.type == "cpu" and query.shape[2] <= PLAIN_TOKENS


def traced() -> bool:
    """Whether a graph is being recorded, which must also hold for other inputs."""
    return torch.compiler.is_compiling() or jit_traced()


def jit_traced() -> bool:
    """Whether ``torch.jit.trace`` records a graph."""
    return torch.jit.is_tracing()  # type: ignore[attr-defined]


PIECE = 256  # tokens whose activations are computed at a time


class MLP(nn.Module):
    def __init__(self, config: ViTMSNConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]()
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)  # (B, T, intermediate)
        if hidden.requires_grad or traced() or hidden.numel() < 2 * PIECE * hidden.shape[-1]:
            return self.fc2(self.activation(hidden))
        # The largest tensor of the network: allocating a second one would cost more than the activation itself
        for piece in hidden.flatten(0, -2).split(PIECE):
            piece.copy_(self.activation(piece))
        return self.fc2(hidden)


class Layer(nn.Module):
    def __init__(self, config: ViTMSNConfig) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, want_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        mixed, weights = self.attention(self.layernorm_before(x), want_weights)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.layernorm_after(x))), weights


def initialize(module: nn.Module, std: float) -> None:
    """Truncated normal weights and zero biases for linear and patch layers; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
