"""ViT-MSN: the backbone, and the classifier on it. One forward path.

Letters in shape comments: B pictures, C channels, N patches of the grid, K patches kept (K = N unless some are
dropped), T = 1 + K tokens (CLS first), D width, H heads.

A masked view *drops* patches (Assran et al. 2022, section 3): position embeddings are added first, then only the kept
tokens go through the layers, so the cost falls with the number of tokens. ``bool_masked_pos`` replaces patches by a
mask token instead, as transformers does; it saves nothing and is here for compatibility.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from vitmsn.layers import Attention, Embeddings, Layer, initialize, jit_traced, traced
from vitmsn.outputs import ClassifierOutput, ViTMSNOutput


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
        grid = self.checked_grid(pixel_values, bool_masked_pos, keep_indices, interpolate_pos_encoding)
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

    def checked_grid(
        self, pixels: Tensor, masked: Tensor | None, keep: Tensor | None, interpolate: bool
    ) -> tuple[int, int]:
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
    return not jit_traced() if return_dict is None else return_dict


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
