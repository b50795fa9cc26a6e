"""What the networks give: dataclasses that are also read as transformers' outputs are, by name, by place or as a tuple.

They are registered with PyTorch's trees, so that ``torch.export`` and ``torch.onnx.export`` look into them.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor
from torch.utils import _pytree as pytree


class ModelOutput:
    """An output with what is there of transformers' fields, in transformers' order; what is None is left out.

    ``output.logits``, ``output["logits"]``, ``output[0]``, ``output[:2]`` and ``output.to_tuple()`` are one thing.
    """

    ORDER: ClassVar[tuple[str, ...]]  # the fields that transformers has, in its order

    def _values(self) -> dict[str, Any]:
        return {name: value for name in self.ORDER if (value := getattr(self, name)) is not None}

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self._values().values())

    def keys(self) -> KeysView[str]:
        return self._values().keys()

    def values(self) -> ValuesView[Any]:
        return self._values().values()

    def items(self) -> ItemsView[str, Any]:
        return self._values().items()

    def __getitem__(self, place: str | int | slice) -> Any:
        return self._values()[place] if isinstance(place, str) else self.to_tuple()[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __contains__(self, name: object) -> bool:
        return name in self._values()


@dataclass(eq=False)
class ViTMSNOutput(ModelOutput):
    """What a backbone gives.

    Attributes:
        last_hidden_state: (B, 1 + K, D), after the final LayerNorm; row 0 is CLS.
        grid: (rows, columns) of the patches before any was dropped.
        keep_indices: (B, K) int64 row-major positions of the patches kept, or None when all were.
        hidden_states: layers + 1 tensors (B, 1 + K, D): the embeddings, then each layer's output (before the final
            LayerNorm), or None.
        attentions: one tensor (B, H, 1 + K, 1 + K) a layer, rows sum to 1, or None.
    """

    ORDER = ("last_hidden_state", "hidden_states", "attentions")

    last_hidden_state: Tensor
    grid: tuple[int, int]
    keep_indices: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass(eq=False)
class ClassifierOutput(ModelOutput):
    """What a classifier gives: ``logits`` (B, labels), ``loss`` (scalar) where labels came in, and the backbone's."""

    ORDER = ("loss", "logits", "hidden_states", "attentions")

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def _register(kind: type[Any]) -> None:
    """A tree whose leaves are the tensors that are there; sizes and what is missing belong to its shape."""
    names = [field.name for field in fields(kind)]

    def flatten(output: Any) -> tuple[list[Any], Any]:
        values = {name: value for name in names if (value := getattr(output, name)) is not None}
        fixed = {name: values.pop(name) for name in ("grid",) if name in values}
        return list(values.values()), [list(values), fixed]

    def with_keys(output: Any) -> tuple[list[Any], Any]:
        values, context = flatten(output)
        return list(zip(map(pytree.GetAttrKey, context[0]), values, strict=True)), context

    def unflatten(values: Any, context: Any) -> Any:
        present, fixed = context
        return kind(**dict(zip(present, values, strict=True)), **{name: tuple(size) for name, size in fixed.items()})

    pytree.register_pytree_node(
        kind,
        flatten,
        unflatten,
        serialized_type_name=f"{kind.__module__}.{kind.__qualname__}",
        flatten_with_keys_fn=with_keys,
    )


for _kind in (ViTMSNOutput, ClassifierOutput):
    _register(_kind)
