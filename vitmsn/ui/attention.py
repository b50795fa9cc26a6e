"""Attention: where the model looks, in any layer and head, through all layers, or from one patch."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from vitmsn import attention, draw, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.ui import heads, parts, patches
from vitmsn.ui.page import App, Photo, whole
from vitmsn.ui.state import Call

KINDS = {"cls": "CLS", "rollout": "Rollout", "patch": "A patch"}
MOST_LAYERS, MOST_HEADS = 64, 64  # what a link may name before the model has had its say
WHO = "CLS is the token that sums up the picture; rollout follows it back through all layers; or click a patch."
LAYER = "A step of the network."
HEAD = "Each layer looks in several ways."
KEEP = "Dims the rest."
SIZE = "More pixels, more patches."
ROW = "Of the patch that looks; or click it."


# ------------------------------------------------------------------------------------------------------------ looking


@dataclass(frozen=True)
class Ask:
    """What someone wants to see, a field for each control in its order.

    Layers, heads, rows and columns count from 1; layer 0 is the last, head 0 the mean of all.
    """

    kind: str = "cls"
    layer: int = 0
    head: int = 0
    keep: int = 100  # percent of the attention that stays bright
    size: int = 0  # side of the input in pixels; 0: the model's own
    strength: int = 50  # percent of the map over the photograph
    start: int = 1  # the layer where rollout begins
    row: int = 1
    column: int = 1


@dataclass(frozen=True)
class Look:
    """What was seen: `maps` (heads, layers, rows, columns) are what the chosen token attends to everywhere, `values`
    (rows, columns) the map that was asked for; shares of the whole attention, CLS's own part included."""

    ask: Ask
    values: np.ndarray
    maps: np.ndarray

    @property
    def grid(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def whom(self) -> str:
        """'CLS', or 'the patch at row 2, column 3'."""
        return f"the patch at row {self.ask.row}, column {self.ask.column}" if self.ask.kind == "patch" else "CLS"

    @property
    def subject(self) -> str:
        """'layer 6, mean of heads', for sentences and alternative texts."""
        layers = self.maps.shape[1]
        if self.ask.kind == "rollout":
            return f"rollout from layer {self.ask.start} to {layers}"
        return f"layer {self.ask.layer}, {f'head {self.ask.head}' if self.ask.head else 'mean of heads'}"


def look(encoder: Encoder, picture: Picture, ask: Ask) -> Look:
    """The map asked for and all heads' maps. InputError names what this model or this grid does not have."""
    if ask.kind not in KINDS:
        raise InputError(f"kind is {str(ask.kind)[:32]!r}; choose one of {', '.join(KINDS)}.")
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    layer = whole(ask.layer, "layer", 0, layers) or layers
    head = whole(ask.head, "head", 0, many)
    start = whole(ask.start, "start", 1, layers)
    size = whole(ask.size, "size", 0, 4096)
    tokens = encoder.tokens(picture, size=size or None)
    rows, columns = tokens.grid
    row, column = whole(ask.row, "row", 1, rows), whole(ask.column, "column", 1, columns)
    model = encoder.model
    if ask.kind == "patch":
        patch = (row - 1) * columns + column - 1
        maps = torch.stack([attention.patch_attention(model, tokens, patch, n) for n in range(layers)], dim=1)
    else:
        maps = attention.cls_attention(model, tokens)
    if ask.kind == "rollout":
        values = attention.rollout(model, tokens, start - 1)[0]
    else:
        values = maps[0, layer - 1].mean(0) if head == 0 else maps[0, layer - 1, head - 1]
    return Look(
        replace(ask, layer=layer, head=head, size=size, start=start, row=row, column=column),
        attention.to_grid(values[None], tokens)[0].numpy(),
        attention.to_grid(maps, tokens)[0].transpose(0, 1).numpy(),  # (H, L, rows, columns)
    )


def sizes(encoder: Encoder) -> list[tuple[str, int]]:
    """Input sizes worth offering, as (label, side): the model's own as 0, and multiples of its patch around it."""
    (height, width), patch = encoder.input_size, max(encoder.patch_size)
    if encoder.patch_size[0] != encoder.patch_size[1]:
        return [(f"{height} × {width}", 0)]
    small = max(height, width) <= 64
    factors = (1, 2, 3, 4) if small else (0.5, 1, 1.5, 2)
    sides = [round(max(height, width) * factor / patch) * patch for factor in factors]
    offered = {0 if (side, side) == (height, width) else side for side in sides}
    offered = {side for side in offered if (side // patch) ** 2 <= limits.MAX_TOKENS} | {0}
    own = f"{height}" if height == width else f"{height} × {width}"
    return [(str(side) if side else own, side) for side in sorted(offered, key=lambda side: side or max(height, width))]


# ------------------------------------------------------------------------------------------------------------- saying


def sentence(found: Look, mass: float) -> str:
    """What the map shows, in one sentence with its numbers."""
    row, column = heads.peak(found.values)
    most, total = float(found.values.max()), found.values.size
    even = f"{times(most * total)} an even share"
    if found.ask.kind == "rollout":
        layers = f"layers {found.ask.start} to {found.maps.shape[1]}"
        said = f"Through {layers}, most reaches CLS from row {row}, column {column}: {draw.percent(most)}, {even}"
    else:
        said = f"In {found.subject}, {found.whom} looks most at row {row}, column {column}: "
        said += f"{draw.percent(most)} of its attention, {even}"
    if mass < 1:
        kept = int(_brightest(found.values, mass).sum())
        said += f"; {kept} of {total} patches hold {draw.percent(mass)} of what goes to patches"
    return f"{said}."


def times(ratio: float) -> str:
    return f"{float(f'{ratio:.2g}'):g} times"


def _brightest(values: np.ndarray, mass: float) -> np.ndarray:
    """The smallest set of patches that holds `mass` of the map: bool, of its shape."""
    return attention.mass_threshold(torch.from_numpy(values).flatten(), mass).view(values.shape).numpy()


# ------------------------------------------------------------------------------------------------------------- answers


def answer(call: Call, *controls: Any) -> list[Any]:
    """Everything on the tab for the controls as they stand (in the order of `Ask`)."""
    return _answer(call, Ask(*controls), Ask(*controls))


def choose(call: Call, *controls: Any) -> list[Any]:
    """A row or a column was typed: show what the patch there attends to."""
    return _answer(call, Ask(*controls), replace(Ask(*controls), kind="patch"))


def enlarge(call: Call, *controls: Any) -> list[Any]:
    """A small map was clicked: show it large."""
    asked, encoder = Ask(*controls), call.encoder
    layer = whole(call.chosen("layer"), "layer", 1, encoder.config.num_hidden_layers)
    head = whole(call.chosen("head"), "head", 1, encoder.config.num_attention_heads)
    kind = "cls" if asked.kind == "rollout" else asked.kind
    return _answer(call, asked, replace(asked, kind=kind, layer=layer, head=head))


def point(call: Call, *controls: Any, whole_picture: bool = False) -> list[Any]:
    """A place on the map was clicked: show what the patch there attends to."""
    asked = Ask(*controls)
    row, column = patches.clicked(call, patches.grid(call.encoder, asked.size), whole_picture=whole_picture)
    return _answer(call, asked, replace(asked, kind="patch", row=row + 1, column=column + 1))


def point_in_whole(call: Call, *controls: Any) -> list[Any]:
    """The same for a click on the visitor's picture itself."""
    return point(call, *controls, whole_picture=True)


def _answer(call: Call, asked: Ask, wanted: Ask) -> list[Any]:
    """The answer to `wanted`, where the page still has the controls at `asked`."""
    encoder, picture = call.encoder, call.picture
    ask = _fitted(call, wanted)
    found = look(encoder, picture, ask)
    mass, strength = whole(ask.keep, "keep", 5, 100) / 100, whole(ask.strength, "strength", 0, 100) / 100
    scale = draw.own_scale(found.values)
    kept = _brightest(found.values, mass) if mass < 1 else None
    shown = draw.overlay(patches.seen(encoder, picture), found.values, strength, scale, kept)
    if ask.kind == "patch":
        shown = draw.highlight(shown, ask.row - 1, ask.column - 1, found.grid)
    row, column = heads.peak(found.values)
    what = "reaches CLS from one patch" if ask.kind == "rollout" else "of the attention, on one patch"
    chosen = (ask.layer, ask.head) if ask.kind != "rollout" else (0, 0)
    return [
        gr.update(value=shown, alt_text=f"Attention of {found.subject}, peak at row {row}, column {column}"),
        patches.legend(scale, what),
        parts.sentence(sentence(found, mass)),
        heads.heads(found.maps, chosen, ask.layer, found.whom),
        parts.in_python("from vitmsn import Encoder, attention", call.python, *_code(call, found)),
        *_controls(call, asked, ask),
    ]


def _fitted(call: Call, ask: Ask) -> Ask:
    """What was asked for as far as this model and grid have it. A layer that was the last one stays the last one."""
    encoder = call.encoder
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    layer, head = whole(ask.layer, "layer", 0, MOST_LAYERS), whole(ask.head, "head", 0, MOST_HEADS)
    before = call.visit.shown.get("attention layers")
    last = layer == 0 or layer > layers or (isinstance(before, int) and before < layers and layer == before)
    size = ask.size if ask.size in dict(sizes(encoder)).values() else 0
    rows, columns = patches.grid(encoder, size)
    return replace(
        ask,
        layer=layers if last else layer,
        head=head if head <= many else 0,
        size=size,
        start=min(whole(ask.start, "start", 1, MOST_LAYERS), layers),
        row=min(whole(ask.row or 1, "Row", 1, 9999), rows),
        column=min(whole(ask.column or 1, "Column", 1, 9999), columns),
    )


def _controls(call: Call, asked: Ask, ask: Ask) -> list[Any]:
    """Updates of the controls: their ranges where those changed, their values where the page has others."""
    encoder = call.encoder
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    rows, columns = patches.grid(encoder, ask.size)
    rollout = ask.kind == "rollout"  # it goes through all layers and heads
    ranges: dict[str, dict[str, Any]] = {
        "layer": {"maximum": max(layers, 2), "interactive": not rollout},
        "head": {"choices": head_choices(many), "interactive": not rollout},
        "size": {"choices": sizes(encoder)},
        "start": {"maximum": max(layers, 2), "interactive": rollout},
        "row": {"label": f"Row (1 to {rows})"},
        "column": {"label": f"Column (1 to {columns})"},
    }
    state = (call.visit.model, rows, columns, rollout)
    fresh = call.visit.shown.get("attention ranges") != state
    call.visit.shown |= {"attention ranges": state, "attention layers": layers}
    updates = []
    for field, old, new in zip(fields(Ask), astuple(asked), astuple(ask), strict=True):
        changed = ranges.get(field.name, {}) if fresh else {}
        updates.append(gr.update(value=new, **changed) if changed or old != new else gr.skip())
    return updates


def head_choices(many: int) -> list[tuple[str, int]]:
    return [("mean of heads", 0), *((f"head {head}", head) for head in range(1, many + 1))]


def _code(call: Call, found: Look) -> list[str]:
    name = patches.file_name(call)
    ask = found.ask
    opened = f"tokens = encoder.tokens({name!r}{f', size={ask.size}' if ask.size else ''})"
    if ask.kind == "rollout":
        start = f", start_layer={ask.start - 1}" if ask.start > 1 else ""
        return [opened, f"print(attention.rollout(encoder.model, tokens{start})[0])"]
    which = ".mean(0)" if ask.head == 0 else f"[{ask.head - 1}]"
    if ask.kind == "patch":
        patch = (ask.row - 1) * found.grid[1] + ask.column - 1
        what = f"patch_attention(encoder.model, tokens, {patch}, layer={ask.layer - 1})[0]"
    else:
        what = f"cls_attention(encoder.model, tokens)[0, {ask.layer - 1}]"
    return [opened, f"print(attention.{what}{which})"]


# ------------------------------------------------------------------------------------------------------------ endpoint


def attend(
    call: Call,
    image: str,
    layer: int = 0,
    head: int = 0,
    kind: str = "cls",
    row: int = 1,
    column: int = 1,
    size: int = 0,
) -> tuple[Image.Image, dict[str, Any]]:
    """Show where the model looks on a picture: an attention map drawn over it, with its colour scale, and the map as
    numbers (shares of the whole attention, one list for each row of patches, row 1 on top).

    kind "cls" is what the summary token attends to, "patch" what the patch at `row` and `column` attends to, "rollout"
    what reaches the summary token through all layers (layer and head are null then). Layers, heads, rows and columns
    count from 1; layer 0 is the last, head 0 the mean of all. size is the side of the input in pixels, a multiple of
    the model's patch; 0 is its own size, larger gives a finer map.
    """
    picture = patches.sent(image)
    found = look(call.encoder, picture, Ask(kind, layer, head, size=size, row=row, column=column))
    scale = draw.own_scale(found.values)
    shown = draw.overlay(patches.seen(call.encoder, picture), found.values, scale=scale)
    if kind == "patch":
        shown = draw.highlight(shown, row - 1, column - 1, found.grid)
    rollout = kind == "rollout"
    return draw.with_legend(shown, scale, "of the attention"), {
        "layer": None if rollout else found.ask.layer,
        "head": None if rollout else found.ask.head,
        "grid": list(found.grid),
        "map": found.values.astype(float).round(6).tolist(),
    }


# ----------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    encoder = app.models.loaded(app.models.default) or Encoder.random()
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    with gr.Row(elem_classes=["msn-columns", "msn-bench"]):
        with gr.Column(elem_classes="msn-left"):
            picture = app.picture("attention")
            with gr.Column(elem_classes="msn-controls"):
                kind = gr.Radio(
                    [(label, name) for name, label in KINDS.items()], value="cls", label="Who looks", info=WHO
                )
                with gr.Row():
                    layer = gr.Slider(1, max(layers, 2), layers, step=1, label="Layer", info=LAYER, scale=2)
                    head = gr.Dropdown(head_choices(many), value=0, label="Head", info=HEAD, filterable=False, scale=3)
                with gr.Row():
                    keep = gr.Slider(5, 100, 100, step=5, label="Keep % of attention", info=KEEP, scale=2)
                    size = gr.Radio(sizes(encoder), value=0, label="Detail, px", info=SIZE, scale=3)
                with gr.Accordion("More", open=False):
                    strength = gr.Slider(0, 100, 50, step=5, label="Overlay strength, %")
                    start = gr.Slider(1, max(layers, 2), 1, step=1, label="Rollout from layer", interactive=False)
                    with gr.Row():
                        row = gr.Number(1, label="Row", precision=0, info=ROW)
                        column = gr.Number(1, label="Column", precision=0)
        with gr.Column(elem_classes="msn-right"):
            shown = app.shown("Where the model looks", height=348, elem_id="attention-map", elem_classes="msn-map")
            scale = gr.HTML()
            said = gr.HTML()
            maps = gr.HTML(js_on_load=heads.MAPS, elem_classes="msn-late")
    code = gr.HTML()
    controls = [kind, layer, head, keep, size, strength, start, row, column]
    outputs = [shown, scale, said, maps, code, *controls]
    app.answer(
        "attention", answer, controls, outputs, again=[kind.input, layer.input, head.input, keep.input, size.input]
    )
    notice = app.panels["attention"].notice
    app.on([strength.input, start.input], answer, controls, outputs, notice=notice)
    app.on([row.input, column.input], choose, controls, outputs, notice=notice)
    app.on(maps.click, enlarge, controls, outputs, notice=notice)
    app.on(shown.select, point, controls, outputs, notice=notice)
    app.on(picture.select, point_in_whole, controls, outputs, notice=notice)
    app.link("kind", kind, _kind)
    app.link("layer", layer, lambda text: _linked(text, 1, MOST_LAYERS, maximum=MOST_LAYERS))
    app.link("head", head, lambda text: _linked(text, 0, MOST_HEADS, choices=head_choices(MOST_HEADS)))
    numbers = [gr.Number(value, visible=False, precision=0) for value in (0, 0, 1, 1, 0)]
    asked = [Photo(visible=False), *numbers[:2], gr.Textbox("cls", visible=False), *numbers[2:]]
    app.endpoint("attention", attend, asked, [gr.Image(visible=False), gr.JSON(visible=False)])


def _kind(text: str) -> str:
    if text not in KINDS:
        raise ValueError(text)
    return text


def _linked(text: str, low: int, most: int, **ranges: Any) -> Any:
    """A number of a link, with the control's range widened until the model has had its say."""
    value = int(text)
    if not low <= value <= most:
        raise ValueError(text)
    return gr.update(value=value, **ranges)
