"""One call for every attention map: a picture and a kind -> a map on the grid of patches.

    look(encoder, "cat.jpg", "relevance", label="tabby").values          # (rows, columns)

It chooses among the functions of ``attention`` and ``relevance`` and brings their numbers to the grid, so that the
page, the command line and a notebook show the same thing. Layers, heads and patches count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitmsn import attention, relevance, robustness
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import ImageSource
from vitmsn.masking import Keep
from vitmsn.outputs import ViTMSNOutput

# kind -> what its values are
KINDS = {
    "cls": "what CLS attends to, in a layer",
    "rollout": "what reaches CLS through all layers from the first (or start_layer) on",
    "relevance": "what counts for a class (or the nearest prototype), weighted by the gradient",
    "patch": "what a patch attends to, in a layer",
    "to": "what attends to a patch, in a layer",
    "similar": "cosine similarity of a patch's token to all others, after a layer",
    "colors": "the first three principal components of the patches' tokens after a layer, as colors",
}
OF_A_PATCH = ("patch", "to", "similar")
THROUGH = ("rollout", "relevance")  # all layers and heads at once
HEADLESS = (*THROUGH, "similar", "colors")


@dataclass(frozen=True)
class Look:
    """A map, and what it is of.

    Attributes:
        values: (rows, columns), NaN where a patch was dropped; of ``colors`` the first component.
        colors: (rows, columns, 3) from 0 to 1, and ``explained`` (3,) shares of the variance; None for other kinds.
        maps: (layers, heads, rows, columns): what CLS, or the patch, attends to everywhere; of ``to`` who attends.
        label: of ``relevance``: the class or prototype explained.
        patch: the patch that looks, or is looked at.
        heads, how: the heads that ``values`` are of (None: all), and whether their mean or their max.
    """

    kind: str
    layer: int
    values: np.ndarray
    maps: np.ndarray
    tokens: ViTMSNOutput
    patch: int = 0
    colors: np.ndarray | None = None
    explained: np.ndarray | None = None
    label: str | None = None
    heads: tuple[int, ...] | None = None
    how: str = "mean"

    @property
    def grid(self) -> tuple[int, int]:
        return self.tokens.grid

    @property
    def signed(self) -> bool:
        """Whether values may be below 0."""
        return self.kind in ("similar", "colors")

    @property
    def shares(self) -> np.ndarray:
        """``values`` as they are shown: relevance as shares of the whole, because its unit has no meaning by itself."""
        total = float(np.nansum(self.values))
        return self.values / total if self.kind == "relevance" and total else self.values

    @property
    def head(self) -> int | None:
        """Counted from 1; 0 is the mean of several heads and -1 their max; None where no head is chosen."""
        if self.kind in HEADLESS:
            return None
        if self.heads is not None and len(self.heads) == 1:
            return self.heads[0] + 1
        return -1 if self.how == "max" else 0

    def brightest(self, mass: float) -> np.ndarray:
        """The fewest patches that hold this share of the map: (rows, columns) bool."""
        known = torch.from_numpy(np.nan_to_num(self.shares, nan=0.0)).flatten()
        return attention.mass_threshold(known, mass).view(self.grid).numpy()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, the same on the page, over the API and on the command line; layers and heads from 1.

        ``half``: patches that hold half of the map, and ``entropy`` in nats; null where values may be below 0.
        """
        several = None if self.heads is None or self.head not in (0, -1) else [head + 1 for head in self.heads]
        shown = (self.shares if self.colors is None else self.colors).astype(float).round(6).astype(object)
        shown[np.isnan(shown.astype(float))] = None  # dropped patches
        flat = torch.from_numpy(np.nan_to_num(self.shares, nan=0.0)).flatten()
        return {
            "kind": self.kind,
            "layer": None if self.kind in THROUGH else self.layer + 1,
            "head": self.head,
            "heads": several,
            "grid": list(self.grid),
            "map": shown.tolist(),
            "label": self.label,
            "half": None if self.signed else int(self.brightest(0.5).sum()),
            "entropy": None if self.signed else round(float(attention.entropy(flat)), 6),
        }


