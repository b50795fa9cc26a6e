"""ViT-MSN: the backbone, the classifier on it, and the MSN head (projector + prototypes). One forward path.

Letters in shape comments: B pictures, C channels, N patches of the grid, K patches kept (K = N unless some are
dropped), T = 1 + K tokens (CLS first), D width, H heads, d = D / H, P prototypes.

A masked view *drops* patches (Assran et al. 2022, section 3): position embeddings are added first, then only the kept
tokens go through the layers, so the cost falls with the number of tokens. ``bool_masked_pos`` replaces patches by a
mask token instead, as transformers does; it saves nothing and is here for compatibility.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from vitmsn import checkpoint
from vitmsn.config import ViTMSNConfig, pair
from vitmsn.errors import CheckpointError, InputError, MissingHeadError
from vitmsn.outputs import ClassifierOutput, ViTMSNOutput

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
    return torch.compiler.is_compiling() or _tracing()


def _tracing() -> bool:
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


class Network(nn.Module):
    """Methods that transformers' users expect of any model."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def num_parameters(self, only_trainable: bool = False) -> int:
        return sum(part.numel() for part in self.parameters() if part.requires_grad or not only_trainable)


AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def _prepared(
    model: AnyNetwork,
    dtype: str | torch.dtype | None,
    torch_dtype: str | torch.dtype | None,
    attn_implementation: str | None,
) -> AnyNetwork:
    """In eval mode, in the precision and with the attention that ``from_pretrained`` was asked for."""
    asked = torch_dtype if dtype is None else dtype
    precision = getattr(torch, asked, asked) if isinstance(asked, str) else asked or torch.float32
    if not (isinstance(precision, torch.dtype) and precision.is_floating_point):
        raise InputError(f"dtype is {asked!r}; name a precision: float32, bfloat16, float16 or float64.")
    if attn_implementation not in (None, "eager", "sdpa"):
        raise InputError(f"attn_implementation is {attn_implementation!r}; choose eager or sdpa.")
    for part in model.modules():
        if isinstance(part, Attention):
            part.eager = attn_implementation == "eager"
    return model.to(precision).eval()


