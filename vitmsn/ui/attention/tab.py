"""Attention: where the model looks, by layer and head, through all layers, from or to a patch, or for one class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
from markupsafe import Markup
from PIL import Image

from vitmsn import draw
from vitmsn.config import VARIANTS
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.look import HEADLESS, OF_A_PATCH, THROUGH
from vitmsn.ui.app import App
from vitmsn.ui.attention import camera, compare, downloads, endpoint, head_grid, head_statistics, layer_film
from vitmsn.ui.attention.map_view import (
    KINDS,
    SHAPES,
    AttentionControls,
    Sight,
    code,
    drawn,
    see,
    sentence,
    sizes,
)
from vitmsn.ui.attention.state import AttentionOnPage, AttentionState
from vitmsn.ui.fair_queue import COSTLY
from vitmsn.ui.locale import later, tr, tr_html
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.shared.checks import choice, linked_choice, linked_list, linked_whole, whole
from vitmsn.ui.shared.controls import Controls, bind, changed
from vitmsn.ui.visits import Call

MOST_LAYERS, MOST_HEADS = 64, 64  # the highest number a link may name; checked again against the model
WHO = later(
    "CLS: what the summary token looks at. Rollout: traced through all layers. Relevance: what spoke for one answer. "
    "Or click the picture."
)
LAYER = later("Layers run one after another; {} is the last.")
HEAD = later("Each layer has {} heads looking in parallel.")
KEEP = later("The fewest that together hold this share.")
SIZE = later("Larger means a finer grid, and slower.")
ROW = later("Of the patch. Or click the picture.")
START = later("How far back rollout and relevance trace.")
CLASS = later("What relevance explains.")
SOME = later("Combine only these.")
PALETTE = later("All three work without color vision.")
ASPECT = later("Nothing is squashed; about as many patches.")


# ------------------------------------------------------------------------------------------------------------- answers


def answer(call: Call, asked: AttentionControls) -> dict[str, Any]:
    """Update the whole tab for the current controls."""
    return _answer(call, asked, asked)


def choose(call: Call, asked: AttentionControls) -> dict[str, Any]:
    """A row or column was typed: show the patch there."""
    return _answer(call, asked, replace(asked, kind=_of_a_patch(asked)))


def enlarge(call: Call, asked: AttentionControls) -> dict[str, Any]:
    """A small map was chosen: show it large."""
    many = call.encoder.config.num_attention_heads
    layer = whole(call.chosen("layer"), "layer", 1, call.encoder.config.num_hidden_layers)
    wanted = replace(asked, layer=layer, head=whole(call.chosen("head"), "head", 1, many))
    return _answer(call, asked, replace(wanted, kind="cls") if asked.kind in HEADLESS else wanted)


def point(call: Call, asked: AttentionControls, whole_picture: bool = False) -> dict[str, Any]:
    """A patch of the shown picture was clicked: show it."""
    size = _fitted(call, asked).input_size(call.encoder, call.picture)
    places = patch_grid.grid(call.encoder, size)
    row, column = patch_grid.clicked(call, places, size=size, whole_picture=whole_picture)
    return _answer(call, asked, replace(asked, kind=_of_a_patch(asked), row=row + 1, column=column + 1))


def point_in_whole(call: Call, asked: AttentionControls) -> dict[str, Any]:
    """The same for a click on the visitor's picture itself."""
    return point(call, asked, whole_picture=True)


def measure(call: Call, asked: AttentionControls) -> dict[str, Any]:
    """Measure every head's distance and entropy, however long it takes; then answer again."""
    size = _fitted(call, asked).input_size(call.encoder, call.picture)
    tokens = call.encoder.tokens(call.picture, size=size or None)
    head_statistics.measure(call, call.encoder, call.picture, tokens, at_any_cost=True)
    return _answer(call, asked, asked)


def receive(call: Call, path: str | None, asked: AttentionControls) -> dict[str, Any]:
    """Take the visitor's second picture, to compare with."""
    compare.keep(call, patch_grid.sent(path))
    return _answer(call, asked, replace(asked, beside="picture", other=compare.OWN))


