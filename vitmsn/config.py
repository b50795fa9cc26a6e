"""The shape of a ViT-MSN, under transformers' names, and the table of published variants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vitmsn import limits
from vitmsn.errors import ConfigError


def pair(value: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """``7`` or ``[7, 7]`` -> ``(7, 7)``: (rows, columns), as transformers writes sizes."""
    if isinstance(value, int):
        return value, value
    rows, columns = value
    return int(rows), int(columns)


_UNSET: Any = None  # derived from the other fields
_WHOLE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_channels")
_REAL = {  # name -> largest value
    "hidden_dropout_prob": 1.0,
    "attention_probs_dropout_prob": 1.0,
    "initializer_range": math.inf,
    "layer_norm_eps": math.inf,
}
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


@dataclass(frozen=True)
class ViTMSNConfig:
    """Architecture of a ViT-MSN; field names, defaults and meaning are those of transformers' ``ViTMSNConfig``.

    Raises:
        ConfigError: where the numbers describe no network (a head count that does not divide the width, ...).
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0  # some official files say 0.1, so eval mode matters
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    id2label: Mapping[int, str] = _UNSET  # unset: LABEL_0, LABEL_1, ...
    label2id: Mapping[str, int] = _UNSET  # unset: the inverse of id2label
    num_labels: int = _UNSET  # unset: as many as id2label names, or 2
    problem_type: str | None = None

    def __post_init__(self) -> None:
        for name in _WHOLE:
            self._set(name, _number(name, getattr(self, name), whole=True, low=1))
        for name, high in _REAL.items():
            self._set(name, _number(name, getattr(self, name), whole=False, low=0, high=high))
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            numbers = [value] if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else []
            if len(numbers) != (1 if isinstance(value, int) else 2):
                raise ConfigError(
                    f"{name} is {value!r}; one whole number of pixels or a pair [height, width] is needed."
                )
            numbers = [_number(name, number, whole=True, low=1) for number in numbers]
            self._set(name, numbers[0] if isinstance(value, int) else tuple(numbers))
        if not isinstance(self.qkv_bias, bool):
            raise ConfigError(f"qkv_bias is {self.qkv_bias!r}; true or false is needed.")
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act is {self.hidden_act!r}; known are {', '.join(ACTIVATIONS)}.")
        if self.problem_type not in (None, *PROBLEMS):
            raise ConfigError(f"problem_type is {self.problem_type!r}; known are {', '.join(PROBLEMS)}.")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be shared by {self.num_attention_heads} heads; "
                "choose num_attention_heads that divides it."
            )
        if 0 in self.grid:
            raise ConfigError(
                f"image_size {self.image_size} holds no patch of patch_size {self.patch_size}; "
                "the picture must be at least one patch high and wide."
            )
        self._name_labels()
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ConfigError(
                "problem_type is 'single_label_classification' and there is one label, which would always be right; "
                "name two or more, or take multi_label_classification or regression."
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    def _name_labels(self) -> None:
        """Settle ``id2label``, ``label2id`` and ``num_labels``, of which any may be given."""
        named, numbers, count = self.id2label, self.label2id, self.num_labels
        if count is not None:
            count = int(_number("num_labels", count, whole=True, low=0, high=limits.MAX_LABELS))
        try:
            if named is None and numbers is not None:
                named = {index: label for label, index in numbers.items()}
            if named is None:
                named = {index: f"LABEL_{index}" for index in range(2 if count is None else count)}
            named = {int(index): str(label) for index, label in named.items()}  # JSON has text for keys
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"id2label or label2id is no table of numbers and names ({error}).") from error
        if sorted(named) != list(range(len(named))) or len(named) > limits.MAX_LABELS:
            raise ConfigError(
                f"id2label has {len(named)} labels, numbered {sorted(named)[:4]}...; they must count 0, 1, 2, ... "
                f"up to at most {limits.MAX_LABELS}."
            )
        if count not in (None, len(named)):
            raise ConfigError(f"num_labels is {count} but {len(named)} labels are named; give one of them.")
        named = dict(sorted(named.items()))
        inverse = {label: index for index, label in named.items()}
        if numbers is not None and dict(numbers) != inverse:
            raise ConfigError("label2id is not the inverse of id2label; give one of them.")
        self._set("id2label", named)
        self._set("label2id", inverse)
        self._set("num_labels", len(named))

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches at the native image size."""
        (height, width), (patch_height, patch_width) = pair(self.image_size), pair(self.patch_size)
        return height // patch_height, width // patch_width

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def gigaflops(self, patches: int | None = None) -> float:
        """10^9 multiplications and additions of one picture's forward with so many patches kept; None: all."""
        tokens, width = 1 + (self.num_patches if patches is None else patches), self.hidden_size
        linear = 2 * tokens * width * (4 * width + 2 * self.intermediate_size)
        attention = 4 * tokens**2 * width
        embedding = 2 * (tokens - 1) * self.num_channels * math.prod(pair(self.patch_size)) * width
        return (self.num_hidden_layers * (linear + attention) + embedding) / 1e9

    def shapes(self, mask_token: bool = False) -> dict[str, tuple[int, ...]]:
        """Key -> shape of every tensor that a backbone of this architecture holds."""
        dim, inner = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.cls_token": (1, 1, dim),
            "embeddings.position_embeddings": (1, 1 + self.num_patches, dim),
            "embeddings.patch_embeddings.projection.weight": (dim, self.num_channels, *pair(self.patch_size)),
            "embeddings.patch_embeddings.projection.bias": (dim,),
        }
        if mask_token:
            shapes["embeddings.mask_token"] = (1, 1, dim)
        for layer in range(self.num_hidden_layers):
            for module, rows, columns in (
                ("layernorm_before", dim, 0),
                ("attention.qkv", 3 * dim, dim),
                ("attention.output", dim, dim),
                ("layernorm_after", dim, 0),
                ("mlp.fc1", inner, dim),
                ("mlp.fc2", dim, inner),
            ):
                shapes[f"layers.{layer}.{module}.weight"] = (rows, columns) if columns else (rows,)
                if module != "attention.qkv" or self.qkv_bias:
                    shapes[f"layers.{layer}.{module}.bias"] = (rows,)
        return shapes | {"layernorm.weight": (dim,), "layernorm.bias": (dim,)}

    def with_labels(
        self,
        num_labels: int | None = None,
        id2label: Mapping[int, str] | None = None,
        label2id: Mapping[str, int] | None = None,
    ) -> ViTMSNConfig:
        """A copy with other classes: named by ``id2label`` or ``label2id``, or ``LABEL_0 ... LABEL_{num_labels - 1}``.

        As many as before keep their names where only ``num_labels`` is given.
        """
        if id2label is None and label2id is None and num_labels in (None, self.num_labels):
            return self
        unset: dict[str, Any] = {"num_labels": num_labels, "id2label": id2label, "label2id": label2id}
        return replace(self, **unset)

    def to_dict(self) -> dict[str, Any]:
        """What ``config.json`` holds; transformers 4.x and 5.x read it as ``ViTMSNConfig``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        values |= {"model_type": "vit_msn", "id2label": {str(index): label for index, label in self.id2label.items()}}
        del values["num_labels"]  # transformers counts the names
        if self.problem_type is None:
            del values["problem_type"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ViTMSNConfig:
        """Read a ``config.json``. Keys that are not about the architecture are ignored.

        Raises:
            ConfigError: another model type, a value of the wrong kind, or numbers that describe no network.
        """
        model_type = values.get("model_type", "vit_msn")
        if model_type != "vit_msn":
            raise ConfigError(f"config.json describes a {model_type!r} model; a 'vit_msn' one is needed.")
        known = {f.name for f in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known and value is not None}
        if "id2label" in kept:  # label2id is often wrong in files; only the names count
            kept.pop("label2id", None)
        return cls(**kept)


def _number(name: str, value: Any, *, whole: bool, low: float, high: float = math.inf) -> int | float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits or math.isinf(value) or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        upper = "" if math.isinf(high) else f" and at most {high:g}"
        raise ConfigError(f"{name} is {value!r}; a {kind} of at least {low:g}{upper} is needed.")
    return int(value) if whole else value


def msn_head_shapes(given: Mapping[str, tuple[int, ...]], dim: int) -> dict[str, tuple[int, ...]]:
    """Key -> shape that the MSN head of a backbone of width ``dim`` must have.

    Its own sizes (hidden, output, prototypes) are those of the tensors given. A projector is whole or absent, and so
    are the prototypes.
    """
    hidden = (*given.get("projector.fc1.weight", ()), 0)[0]
    prototypes, width = (*given.get("prototypes", ()), 0, 0)[:2]
    output = (*given.get("projector.fc3.weight", ()), 0)[0]
    shapes: dict[str, tuple[int, ...]] = {}
    if any(key.startswith("projector.") for key in given):
        for index, (rows, columns) in enumerate(((hidden, dim), (hidden, hidden), (output, hidden)), start=1):
            shapes[f"projector.fc{index}.weight"] = (rows, columns)
            shapes[f"projector.fc{index}.bias"] = (rows,)
        for norm in ("projector.bn1", "projector.bn2"):
            shapes |= {f"{norm}.{part}": (hidden,) for part in ("weight", "bias", "running_mean", "running_var")}
            shapes[f"{norm}.num_batches_tracked"] = ()
    if "prototypes" in given:
        shapes["prototypes"] = (prototypes, output or width)
    return shapes


def _vit(dim: int, layers: int, heads: int, patch: int, image: int = 224) -> ViTMSNConfig:
    return ViTMSNConfig(
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        patch_size=patch,
        image_size=image,
    )


# arXiv 2204.07141, section 5 and appendix; the last line is the model that this project trains and ships
VARIANTS: dict[str, ViTMSNConfig] = {
    "small-16": _vit(384, 12, 6, 16),
    "base-16": _vit(768, 12, 12, 16),
    "base-8": _vit(768, 12, 12, 8),
    "base-4": _vit(768, 12, 12, 4),
    "large-16": _vit(1024, 24, 16, 16),
    "large-7": _vit(1024, 24, 16, 7),
    "tiny-8-64": _vit(192, 9, 3, 8, 64),
}

# where the official weights of a variant live on the hub: backbones only, Apache-2.0 by their cards
OFFICIAL: dict[str, str] = {
    "facebook/vit-msn-small": "small-16",
    "facebook/vit-msn-base": "base-16",
    "facebook/vit-msn-large": "large-16",
    "facebook/vit-msn-base-4": "base-4",
    "facebook/vit-msn-large-7": "large-7",
}
