"""Attention: where the model looks, in any layer and head, through all layers, or from one patch."""

from __future__ import annotations

import base64
import io
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
from vitmsn.ui import parts
from vitmsn.ui.page import App, Photo, read_picture, whole
from vitmsn.ui.state import Call

KINDS = {"cls": "CLS", "rollout": "Rollout", "patch": "A patch"}
MOST_LAYERS, MOST_HEADS = 64, 64  # what a link may name before the model has had its say
CLS = "CLS is the token that sums up the picture; rollout follows it back through all layers."
LAYER = "The picture passes through the layers one after another."
HEAD = "Each layer looks in several ways at once: its heads."
KEEP = "Dims all but the smallest set of patches that holds this much."
SIZE = "Side of the input: more pixels, more patches, slower."
HEADLINE = 2  # heads named as the most focused

# Arrows move among the maps, a click (or Enter) enlarges one. The listener outlives the maps, which come anew with each
# answer; whoever was on a map is put back on it.
MAPS = """let back = false;
const maps = () => [...element.querySelectorAll("button[data-head]")];
element.addEventListener("click", (event) => {
  const map = event.target.closest("button[data-head]");
  if (!map) return;
  back = true;
  trigger("click", {layer: Number(map.dataset.layer), head: Number(map.dataset.head)});
});
element.addEventListener("keydown", (event) => {
  const here = event.target.closest("button[data-head]");
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!here || !step) return;
  event.preventDefault();
  const layer = Number(here.dataset.layer) + step[0], head = Number(here.dataset.head) + step[1];
  const next = maps().find((map) => Number(map.dataset.layer) === layer && Number(map.dataset.head) === head);
  if (!next) return;
  here.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
new MutationObserver(() => {
  if (!back || element.contains(document.activeElement)) return;
  back = false;
  element.querySelector("button[aria-pressed=true]")?.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});"""


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
    strength: int = 60  # percent of the map over the photograph
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
    own: float  # the part that stays at CLS

    @property
    def grid(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def peak(self) -> tuple[int, int]:
        return _peak(self.values)

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
    layers, heads = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    layer = whole(ask.layer, "layer", 0, layers) or layers
    head = whole(ask.head, "head", 0, heads)
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
        own=1 - float(values.sum()),
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


def seen(encoder: Encoder, picture: Picture) -> Image.Image:
    """The part of the picture that the model sees, in its own proportions."""
    if encoder.processor.crop is None:
        return picture.rgb
    height, width = encoder.input_size
    return encoder.processor.view(picture, (4 * height, 4 * width))


# ------------------------------------------------------------------------------------------------------------- saying


def sentence(found: Look, mass: float) -> str:
    """What the map shows, in one sentence with its numbers."""
    row, column = found.peak
    most = float(found.values.max())
    patches = found.values.size
    place = f"row {row}, column {column}"
    amount = f"{draw.percent(most)} of its attention, {times(most * patches)} an even share"
    if found.ask.kind == "rollout":
        first = f"Through layers {found.ask.start} to {found.maps.shape[1]}, most reaches CLS from {place}"
        amount = f"{draw.percent(most)}, {times(most * patches)} an even share"
    elif found.ask.kind == "patch":
        first = f"In {found.subject}, the patch at row {found.ask.row}, column {found.ask.column} looks most at {place}"
    else:
        first = f"In {found.subject}, CLS looks most at {place}"
    if mass >= 1:
        return f"{first}: {amount}."
    kept = int(_brightest(found.values, mass).sum())
    return f"{first}: {amount}; {kept} of {patches} patches hold {draw.percent(mass)} of what goes to patches."


def times(ratio: float) -> str:
    return f"{float(f'{ratio:.2g}'):g} times"


def _brightest(values: np.ndarray, mass: float) -> np.ndarray:
    """The smallest set of patches that holds `mass` of the map: bool, of its shape."""
    return attention.mass_threshold(torch.from_numpy(values).flatten(), mass).view(values.shape).numpy()


def about_heads(found: Look) -> str:
    """Which heads are the most focused, and why they count as that."""
    flat = torch.from_numpy(found.maps).flatten(2)  # (H, L, N)
    halves = attention.mass_threshold(flat, 0.5).sum(-1)  # patches that hold half of each head's attention
    order = attention.entropy(flat).flatten().argsort()[:HEADLINE].tolist()
    layers = found.maps.shape[1]
    named = [(index % layers + 1, index // layers + 1, int(halves.view(-1)[index])) for index in order]
    total = found.values.size
    said = " and ".join(f"layer {layer} head {head} (half falls on {count} of {total})" for layer, head, count in named)
    kept = f" CLS keeps {draw.percent(found.own)} for itself in {found.subject}." if found.ask.kind == "cls" else ""
    return f"Most focused: {said}.{kept}"


def legend(scale: draw.Scale, what: str) -> str:
    """The colour scale as HTML, readable in light and dark."""
    low, high = (draw.percent(end) for end in scale)
    what, stops = parts.text(what), ", ".join(draw.ramp())
    return (
        f'<p class="msn-scale"><span>{low}</span><span class="msn-ramp" aria-hidden="true" '
        f'style="background:linear-gradient(90deg, {stops})"></span><span>{high}</span> <span>{what}</span></p>'
    )


def heads(found: Look) -> str:
    """All heads' maps as buttons on one picture: a row for each head, a column for each layer, one colour scale."""
    many, layers = found.maps.shape[:2]
    top = float(np.quantile(found.maps, 0.998))  # one glaring patch would leave all the others black
    chosen = (found.ask.layer, found.ask.head) if found.ask.kind != "rollout" else (0, 0)
    stop = chosen if chosen[1] else (found.ask.layer, 1)  # where the Tab key lands
    cells = ["<span></span>", *(f"<span>{layer}</span>" for layer in range(1, layers + 1))]
    for head in range(1, many + 1):
        cells.append(f"<span>head {head}</span>")
        for layer in range(1, layers + 1):
            row, column = _peak(found.maps[head - 1, layer - 1])
            here = (layer, head)
            cells.append(
                f'<button type="button" data-layer="{layer}" data-head="{head}" tabindex="{0 if here == stop else -1}" '
                f'aria-pressed="{"true" if here == chosen else "false"}" '
                f'aria-label="Layer {layer}, head {head}: peak at row {row}, column {column}" '
                f'style="background-position:{_place(layer, layers)} {_place(head, many)}"></button>'
            )
    ask = found.ask
    whom = f"the patch at row {ask.row}, column {ask.column}" if ask.kind == "patch" else "CLS"
    label = f"What {whom} looks at in every layer and head; arrow keys move, Enter enlarges"
    rows, columns = found.grid
    style = f"--layers:{layers};--heads:{many};--aspect:{columns}/{rows};--sheet:url({_sheet(found.maps, top)})"
    return (
        f'<section class="msn-heads"><h3>All heads</h3>{parts.hint(about_heads(found))}<div class="msn-heads-scroll">'
        f'<div class="msn-heads-grid" role="group" aria-label="{label}" style="{style}">{"".join(cells)}</div></div>'
        f"{legend((0.0, top), f'of the attention of {whom} on one patch; columns are layers')}</section>"
    )


def _sheet(maps: np.ndarray, top: float) -> str:
    """All maps edge to edge, a pixel for each patch, as a data: URL without loss."""
    buffer = io.BytesIO()
    draw.head_grid(maps, (0.0, top), zoom=1, gap=0).quantize(256).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _peak(values: np.ndarray) -> tuple[int, int]:
    """Row and column, from 1, of the largest value."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return int(row) + 1, int(column) + 1


def _place(number: int, count: int) -> str:
    return f"{100 * (number - 1) / max(count - 1, 1):.4f}%"


# ------------------------------------------------------------------------------------------------------------- answers


def answer(call: Call, *controls: Any) -> list[Any]:
    """Everything on the tab for the controls as they stand (in the order of `Ask`)."""
    return _answer(call, Ask(*controls), Ask(*controls))


def choose(call: Call, *controls: Any) -> list[Any]:
    """A row or a column was typed: show what the patch there attends to."""
    return _answer(call, Ask(*controls), replace(Ask(*controls), kind="patch"))


def enlarge(call: Call, *controls: Any) -> list[Any]:
    """A small map was clicked: show it large."""
    sent, encoder = Ask(*controls), call.encoder
    layer = whole(call.chosen("layer"), "layer", 1, encoder.config.num_hidden_layers)
    head = whole(call.chosen("head"), "head", 1, encoder.config.num_attention_heads)
    kind = "cls" if sent.kind == "rollout" else sent.kind
    return _answer(call, sent, replace(sent, kind=kind, layer=layer, head=head))


def point(call: Call, *controls: Any) -> list[Any]:
    """A place on the map was clicked: show what the patch there attends to."""
    sent, encoder = Ask(*controls), call.encoder
    x, y = _clicked(call, seen(encoder, call.picture))
    rows, columns = _grid(encoder, sent.size)
    row, column = min(int(y * rows), rows - 1) + 1, min(int(x * columns), columns - 1) + 1
    return _answer(call, sent, replace(sent, kind="patch", row=row, column=column))


def point_in_whole(call: Call, *controls: Any) -> list[Any]:
    """The same for a click on the visitor's picture itself."""
    if call.encoder.processor.crop is not None:
        raise InputError("This model sees only the middle of the picture; click on the map beside it.")
    return point(call, *controls)


def _clicked(call: Call, picture: Image.Image) -> tuple[float, float]:
    """Where a shown picture was clicked, as shares of its width and height."""
    place = call.chosen("index")
    reduced = min(1.0, limits.SHOWN_SIDE / max(picture.size))
    try:
        x, y = (float(value) / (side * reduced) for value, side in zip(place, picture.size, strict=True))
    except (TypeError, ValueError):
        raise InputError("That click carried no place; click on the picture again.") from None
    if not (0 <= x <= 1.01 and 0 <= y <= 1.01):  # the page rounds up
        raise InputError("That click was outside the picture; click on it again.")
    return x, y


def _answer(call: Call, sent: Ask, wanted: Ask) -> list[Any]:
    encoder, picture = call.encoder, call.picture
    ask = _fitted(call, wanted)
    found = look(encoder, picture, ask)
    mass, strength = whole(ask.keep, "keep", 5, 100) / 100, whole(ask.strength, "strength", 0, 100) / 100
    scale = draw.own_scale(found.values)
    shown = seen(encoder, picture).copy()
    shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
    shown = draw.overlay(shown, found.values, strength, scale, _brightest(found.values, mass) if mass < 1 else None)
    if ask.kind == "patch":
        shown = draw.highlight(shown, ask.row - 1, ask.column - 1, found.grid)
    row, column = found.peak
    what = "reaches CLS from one patch" if ask.kind == "rollout" else "of its attention on one patch"
    return [
        gr.update(value=shown, alt_text=f"Attention of {found.subject}, peak at row {row}, column {column}"),
        legend(scale, what),
        parts.sentence(sentence(found, mass)),
        heads(found),
        parts.in_python("from vitmsn import Encoder, attention", call.python, *_code(call, found)),
        *_controls(call, sent, ask),
    ]


def _grid(encoder: Encoder, size: int) -> tuple[int, int]:
    height, width = (size, size) if size else encoder.input_size
    return height // encoder.patch_size[0], width // encoder.patch_size[1]


def _fitted(call: Call, ask: Ask) -> Ask:
    """What was asked for as far as this model and grid have it. A layer that was the last one stays the last one."""
    encoder = call.encoder
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    before = call.visit.shown.get("attention layers", MOST_LAYERS)
    last = not ask.layer or ask.layer >= min(int(str(before)), MOST_LAYERS)
    size = ask.size if ask.size in dict(sizes(encoder)).values() else 0
    rows, columns = _grid(encoder, size)
    return replace(
        ask,
        layer=layers if last else min(ask.layer, layers),
        head=ask.head if ask.head and ask.head <= many else 0,
        size=size,
        start=min(ask.start or 1, layers),
        row=min(max(ask.row or 1, 1), rows),
        column=min(max(ask.column or 1, 1), columns),
    )


def _controls(call: Call, sent: Ask, ask: Ask) -> list[Any]:
    """Updates of the controls: their ranges where those changed, their values where the page has others."""
    encoder = call.encoder
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    rows, columns = _grid(encoder, ask.size)
    rollout = ask.kind == "rollout"  # it goes through all layers and heads
    ranges: dict[str, dict[str, Any]] = {
        "layer": {"maximum": max(layers, 2), "interactive": not rollout},
        "head": {"choices": head_choices(many), "interactive": not rollout},
        "size": {"choices": sizes(encoder)},
        "start": {"maximum": max(layers, 2), "interactive": rollout},
        "row": {"maximum": rows, "label": f"Row (1 to {rows})"},
        "column": {"maximum": columns, "label": f"Column (1 to {columns})"},
    }
    state = (call.visit.model, rows, columns, rollout)
    fresh = call.visit.shown.get("attention ranges") != state
    call.visit.shown |= {"attention ranges": state, "attention layers": layers}
    updates = []
    for field, old, new in zip(fields(Ask), astuple(sent), astuple(ask), strict=True):
        changed = ranges.get(field.name, {}) if fresh else {}
        updates.append(gr.update(value=new, **changed) if changed or old != new else gr.skip())
    return updates


def head_choices(many: int) -> list[tuple[str, int]]:
    return [("mean of heads", 0), *((f"head {head}", head) for head in range(1, many + 1))]


def _code(call: Call, found: Look) -> list[str]:
    name = f"{call.visit.example}.png" if call.visit.example else call.picture.name
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
    if image is None:
        raise InputError("No picture came; send one as `image`.")
    picture = read_picture(image)
    found = look(call.encoder, picture, Ask(kind, layer, head, size=size, row=row, column=column))
    scale = draw.own_scale(found.values)
    shown = seen(call.encoder, picture).copy()
    shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
    shown = draw.overlay(shown, found.values, scale=scale)
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
    with gr.Row(elem_classes="msn-columns"):
        with gr.Column(elem_classes="msn-left"):
            picture = app.picture("attention", label="Your picture: click a patch to see what it attends to")
        with gr.Column(elem_classes="msn-right"):
            shown = app.shown("Where the model looks", height=360, elem_id="attention-map", elem_classes="msn-map")
            scale = gr.HTML()
            said = gr.HTML()
            kind = gr.Radio([(label, name) for name, label in KINDS.items()], value="cls", label="Who looks", info=CLS)
            with gr.Row():
                layer = gr.Slider(1, max(layers, 2), layers, step=1, label="Layer", info=LAYER)
                head = gr.Dropdown(head_choices(many), value=0, label="Head", info=HEAD, filterable=False)
            with gr.Row():
                keep = gr.Slider(5, 100, 100, step=5, label="Keep, % of the attention", info=KEEP)
                size = gr.Radio(sizes(encoder), value=0, label="Detail, px", info=SIZE)
            with gr.Accordion("More", open=False):
                strength = gr.Slider(0, 100, 60, step=5, label="Overlay strength, %")
                start = gr.Slider(1, max(layers, 2), 1, step=1, label="Rollout from layer", interactive=False)
                with gr.Row():
                    row = gr.Number(1, label="Row", precision=0, minimum=1)
                    column = gr.Number(1, label="Column", precision=0, minimum=1)
                gr.HTML(parts.hint("Row and column of the patch that looks: the same as a click on the picture."))
    maps = gr.HTML(js_on_load=MAPS)
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