def files(call: Call, asked: AttentionControls) -> Markup:
    """Files of what is shown."""
    ask = _fitted(call, asked)
    found = see(call.encoder, call.picture, ask)
    large = patch_grid.seen(call.encoder, call.picture, ask.input_size(call.encoder, call.picture), side=4096, least=0)
    return downloads.links(call, found, drawn(found, large), code(call, found))


def _of_a_patch(ask: AttentionControls) -> str:
    return ask.kind if ask.kind in OF_A_PATCH else "patch"


def _answer(call: Call, asked: AttentionControls, wanted: AttentionControls) -> dict[str, Any]:
    """The answer to the controls `wanted`; the page still shows the controls `asked`."""
    encoder, picture = call.encoder, call.picture
    ask = compare.another(call, _fitted(call, wanted))
    found = see(encoder, picture, ask)
    mass = whole(ask.keep, "keep", 5, 100) / 100
    choice(ask.order, "order", head_grid.ORDERS)
    photo = patch_grid.seen(encoder, picture, ask.input_size(encoder, picture))
    shown = drawn(found, photo)
    measured = head_statistics.measure(call, encoder, picture, found.tokens)
    if measured is None and ask.order == "distance":
        call.message = tr("How far heads look is not measured yet at this input size. Press Measure all heads below.")
    chosen = (ask.layer, max(ask.head, 0)) if ask.kind not in HEADLESS else (0, 0)
    far = None if measured is None else measured.distance
    return {
        "overlay": gr.update(value=shown, alt_text=found.alt),
        "legend": legend(found) + doubt(encoder, found),
        "sentence": html.sentence(sentence(found, mass)),
        "heads": head_grid.heads(found.maps, chosen, ask.layer, found.whom, ask.order, far, ask.palette),
        "film": layer_film.film(found, photo),
        "depth": head_statistics.plot(measured, chosen),
        "measure": gr.update(visible=measured is None),
        "compare": compare.compare(call, ask, found),
        "files": "",  # describes the map shown before
        "code": html.in_python(
            "from vitmsn import Encoder", "from vitmsn.look import look", call.python, *code(call, found)
        ),
        **_controls(call, asked, ask),
    }


def legend(found: Sight) -> Markup:
    """What the colors mean."""
    if found.colors is None:
        if found.ask.shape == "contour":
            share = found.ask.keep if found.ask.keep < 100 else 50
            if found.signed:
                above = tr("Inside the line: patches with a similarity above {least:.2g}.", least=sum(found.scale) / 2)
                return html.hint(above)
            return html.hint(tr("Inside the line: the fewest patches that hold {share} % of it.", share=share))
        return patch_grid.legend(found.scale, found.what, found.ask.palette, shares=not found.signed)
    assert found.explained is not None
    names = (tr("red"), tr("green"), tr("blue"))
    singles = [
        Image.fromarray(draw.color(found.colors[..., n], (0, 1), found.ask.palette)).resize(
            (96, max(1, round(96 * found.grid[0] / found.grid[1]))), Image.Resampling.NEAREST
        )
        for n in range(3)
    ]
    figures = Markup().join(
        Markup("<figure>{}<figcaption>{} ({}): {}</figcaption></figure>").format(
            html.img(one, tr("Component {number} alone", number=n + 1)), n + 1, name, html.share(float(share))
        )
        for n, (one, name, share) in enumerate(zip(singles, names, found.explained, strict=True))
    )
    said = tr(
        "Patches of the same color have similar tokens. Below: each component alone, and how much of the variation it "
        "explains."
    )
    return Markup('{}<div class="msn-components">{}</div>').format(html.hint(said), figures)


def doubt(encoder: Encoder, found: Sight) -> Markup:
    """Which class relevance explains, and whether the model is sure of it."""
    if found.ask.kind != "relevance" or found.ask.label or not encoder.has_classifier:
        return Markup()
    [result] = encoder.classify_embeddings(found.tokens.last_hidden_state[:, 0].numpy(), top_k=1)
    told = (
        tr("Answer: {label} ({share}). To explain another class, choose it under More.")
        if result.sure
        else tr("Not sure. Closest match: {label} ({share}). To explain another class, choose it under More.")
    )
    return html.hint(told.format(label=result.labels[0], share=html.percent(result.probabilities[0])))


