"""Controls arrive in a function as one dataclass, whatever their order on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr
import pytest

from vitmsn.ui.models import Models
from vitmsn.ui.page import build
from vitmsn.ui.shared.controls import bind, by_name, changed, components


@dataclass(frozen=True)
class Two:
    left: int = 1
    right: int = 2


def test_every_field_has_one_component() -> None:
    with gr.Blocks():
        left, right = gr.Slider(label="Left"), gr.Slider(label="Right")
        bound = bind(Two, right=right, left=left)  # in any order
        assert list(bound) == ["left", "right"] and components([bound]) == [left, right]
        with pytest.raises(TypeError, match="Two and its components differ in right"):
            bind(Two, left=left)
        with pytest.raises(TypeError, match="differ in other"):
            bind(Two, left=left, right=right, other=left)


def test_a_function_gets_the_dataclass_and_returns_values_by_name() -> None:
    with gr.Blocks():
        left, right, said = gr.Slider(), gr.Slider(), gr.HTML()
        bound = bind(Two, left=left, right=right)

    def fn(call: Any, first: str, asked: Two, last: str) -> dict[str, Any]:
        assert (first, last) == ("a", "z")
        return {"right": asked.left, "said": f"{asked.left} {asked.right}"}

    wired = by_name(fn, [said, bound, said], {"said": said, **bound})
    assert wired(None, "a", 3, 4, "z") == ["3 4", gr.skip(), 3]
    assert by_name(lambda call, asked: asked, [bound], [said])(None, 5, 6) == Two(5, 6)


class Named(NamedTuple):
    said: str
    left: int


def test_a_named_tuple_returns_values_by_name() -> None:
    with gr.Blocks():
        said, bound = gr.HTML(), bind(Two, left=gr.Slider(), right=gr.Slider())
    assert by_name(lambda call: Named("a", 5), [], {**bound, "said": said})(None) == [5, gr.skip(), "a"]


def test_a_generator_yields_values_by_name() -> None:
    with gr.Blocks():
        bound = bind(Two, left=gr.Slider(), right=gr.Slider())

    def fn(call: Any, asked: Two) -> Iterator[dict[str, Any]]:
        yield {"left": asked.right}
        yield {"right": asked.left}

    assert list(by_name(fn, [bound], {**bound})(None, 1, 2)) == [[2, gr.skip()], [gr.skip(), 1]]


def test_an_unknown_output_name_raises() -> None:
    with gr.Blocks():
        bound = bind(Two, left=gr.Slider(), right=gr.Slider())
    with pytest.raises(KeyError, match="middle"):
        by_name(lambda call, asked: {"middle": 1}, [bound], {**bound})(None, 1, 2)


def test_only_what_changed_is_updated() -> None:
    assert changed(Two(1, 2), Two(1, 3)) == {"right": gr.update(value=3)}
    assert changed(Two(1, 2), Two(1, 2), {"left": {"maximum": 9}}) == {"left": gr.update(maximum=9)}


# The label of each field of each tab: swapped controls would differ here.
LABELS: dict[str, dict[str, str]] = {
    "attention": {
        "kind": "What to show",
        "layer": "Layer",
        "head": "Head",
        "keep": "Strongest patches only, %",
        "size": "Input size, px",
        "strength": "Overlay strength, %",
        "start": "Back to layer",
        "row": "Row",
        "column": "Column",
        "label": "Class to explain",
        "palette": "Colors",
        "shape": "Draw as",
        "order": "Sort heads by",
        "aspect": "Keep the picture's proportions",
        "some": "Only these heads",
        "beside": "Compare with",
        "other": "The other picture",
        "ratio": "Mask ratio, %",
        "seed": "Seed",
    },
    "masking": {"kind": "Mask", "ratio": "Mask ratio, %", "seed": "Seed", "paint": "Hidden patches"},
    "fewshot": {
        "method": "Classifier",
        "k": "k",
        "temperature": "Temperature",
        "caution": 'How easily it says "none of these", in %',
    },
    "explore": {
        "method": "Map",
        "queries": "Show the queries too",
        "neighbors": "Neighbors",
        "seed": "Seed",
        "colour": "Color",
        "faces": "Pictures as points",
    },
    "learn": {
        "size": "Size",
        "draw": "Seed",
        "ratio": "Mask ratio, %",
        "layer": "Layer",
        "other": "Another picture",
        "temperature": "Temperature",
        "sharpening": "Sharpening",
        "weight": "Weight λ",
    },
}


@pytest.mark.parametrize("tab", list(LABELS))
def test_each_field_of_a_tab_is_the_control_with_its_label(tab: str, models: Models) -> None:
    bound = build(models).answers[tab].controls
    assert bound is not None and {name: control.label for name, control in bound.items()} == LABELS[tab]


@pytest.mark.parametrize("tab", list(LABELS))
def test_controls_start_with_the_defaults_of_their_dataclass(tab: str, models: Models) -> None:
    bound = build(models).answers[tab].controls
    assert bound is not None
    start = bound.kind()
    for name, control in bound.items():
        if (tab, name) not in {
            ("attention", "layer"),
            ("learn", "other"),
            ("learn", "layer"),
        }:  # set by the model
            assert control.value == getattr(start, name), name