def look(
    encoder: Encoder,
    picture: ImageSource,
    kind: str = "cls",
    *,
    layer: int = -1,
    heads: Sequence[int] | None = None,
    how: str = "mean",
    patch: int = 0,
    start_layer: int = 0,
    label: int | str | None = None,
    size: int | tuple[int, int] | None = None,
    keep_indices: Keep = None,
) -> Look:
    """A map of a picture, of one of the :data:`KINDS`.

    Args:
        layer: -1 is the last; ``similar`` and ``colors`` of the last are taken after the final LayerNorm.
        heads, how: the mean or the max of these heads (all); not for rollout, relevance and tokens.
        patch: its place on the grid, for patch, to and similar.
        start_layer: the first layer that rollout and relevance go through.
        label: class to explain, by number or name, or number of a prototype where there is no classifier; None: the
            answer itself.
        size: side of the input in pixels, or (height, width); larger gives a finer map.
        keep_indices: patches kept, of a masked view.

    Example:
        >>> found = look(Encoder.random(device="cpu"), np.zeros((64, 64, 3), dtype=np.uint8), "rollout")
        >>> found.values.shape
        (8, 8)

    Raises:
        InputError: what this model or this grid does not have, named.
        MissingHeadError: relevance of a model without classifier and prototypes.
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind[:32]!r}; choose one of {', '.join(KINDS)}.")
    model, layers = encoder.model, encoder.config.num_hidden_layers
    layer = layers - 1 if layer == -1 else layer
    attention.check_layer(model, layer)
    tokens = encoder.tokens(picture, size=size, keep_indices=keep_indices)
    place = _place(tokens, patch) if kind in OF_A_PATCH else 0
    found, named = None, None
    if kind in ("patch", "to"):
        rows = attention.patch_attention if kind == "patch" else attention.attention_to
        maps = torch.stack([rows(model, tokens, place, number) for number in range(layers)], dim=1)  # (1, L, H, K)
    else:
        maps = attention.cls_attention(model, tokens)
    if kind == "rollout":
        values = attention.rollout(model, tokens, start_layer)
    elif kind == "relevance":
        score, named = target(encoder, tokens, label)
        values = relevance.relevance(model, tokens, score, start_layer)
    elif kind == "similar":
        values = attention.similarity(tokens, place, None if layer == layers - 1 else layer)
    elif kind == "colors":
        found = attention.components(tokens, 3, None if layer == layers - 1 else layer)
        values = found[0][..., 0]
    else:
        values = attention.combine(maps[:, layer], heads, how)
    colors = None if found is None else attention.colors(found[0]).transpose(1, 2)  # (1, 3, K)
    return Look(
        kind,
        layer,
        attention.to_grid(values, tokens)[0].numpy(),
        attention.to_grid(maps, tokens)[0].numpy(),
        tokens,
        patch,
        None if colors is None else attention.to_grid(colors, tokens)[0].permute(1, 2, 0).numpy(),
        None if found is None else found[1][0].numpy(),
        named,
        None if heads is None else tuple(heads),
        how,
    )


def target(encoder: Encoder, tokens: ViTMSNOutput, label: int | str | None = None) -> tuple[relevance.Score, str]:
    """The score that relevance explains, and its name: a class, or without a classifier a prototype.

    Args:
        label: its number from 0 (2 or "2") or its name, which comes first; None is the most probable one.
    """
    cls = tokens.last_hidden_state[:, 0].numpy()
    if encoder.classifier is not None:
        number = int(encoder.scores(cls)[0].argmax()) if label is None else _class(encoder, label)
        return relevance.class_score(encoder.classifier, number), encoder.labels[number]
    if encoder.msn_head is not None:
        number = int(robustness.predict(encoder, cls).index[0]) if label is None else _number(label)
        return relevance.prototype_score(encoder.msn_head, number), f"prototype {number + 1}"
    raise MissingHeadError(
        f"{encoder.name} has neither a classifier nor prototypes, so there is no answer to explain; look at its "
        "rollout, or choose the embedded model."
    )


def _class(encoder: Encoder, label: int | str) -> int:
    if isinstance(label, str) and label in encoder.labels:
        return encoder.labels.index(label)
    return _number(label)


def _number(label: int | str) -> int:
    if isinstance(label, str):
        if label.isdecimal() and len(label) < 10:
            return int(label)
        raise InputError(f"The model knows no class called {label[:64]!r}; give one of its own, or its number from 0.")
    return label


def _place(tokens: ViTMSNOutput, patch: int) -> int:
    """A patch of the grid -> its index among the kept patches."""
    rows, columns = tokens.grid
    if not 0 <= patch < rows * columns:
        raise InputError(f"patch is {patch}; this picture has the patches 0 to {rows * columns - 1}.")
    if tokens.keep_indices is None:
        return patch
    there: Tensor = (tokens.keep_indices[0] == patch).nonzero()
    if not len(there):
        raise InputError(f"Patch {patch} is hidden in this view; choose one that was kept.")
    return int(there[0])