def _fitted(call: Call, ask: AttentionControls, picture: Picture | None = None) -> AttentionControls:
    """The controls, limited to what this model and grid have. The last layer stays the last one with another model."""
    encoder, picture = call.encoder, picture or call.picture
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    layer, head = whole(ask.layer, "layer", 0, MOST_LAYERS), whole(ask.head, "head", -1, MOST_HEADS)
    before = call.visit.state(AttentionState).layers
    last = layer == 0 or layer > layers or (before is not None and before < layers and layer == before)
    some = [whole(number, "head", 1, MOST_HEADS) for number in ask.some or []]
    ask = replace(
        ask,
        layer=layers if last else layer,
        head=head if head <= many else 0,
        size=ask.size if ask.size in dict(sizes(encoder)).values() else 0,
        start=min(whole(ask.start, "start", 1, MOST_LAYERS), layers),
        some=sorted({number for number in some if number <= many}),
        label=ask.label if ask.label in encoder.labels else "",
    )
    rows, columns = patch_grid.grid(encoder, ask.input_size(encoder, picture))
    return replace(
        ask,
        row=min(whole(ask.row or 1, "Row", 1, 9999), rows),
        column=min(whole(ask.column or 1, "Column", 1, 9999), columns),
    )


def _controls(call: Call, asked: AttentionControls, ask: AttentionControls) -> dict[str, Any]:
    """Updates of the controls: ranges that changed, and values that differ from the page's."""
    encoder = call.encoder
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    rows, columns = patch_grid.grid(encoder, ask.input_size(encoder, call.picture))
    through, headless, shares = ask.kind in THROUGH, ask.kind in HEADLESS, ask.kind not in ("similar", "colors")
    ranges: dict[str, dict[str, Any]] = {
        "layer": {"maximum": max(layers, 2), "interactive": not through, "info": tr(LAYER).format(layers)},
        "head": {"choices": head_choices(many), "interactive": not headless, "info": tr(HEAD).format(many)},
        "keep": {"interactive": shares},
        "size": {"choices": sizes(encoder)},
        "start": {"maximum": max(layers, 2), "interactive": through},
        "row": {"label": tr("Row (1 to {rows})", rows=rows)},
        "column": {"label": tr("Column (1 to {columns})", columns=columns)},
        "some": {"choices": some_choices(many), "interactive": not headless},
        "label": {"choices": class_choices(encoder), "interactive": ask.kind == "relevance"},
        **compare.ranges(ask),
    }
    page = call.visit.on_page(AttentionOnPage)
    fresh = {name: changes for name, changes in ranges.items() if page.ranges.get(name) != changes}
    page.ranges, call.visit.state(AttentionState).layers = ranges, layers
    updates = changed(asked, ask, fresh)
    for name in fresh:  # together with its value, which the new range may exclude
        updates[name]["value"] = getattr(ask, name)
    return updates


def head_choices(many: int) -> list[tuple[str, int]]:
    return [
        (tr("mean of heads"), 0),
        (tr("largest of heads"), -1),
        *some_choices(many),
    ]


def some_choices(many: int) -> list[tuple[str, int]]:
    return [(tr("head {number}", number=head), head) for head in range(1, many + 1)]


def class_choices(encoder: Encoder) -> list[tuple[str, str]]:
    return [(tr("the model's answer"), ""), *((label, label) for label in sorted(encoder.labels, key=str.casefold))]


