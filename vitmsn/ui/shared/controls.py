"""Controls by name: the settings of a tab are one frozen dataclass, with a component for each field.

    controls = bind(MaskingControls, kind=kind, ratio=ratio, seed=seed, paint=paint)
    app.on(kind.input, choose, [controls], {"view": view, **controls}, ...)

`choose(call, asked)` gets a `MaskingControls` and returns what changes, by name: `{"view": ..., "seed": 3}`.
No code depends on an order of controls.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

Values = TypeVar("Values")

Inputs = Sequence["Component | Controls[Any]"]
Outputs = "Sequence[Block] | Mapping[str, Block]"


class Controls(Mapping[str, Component], Generic[Values]):
    """A component for each field of `kind`, a frozen dataclass, by the field's name."""

    def __init__(self, kind: type[Values], components: Mapping[str, Component]) -> None:
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass, which has no type
        if set(names) != set(components):
            odd = ", ".join(sorted(set(names) ^ set(components)))
            raise TypeError(f"{kind.__name__} and its components differ in {odd}; bind each field to one component.")
        self.kind = kind
        self._components = {name: components[name] for name in names}

    def __getitem__(self, name: str) -> Component:
        return self._components[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)


def bind(kind: type[Values], /, **components: Component) -> Controls[Values]:
    """The controls of a tab; TypeError if a field has no component or a component has no field."""
    return Controls(kind, components)


def emptied(outputs: Sequence[Block], stays: Collection[Block] = ()) -> list[Any]:
    """What outputs show where there is nothing to answer to: HTML and pictures go, controls and what `stays` stay.

    No updates with a value: these answers are sent again and again, and Gradio takes the value out of an update.
    """
    empty = {gr.HTML: "", gr.Image: None}
    return [
        next((value for kind, value in empty.items() if isinstance(one, kind) and one not in stays), gr.skip())
        for one in outputs
    ]


def components(things: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """The components of inputs or outputs, controls included, in Gradio's flat order."""
    flat: list[Any] = []
    for thing in things.values() if isinstance(things, Mapping) else things:
        flat += thing.values() if isinstance(thing, Controls) else [thing]
    return flat


def by_name(fn: Callable[..., Any], inputs: Inputs, outputs: Any) -> Callable[..., Any]:
    """`fn(call, *inputs)` for Gradio's flat values: controls arrive as their dataclass. Where `outputs` have names,
    `fn` returns values by name (a mapping or named tuple); outputs that it leaves out stay unchanged."""

    def given(values: Sequence[Any]) -> list[Any]:
        left = iter(values)
        return [
            thing.kind(*(next(left) for _ in thing)) if isinstance(thing, Controls) else next(left) for thing in inputs
        ]

    def placed(result: Any) -> Any:
        result = result._asdict() if hasattr(result, "_asdict") and isinstance(outputs, Mapping) else result
        if not isinstance(outputs, Mapping) or not isinstance(result, Mapping):
            return result  # for outputs without names, or SKIP
        if unknown := set(result) - set(outputs):
            raise KeyError(f"{fn.__qualname__} answers with {', '.join(sorted(unknown))}, which it does not show")
        return [result.get(name, gr.skip()) for name in outputs]

    if inspect.isgeneratorfunction(fn):

        @functools.wraps(fn)
        def streaming(call: Any, *values: Any) -> Iterator[Any]:
            for result in fn(call, *given(values)):
                yield placed(result)

        return streaming

    @functools.wraps(fn)
    def answering(call: Any, *values: Any) -> Any:
        return placed(fn(call, *given(values)))

    return answering


def flat(fn: Callable[..., Any], inputs: Inputs) -> Callable[..., Any]:
    """`fn(*inputs)`, where controls arrive as their dataclass, as a function of Gradio's flat values."""
    named = by_name(lambda _, *values: fn(*values), inputs, ())
    return lambda *values: named(None, *values)


def changed(asked: Any, wanted: Any, fresh: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Updates of the controls, by name: values where the page differs from `wanted`, and all of `fresh`."""
    updates = {}
    for field in fields(asked):
        old, new, more = getattr(asked, field.name), getattr(wanted, field.name), (fresh or {}).get(field.name, {})
        same = old == new or (new == [] and not old)  # an empty multiple choice arrives as None
        if more or not same:
            updates[field.name] = gr.update(**({} if same else {"value": new}), **more)
    return updates