class ViTMSNModel(Network):
    """The backbone, with transformers' call and ``keep_indices`` beside it.

    Args:
        config: the architecture.
        use_mask_token: also hold a mask token, which ``bool_masked_pos`` needs.

    Weights start as in the original code (truncated normal, CLS and positions included); load trained ones with
    :meth:`from_pretrained`.

    Example:
        >>> model = ViTMSNModel(ViTMSNConfig(image_size=32, patch_size=8, hidden_size=64, num_attention_heads=4))
        >>> model(torch.zeros(2, 3, 32, 32)).last_hidden_state.shape  # CLS and 4 x 4 patches
        torch.Size([2, 17, 64])
    """

    def __init__(self, config: ViTMSNConfig, use_mask_token: bool = False) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = Embeddings(config, use_mask_token)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        initialize(self, config.initializer_range)
        for token in (self.embeddings.cls_token, self.embeddings.position_embeddings):
            nn.init.trunc_normal_(token, std=config.initializer_range)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        attn_implementation: str | None = None,
    ) -> ViTMSNModel:
        """Load a hub id, a folder or a file, in eval mode. Every format is read strictly (see ``checkpoint.load``).

        Args:
            dtype: the precision, by name or as torch has it; float32 where it is not given, whatever the file has.
            torch_dtype: its older name.
            attn_implementation: "eager" writes every product out, "sdpa" (the default) takes PyTorch's fused kernel
                wherever that is faster and no attention map is wanted.

        Raises:
            CheckpointError: it cannot be loaded faithfully.
            InputError: a precision or an attention that there is not, by name.
        """
        return _prepared(cls.from_checkpoint(checkpoint.load(name_or_path)), dtype, torch_dtype, attn_implementation)

    @classmethod
    def from_checkpoint(cls, loaded: checkpoint.Checkpoint) -> ViTMSNModel:
        """Build a model on copies of the tensors of a loaded checkpoint, in eval mode."""
        with torch.device("meta"):  # skips random weights that would be overwritten
            model = cls(loaded.config, use_mask_token="embeddings.mask_token" in loaded.tensors)
        model.load_state_dict({key: tensor.clone() for key, tensor in loaded.tensors.items()}, assign=True)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; transformers 4.x and 5.x load the folder."""
        checkpoint.save(folder, self.config, self.state_dict(), dtype=self.dtype)

    def gradient_checkpointing_enable(self) -> None:
        """Recompute each layer's activations in the backward pass instead of keeping them."""
        self.gradient_checkpointing = True

    def forward(
        self,
        pixel_values: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        keep_indices: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
    ) -> ViTMSNOutput | tuple[Any, ...]:
        """Run the backbone.

        Args:
            pixel_values: (B, C, height, width), normalized; height and width multiples of the patch.
            bool_masked_pos: (B, N) bool, True where a patch is replaced by the mask token.
            keep_indices: (B, K) int64, the patches kept, row-major from 0; all others are dropped.
            interpolate_pos_encoding: accept sizes other than the configured one.
            output_attentions: also give every attention map; this takes the slower attention.
            output_hidden_states: also give every layer's tokens.
            return_dict: False gives a plain tuple, as ``torch.jit.trace`` needs it and gets it unasked.

        Raises:
            InputError: shapes or indices that do not fit, named.
        """
        if pixel_values is None:
            raise InputError("pixel_values is missing; give what ViTMSNImageProcessor makes of pictures.")
        pixel_values = pixel_values.to(self.embeddings.cls_token.dtype)
        grid = self._check(pixel_values, bool_masked_pos, keep_indices, interpolate_pos_encoding)
        x = self.embeddings(pixel_values, grid, bool_masked_pos, keep_indices)  # (B, 1 + K, D)
        hidden_states, attentions = [x], []
        room = None
        if output_hidden_states and not torch.is_grad_enabled():  # allocate once: per-layer tensors fragment the heap
            room = x.new_empty(len(self.layers) + 1, *x.shape)
            room[0], hidden_states = x, [room[0]]
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x, weights = recompute(layer, x, output_attentions, use_reentrant=False)
            else:
                x, weights = layer(x, output_attentions)
            if room is not None:
                hidden_states.append(room[len(hidden_states)].copy_(x))
            elif output_hidden_states:
                hidden_states.append(x)
            if weights is not None:
                attentions.append(weights)
        out = ViTMSNOutput(
            last_hidden_state=self.layernorm(x),
            grid=grid,
            keep_indices=keep_indices,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return out if _as_dict(return_dict) else out.to_tuple()

    def _check(self, pixels: Tensor, masked: Tensor | None, keep: Tensor | None, interpolate: bool) -> tuple[int, int]:
        config = self.config
        if pixels.ndim != 4 or pixels.shape[1] != config.num_channels:
            raise InputError(
                f"pixel_values has the shape {tuple(pixels.shape)}; (pictures, {config.num_channels}, height, width) "
                "is needed."
            )
        height, width = pixels.shape[-2:]
        patch_height, patch_width = pair(config.patch_size)
        native = pair(config.image_size)
        if not interpolate and (height, width) != native:
            raise InputError(
                f"The picture is {height} x {width} but the model was built for {native[0]} x {native[1]}; resize it, "
                "or pass interpolate_pos_encoding=True."
            )
        if (height, width) != native and (min(height, width) < 1 or height % patch_height or width % patch_width):
            raise InputError(
                f"The picture is {height} x {width}, which patches of {patch_height} x {patch_width} do not divide; "
                "choose multiples of the patch."
            )
        grid = height // patch_height, width // patch_width
        patches = grid[0] * grid[1]
        if masked is not None and (masked.is_floating_point() or masked.shape != (pixels.shape[0], patches)):
            raise InputError(
                f"bool_masked_pos is {masked.dtype} {tuple(masked.shape)}; bool ({len(pixels)}, {patches}) is needed."
            )
        if keep is not None:
            if keep.ndim != 2 or keep.shape[0] != pixels.shape[0] or keep.shape[1] < 1 or keep.dtype != torch.int64:
                raise InputError(
                    f"keep_indices is {keep.dtype} {tuple(keep.shape)}; int64 ({len(pixels)}, at least 1) is needed."
                )
            # not on an accelerator, which the check would synchronize
            looked_at = keep.device.type == "cpu" and not traced() and keep.numel() > 0
            if looked_at and (int(keep.min()) < 0 or int(keep.max()) >= patches):
                raise InputError(
                    f"keep_indices runs from {int(keep.min())} to {int(keep.max())}; the grid has patches 0 to "
                    f"{patches - 1}."
                )
        return grid


def _as_dict(return_dict: bool | None) -> bool:
    return not _tracing() if return_dict is None else return_dict


class ViTMSNForImageClassification(Network):
    """A backbone and a linear classifier on its CLS token (after the final LayerNorm), as in transformers.

    Args:
        config: the architecture and the labels.
        use_mask_token: as in the backbone.
        backbone: put the classifier on this one instead of a new one.

    ``has_trained_head`` tells whether the classifier came from a checkpoint or is new and to be trained.
    """

    def __init__(self, config: ViTMSNConfig, use_mask_token: bool = False, backbone: ViTMSNModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.has_trained_head = False
        self.vit = ViTMSNModel(config, use_mask_token) if backbone is None else backbone
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels else nn.Identity()
        initialize(self.classifier, config.initializer_range)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        num_labels: int | None = None,
        id2label: Mapping[int, str] | None = None,
        label2id: Mapping[str, int] | None = None,
        *,
        problem_type: str | None = None,
        ignore_mismatched_sizes: bool = True,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        attn_implementation: str | None = None,
    ) -> ViTMSNForImageClassification:
        """Load a classifier; or a backbone under a new head to train, where labels are given that it has no head for.

        Args:
            num_labels, id2label, label2id: the labels, in any of these ways. As many as the checkpoint's classifier
                has leave it and name its rows; otherwise the head is new.
            problem_type: "regression", "single_label_classification" or "multi_label_classification".
            ignore_mismatched_sizes: False refuses a checkpoint whose classifier has another number of labels.
            dtype, torch_dtype, attn_implementation: as in the backbone.

        Raises:
            MissingHeadError: the checkpoint is a backbone only and no labels were given. A random head is no
                classifier.
            CheckpointError, ConfigError, InputError: what does not fit, by name.
        """
        loaded = checkpoint.load(name_or_path)
        config = loaded.config.with_labels(num_labels, id2label, label2id)
        if problem_type is not None:
            config = replace(config, problem_type=problem_type)
        if not loaded.classifier and all(labels is None for labels in (num_labels, id2label, label2id)):
            raise MissingHeadError(
                f"{loaded.source} is a backbone without a classifier, so it has no class to name; pass num_labels= or "
                "id2label= for a new head to train, or use its embeddings (few-shot)."
            )
        kept = bool(loaded.classifier) and config.num_labels == loaded.config.num_labels
        if loaded.classifier and not kept and not ignore_mismatched_sizes:
            raise CheckpointError(
                f"{loaded.source} has a classifier of {loaded.config.num_labels} labels and {config.num_labels} are "
                "asked for; pass ignore_mismatched_sizes=True for a new head to train."
            )
        model = cls(config, backbone=ViTMSNModel.from_checkpoint(replace(loaded, config=config)))
        if kept:
            model.classifier.load_state_dict(loaded.classifier, strict=True)
            model.has_trained_head = True
        return _prepared(model, dtype, torch_dtype, attn_implementation)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that transformers' ``ViTMSNForImageClassification`` and its pipeline load."""
        head = self.classifier.state_dict()
        checkpoint.save(folder, self.config, self.vit.state_dict(), classifier=head, dtype=self.dtype)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        keep_indices: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
    ) -> ClassifierOutput | tuple[Any, ...]:
        """As the backbone's forward, to ``logits`` (B, labels); ``labels`` give the loss that transformers chooses.

        ``config.problem_type`` decides; where it is None: squared error for a single label, cross-entropy for whole
        numbers (B,), binary cross-entropy for floats (B, labels).
        """
        out = self.vit(
            pixel_values,
            bool_masked_pos,
            keep_indices,
            interpolate_pos_encoding,
            output_attentions,
            output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(out.last_hidden_state[:, 0])
        loss = None if labels is None else self._loss(logits, labels)
        found = ClassifierOutput(logits, loss, out.hidden_states, out.attentions)
        return found if _as_dict(return_dict) else found.to_tuple()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        kind = self.config.problem_type
        if kind is None:
            whole = labels.dtype in (torch.int32, torch.int64)
            kind = (
                "regression"
                if self.config.num_labels == 1
                else f"{'single' if whole else 'multi'}_label_classification"
            )
        if kind == "regression":
            return F.mse_loss(logits.squeeze(), labels.squeeze().to(logits.dtype))
        if kind == "single_label_classification":
            return F.cross_entropy(logits, labels.view(-1))
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class MSNHead(nn.Module):
    """Projector and prototypes: what turns a CLS token into an assignment (arXiv 2204.07141, section 3).

    The projector is Linear-BN-GELU, Linear-BN-GELU, Linear; an assignment is softmax(cosine / tau) over P prototypes.

    Args:
        dim: width D of the backbone.  hidden: of the projector.  output: of the space the prototypes live in.
        prototypes: how many.  temperature: tau of anchors.  sharpening: T, so that targets have tau * T.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 2048,
        output: int = 256,
        prototypes: int = 1024,
        temperature: float = 0.1,
        sharpening: float = 0.25,
    ) -> None:
        super().__init__()
        self.temperature, self.sharpening = temperature, sharpening
        self.projector = nn.Sequential()
        for name, module in (
            ("fc1", nn.Linear(dim, hidden)),
            ("bn1", nn.BatchNorm1d(hidden)),
            ("gelu1", nn.GELU()),
            ("fc2", nn.Linear(hidden, hidden)),
            ("bn2", nn.BatchNorm1d(hidden)),
            ("gelu2", nn.GELU()),
            ("fc3", nn.Linear(hidden, output)),
        ):
            self.projector.add_module(name, module)
        self.prototypes = nn.Parameter(torch.empty(prototypes, output))
        initialize(self.projector, 0.02)
        nn.init.uniform_(self.prototypes, -(output**-0.5), output**-0.5)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], temperature: float = 0.1, sharpening: float = 0.25) -> MSNHead:
        """Rebuild a trained head, in eval mode; its sizes are those of its tensors."""
        hidden, dim = tensors["projector.fc1.weight"].shape
        prototypes, output = tensors["prototypes"].shape
        head = cls(dim, hidden, output, prototypes, temperature, sharpening)
        head.load_state_dict(tensors, strict=True)
        return head.eval()

    def forward(self, cls: Tensor) -> Tensor:
        """CLS (B, D) -> projections (B, output), not normalized."""
        return self.projector(cls)

    def assign(self, cls: Tensor, sharpen: bool = False) -> Tensor:
        """CLS (B, D) -> log-probabilities over prototypes (B, P): an anchor's, or a target's when sharpened."""
        temperature = self.temperature * (self.sharpening if sharpen else 1.0)
        return log_assignment(self(cls), self.prototypes, temperature)


def log_assignment(projections: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """log softmax(cosine / temperature): (B, d) and (P, d) -> (B, P), in float32 (equation 1 of the paper)."""
    cosine = F.normalize(projections.float(), dim=-1) @ F.normalize(prototypes.float(), dim=-1).T
    return F.log_softmax(cosine / temperature, dim=-1)


def initialize(module: nn.Module, std: float) -> None:
    """Truncated normal weights and zero biases for linear and patch layers; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