# ----------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    encoder = app.models.loaded(app.models.default) or Encoder.random(VARIANTS["tiny-8-64"])
    layers, many = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    with gr.Row(elem_classes=["msn-columns", "msn-bench"]):
        with gr.Column(elem_classes="msn-left"):
            picture = app.picture("attention")
            with gr.Column(elem_classes="msn-controls"):
                kind = gr.Radio(
                    [(tr(label), name) for name, label in KINDS.items()],
                    value="cls",
                    label=tr("What to show"),
                    info=tr(WHO),
                )
                with gr.Row():
                    layer = gr.Slider(
                        1, max(layers, 2), layers, step=1, label=tr("Layer"), info=tr(LAYER).format(layers)
                    )
                    head = gr.Dropdown(
                        head_choices(many), value=0, label=tr("Head"), info=tr(HEAD).format(many), filterable=False
                    )
                with gr.Row():
                    keep = gr.Slider(5, 100, 100, step=5, label=tr("Strongest patches only, %"), info=tr(KEEP))
                    size = gr.Radio(sizes(encoder), value=0, label=tr("Input size, px"), info=tr(SIZE))
                with gr.Accordion(tr("More"), open=False, elem_id="attention-more"):
                    with gr.Row():
                        row = gr.Number(1, label=tr("Row"), precision=0, info=tr(ROW))
                        column = gr.Number(1, label=tr("Column"), precision=0, info=tr("Counted from the left."))
                    label = gr.Dropdown(
                        class_choices(encoder),
                        value="",
                        label=tr("Class to explain"),
                        info=tr(CLASS),
                        interactive=False,
                    )
                    start = gr.Slider(
                        1, max(layers, 2), 1, step=1, label=tr("Back to layer"), info=tr(START), interactive=False
                    )
                    some = gr.Dropdown(
                        some_choices(many), value=[], multiselect=True, label=tr("Only these heads"), info=tr(SOME)
                    )
                    shape = gr.Radio(
                        [(tr(words), name) for name, words in SHAPES.items()], value="overlay", label=tr("Draw as")
                    )
                    strength = gr.Slider(0, 100, 50, step=5, label=tr("Overlay strength, %"))
                    palette = gr.Radio(list(draw.PALETTES), value="magma", label=tr("Colors"), info=tr(PALETTE))
                    aspect = gr.Checkbox(False, label=tr("Keep the picture's proportions"), info=tr(ASPECT))
        with gr.Column(elem_classes="msn-right"):
            shown = app.shown(tr("Where the model looks"), height=348, elem_id="attention-map", elem_classes="msn-map")
            scale = gr.HTML()
            said = gr.HTML()
            with gr.Column(elem_classes="msn-late"):
                gr.HTML(tr_html('<h3 class="msn-part">All layers and heads</h3>'))
                order = gr.Radio(
                    [(tr(words), name) for name, words in head_grid.ORDERS.items()],
                    value="layer",
                    label=tr("Sort heads by"),
                    info=tr(head_grid.ORDER),
                    elem_classes="msn-pills",
                )
                maps = gr.HTML(js_on_load=head_grid.SCRIPT)
    with gr.Accordion(tr("Film of layers"), open=False, elem_id="attention-film-fold"):
        gr.HTML(html.hint(tr(layer_film.WHAT)))
        frames = gr.HTML(js_on_load=layer_film.SCRIPT, elem_id="attention-film")
    with gr.Accordion(tr("Live camera"), open=False, elem_id="attention-camera-fold"):
        gr.HTML(html.hint(tr(camera.WHAT)))
        live = gr.Row(elem_classes="msn-live-row")
    with gr.Accordion(tr("All heads, layer by layer"), open=False, elem_id="attention-depth-fold"):
        plotted = gr.HTML()
        ask = gr.Button(tr("Measure all heads"), visible=False, elem_classes="msn-quiet-button")
    with gr.Accordion(tr("Compare"), open=False, elem_id="attention-compare-fold"):
        beside, upload = compare.controls()
        both = gr.HTML(elem_id="attention-compare")
    with gr.Accordion(tr("Download the map"), open=False, elem_id="attention-download-fold"):
        gr.HTML(html.hint(tr(downloads.WHAT)))
        taken = gr.Button(tr("Prepare the files"), elem_classes="msn-quiet-button")
        links = gr.HTML(elem_id="attention-files")
    code_ = gr.HTML()
    controls = bind(
        AttentionControls,
        kind=kind,
        layer=layer,
        head=head,
        keep=keep,
        size=size,
        strength=strength,
        start=start,
        row=row,
        column=column,
        label=label,
        palette=palette,
        shape=shape,
        **{"aspect": aspect, "some": some, "order": order, **beside},
    )
    outputs = {
        "overlay": shown,
        "legend": scale,
        "sentence": said,
        "heads": maps,
        "film": frames,
        "depth": plotted,
        "measure": ask,
        "compare": both,
        "files": links,
        "code": code_,
        **controls,
    }
    notice = app.panels["attention"].notice
    typed = ("row", "column")
    again = [getattr(each, "input") for name, each in controls.items() if name not in typed]  # noqa: B009
    judged: dict[str, Any] = {"costly": lambda asked: asked.costly}
    app.answer("attention", answer, [controls], outputs, again=again, **judged)
    app.on([row.input, column.input], choose, [controls], outputs, notice=notice, **judged)
    app.on(maps.click, enlarge, [controls], outputs, notice=notice, **judged)
    app.on(shown.select, point, [controls], outputs, notice=notice, **judged)
    app.on(picture.select, point_in_whole, [controls], outputs, notice=notice, **judged)
    app.on(ask.click, measure, [controls], outputs, notice=notice, long=True, show_progress="full")
    app.reveal(app.on(upload.upload, receive, [upload, controls], outputs, notice=notice), "attention-compare")
    app.reveal(app.on(taken.click, files, [controls], [links], notice=notice, **COSTLY), "attention-files")
    with live:
        camera.build(app, controls, _fitted)
    _links(app, controls, encoder)
    endpoint.build(app)


def _links(app: App, controls: Controls[AttentionControls], encoder: Encoder) -> None:
    """Keep every control in the address. Values from a link are checked again against the model."""
    app.link("kind", controls["kind"], lambda text: linked_choice(text, KINDS))
    app.link("layer", controls["layer"], lambda text: _widened(text, 1, MOST_LAYERS, maximum=MOST_LAYERS))
    app.link("head", controls["head"], lambda text: _widened(text, -1, MOST_HEADS, choices=head_choices(MOST_HEADS)))
    app.link("keep", controls["keep"], lambda text: linked_whole(text, 5, 100))
    app.link("size", controls["size"], lambda text: linked_whole(text, 0, 4096))
    app.link("strength", controls["strength"], lambda text: linked_whole(text, 0, 100))
    app.link("start", controls["start"], lambda text: _widened(text, 1, MOST_LAYERS, maximum=MOST_LAYERS))
    app.link("row", controls["row"], lambda text: linked_whole(text, 1, 9999))
    app.link("column", controls["column"], lambda text: linked_whole(text, 1, 9999))
    app.link("class", controls["label"], lambda text: linked_choice(text, ["", *encoder.labels]))
    app.link("palette", controls["palette"], lambda text: linked_choice(text, draw.PALETTES))
    app.link("drawn", controls["shape"], lambda text: linked_choice(text, SHAPES))
    app.link("proportions", controls["aspect"], lambda text: linked_choice(text, ("true", "false")) == "true")
    app.link("heads", controls["some"], _heads)
    app.link("order", controls["order"], lambda text: linked_choice(text, head_grid.ORDERS))
    app.link("beside", controls["beside"], lambda text: linked_choice(text, compare.BESIDE))
    app.link("other", controls["other"], compare.linked)
    app.link("other_hidden", controls["ratio"], lambda text: linked_whole(text, 0, compare.MOST_RATIO))
    app.link("other_seed", controls["seed"], lambda text: linked_whole(text, 0, compare.MOST_SEED))


def _widened(text: str, low: int, most: int, **ranges: Any) -> Any:
    """A number from a link; the control's range is widened to hold it until the model is known."""
    return gr.update(value=linked_whole(text, low, most), **ranges)


def _heads(text: str) -> Any:
    return gr.update(value=linked_list(text, 1, MOST_HEADS), choices=some_choices(MOST_HEADS))
