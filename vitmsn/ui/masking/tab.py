"""Masking: hide patches, and see how the embedding, the answer and the time change."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import gradio as gr
import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import draw, limits, masking, robustness
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.robustness import Comparison
from vitmsn.timing import timings
from vitmsn.ui.app import SKIP, App
from vitmsn.ui.locale import later, tr, tr_html, tr_number
from vitmsn.ui.masking import before_after, gallery_sections, similarity
from vitmsn.ui.masking.controls import FIRST_SEED, KINDS, MOST_RATIO, MOST_SEED, MaskingControls, kept_grid, series
from vitmsn.ui.masking.controls import draw as draw_mask
from vitmsn.ui.masking.gallery_sections import GallerySections
from vitmsn.ui.masking.sections import Sections, results
from vitmsn.ui.masking.state import MaskingState
from vitmsn.ui.shared import html, patch_grid, scripts
from vitmsn.ui.shared.checks import linked_choice, linked_whole, real, whole
from vitmsn.ui.shared.controls import bind, changed
from vitmsn.ui.shared.endpoints import Parameter, PictureFile
from vitmsn.ui.shared.html import milliseconds
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.visits import Call

SHOWN = 5  # classes compared
PAINTING = script(scripts.__file__, "grid_keys.js") + script(__file__, "stroke.js", "paint.js", "patch_cursor.js")

KIND = later(
    "Random: single patches. Focal: all but one rectangle. Block: rectangles. Painted: drag over the masked picture to "
    "hide or show patches; by keyboard, arrow keys and Space."
)
RATIO = later("The share of patches hidden.")
SEED = later("Same number, same mask.")
PAINT = later("By row and column: 2.3 is one patch, 4.1-5.8 a rectangle.")


# ------------------------------------------------------------------------------------------------------------- masking


def compare(encoder: Encoder, picture: Picture, kept: np.ndarray, timed: bool = False) -> Comparison:
    """The full view and the view that keeps `kept` (rows, columns) bool."""
    return robustness.compare(encoder, picture, np.flatnonzero(kept), top_k=SHOWN, timed=timed)


# ------------------------------------------------------------------------------------------------------------ sentences


def sentence(encoder: Encoder, found: Comparison, taken: tuple[float, float] | None) -> str:
    """What hiding patches changed, in words with numbers; `taken`: milliseconds of the full and the masked picture,
    None where they could not be measured."""
    if found.kept.all():
        return tr("Nothing is hidden. Click patches of the picture, or drag over them, to hide them.")
    similar = html.similar(found.similarity if found.centered is None else found.centered)
    change, values = "", {"count": found.count, "total": found.total, "similar": similar}
    if encoder.has_classifier:
        before, after = encoder.classify_embeddings(np.concatenate([found.full, found.masked]), top_k=1)
        if before.labels == after.labels:
            values["unrelated"] = tr("; unrelated pictures: 0") if found.centered is not None else ""
            still = (
                tr("With {count} of {total} patches left it still says {label} (similarity {similar}{unrelated}).")
                if after.sure
                else tr(
                    "With {count} of {total} patches left the closest match is still {label}, not sure "
                    "(similarity {similar}{unrelated})."
                )
            )
            return still.format(label=after.labels[0], **values) + faster(taken)
        change = {
            (True, True): tr(" Answer: {before} → {after}."),
            (True, False): tr(" Closest match: {before} → {after}, now unsure."),
            (False, True): tr(" Closest match: {before} → {after}, at first unsure."),
            (False, False): tr(" Closest match: {before} → {after}, both unsure."),
        }[before.sure, after.sure].format(before=before.labels[0], after=after.labels[0])
    left = (
        tr("With {count} of {total} patches left, similarity is {similar}.")
        if found.centered is None
        else tr("With {count} of {total} patches left, similarity is {similar} (unrelated pictures: 0).")
    )
    return left.format(**values) + change + faster(taken)


def faster(taken: tuple[float, float] | None) -> str:
    """How much faster the masked picture was, in a sentence; nothing where the difference is within the noise."""
    if taken is None:
        return ""
    full, masked = taken
    return tr(" {times:.1f}\xa0× faster.", times=full / masked) if full / masked >= 1.05 else ""


def _in_words(kind: str) -> str:
    """A kind of mask inside a sentence."""
    return tr(KINDS[kind]).lower()


def pairs(encoder: Encoder, found: Comparison, name: str) -> Markup:
    """The most probable classes of the full picture, with their bars before and after."""
    if not encoder.has_classifier:
        return html.hint(
            tr("{name} has no classifier, so there is no answer to compare, only the similarity.", name=name)
        )
    before, after = encoder.class_probabilities(np.concatenate([found.full, found.masked]))
    order = [int(index) for index in np.argsort(-before, kind="stable")[:SHOWN]]
    if (first := int(after.argmax())) not in order:
        order.append(first)
    rows = Markup().join(
        before_after.pair(encoder.labels[index], float(before[index]), float(after[index])) for index in order
    )
    return tr_html(
        '<section class="msn-pairs"><p class="msn-hint"><i class="msn-before"></i> full picture '
        '<i class="msn-after"></i> masked picture</p><ol>{}</ol></section>'
    ).format(rows)


# ------------------------------------------------------------------------------------------------------------- answers


def answer(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """Update the whole tab for the current controls."""
    return _answer(call, asked, asked)


def choose(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """A kind was chosen; a painted mask starts from the mask that was there."""
    wanted = asked
    drawn = call.visit.state(MaskingState).drawn
    if asked.kind == "painted" and not asked.paint.strip() and drawn is not None:
        wanted = replace(asked, paint=masking.write_painted(~kept_grid(drawn, call.encoder.grid())))
    return _answer(call, asked, wanted)


def again(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """Draw a new mask: the next seed."""
    seed = whole(asked.seed or 0, "seed", 0, MOST_SEED)
    return _answer(call, asked, replace(asked, seed=(seed + 1) % (MOST_SEED + 1)))


def toggle(call: Call, asked: MaskingControls, whole_picture: bool = False) -> dict[str, Any]:
    """A patch was clicked: hide it, or show it again. The mask becomes a painted one."""
    grid = call.encoder.grid()
    hidden = ~kept_grid(asked, grid) if asked.kind != "painted" else masking.read_painted(asked.paint, grid)
    hidden[patch_grid.clicked(call, grid, whole_picture=whole_picture)] ^= True
    return _answer(call, asked, replace(asked, kind="painted", paint=masking.write_painted(hidden)))


def toggle_in_whole(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """The same for a click on the visitor's picture itself."""
    return toggle(call, asked, whole_picture=True)


def take(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """A mask of the filmstrip was chosen: take its seed."""
    seed = whole(call.chosen("seed"), "seed", 0, MOST_SEED)
    return _answer(call, asked, replace(asked, kind=series(asked.kind), seed=seed))


def stroke(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """One stroke over several patches: hide them all, or show them all if the first was hidden."""
    grid = call.encoder.grid()
    hidden = ~kept_grid(asked, grid) if asked.kind != "painted" else masking.read_painted(asked.paint, grid)
    cells = call.chosen("cells")
    if not isinstance(cells, list) or not 0 < len(cells) <= hidden.size:
        raise InputError(tr("That stroke carried no patches; paint over the picture again."))
    places = [_cell(cell, grid) for cell in cells]
    value = not hidden[places[0]]
    for place in places:
        hidden[place] = value
    return _answer(call, asked, replace(asked, kind="painted", paint=masking.write_painted(hidden)))


def _cell(cell: Any, grid: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(cell, list) or len(cell) != 2:
        raise InputError(tr("That stroke carried no patches; paint over the picture again."))
    return whole(cell[0], "row", 0, grid[0] - 1), whole(cell[1], "column", 0, grid[1] - 1)


def leave(call: Call, asked: MaskingControls) -> Any:
    """The text field of a painted mask lost the focus. A click on the picture also takes the focus and gives its own
    answer, so this one answers only if the text is new."""
    return SKIP if call.visit.state(MaskingState).answered == _state(call, asked) else answer(call, asked)


def _state(call: Call, ask: MaskingControls) -> tuple[object, ...]:
    return call.visit.model, call.visit.picture.digest if call.visit.picture else "", ask


def invert(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """Hide what is shown, show what is hidden."""
    hidden = masking.read_painted(asked.paint, call.encoder.grid())
    return _answer(call, asked, replace(asked, paint=masking.write_painted(~hidden)))


def clear(call: Call, asked: MaskingControls) -> dict[str, Any]:
    """Show every patch."""
    return _answer(call, asked, replace(asked, paint=""))


def _answer(call: Call, asked: MaskingControls, ask: MaskingControls) -> dict[str, Any]:
    """The answer to the controls `ask`; the page still shows the controls `asked`."""
    encoder, picture = call.encoder, call.picture
    ask = replace(ask, seed=0 if ask.seed is None else ask.seed, paint=ask.paint or "")
    patches, kept = kept_grid(ask, encoder.grid()), call.visit.state(MaskingState)
    cost = kept.times.full(encoder, picture, patches)
    points, centered = similarity.measure(
        encoder, picture, lambda ratio, seed: draw_mask(encoder, ask.kind, ratio, seed), cost
    )
    elsewhere = similarity.others(encoder, picture, cost)
    with timings() as forwards:  # last, so that the status line is about this view
        found = compare(encoder, picture, patches)
    taken = kept.times.both(encoder, picture, found.kept, forwards)
    hidden = 100 * (1 - found.count / found.total)
    shown = draw.masked_picture(patch_grid.seen(encoder, picture), found.kept)
    opened = "Encoder, masking" if found.centered is None else "Encoder, masking, robustness"
    worth = similarity.worth(call.name, elsewhere, found.centered is not None)
    kept.answered = _state(call, ask)
    if ask.kind != "painted":
        kept.drawn = ask
    return {
        "view": gr.update(
            value=shown,
            alt_text=tr(
                "{kind} mask: {count} of {total} patches are left",
                kind=tr(KINDS[ask.kind]),
                count=found.count,
                total=found.total,
            ),
        ),
        "sentence": html.sentence(sentence(encoder, found, taken)),
        "figures": figures(found, taken) + html.hint(worth),
        "bars": pairs(encoder, found, call.name),
        "chart": similarity.chart(
            points,
            (hidden, found.similarity),
            _in_words(series(ask.kind)),
            elsewhere,
            None if centered is None or found.centered is None else (centered, found.centered),
        ),
        "code": html.in_python("import torch", f"from vitmsn import {opened}", call.python, *_code(call, ask, found)),
        "prototypes": before_after.prototypes(encoder, found.full, found.masked, call.name),
        "attention": before_after.attention(encoder, picture, found.kept),
        "brush": Markup('<span data-rows="{}" data-columns="{}" data-hidden="{}"></span>').format(
            *found.kept.shape, "".join("01"[int(hidden)] for hidden in ~found.kept.ravel())
        ),
        **gallery_sections.shown(call, ask, found, shown),
        **results(call, ask),
        **_controls(asked, ask),
    }


def figures(found: Comparison, taken: tuple[float, float] | None) -> Markup:
    """The main numbers, in large type; without the time where it could not be measured."""
    rows = [
        (
            html.similar(found.similarity if found.centered is None else found.centered),
            tr("similarity to the full picture"),
        ),
        (tr("{count} of {total}", count=found.count, total=found.total), tr("patches left")),
    ]
    if taken is not None and not found.kept.all():
        full, masked = taken
        speed = tr(
            "as fast: {masked} instead of {full}, medians so far", masked=milliseconds(masked), full=milliseconds(full)
        )
        rows.append((tr_number(f"{full / masked:.1f} ×"), speed))
    return (
        Markup('<dl class="msn-figures">')
        + Markup().join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(what, value) for value, what in rows)
        + Markup("</dl>")
    )


def _controls(asked: MaskingControls, ask: MaskingControls) -> dict[str, Any]:
    """Updates of the controls and their buttons: only those of this kind of mask are visible."""
    painted = ask.kind == "painted"
    fresh = {"ratio": {"visible": not painted}, "seed": {"visible": not painted}, "paint": {"visible": painted}}
    buttons = {"again": not painted, "invert": painted, "clear": painted}
    return {
        **changed(asked, ask, fresh),
        **{name: gr.update(visible=visible) for name, visible in buttons.items()},
    }


def _code(call: Call, ask: MaskingControls, found: Comparison) -> list[str]:
    name = patch_grid.file_name(call)
    grid = found.kept.shape
    if ask.kind == "painted":
        mask = f"masking.painted_mask(masking.read_painted({ask.paint!r}, {grid}))"
    else:
        drawn = f"{grid}, {ask.ratio / 100:g}, torch.Generator().manual_seed({ask.seed})"
        mask = f"masking.{masking.MASKS[ask.kind].__name__}({drawn})"
    return [
        f"keep = {mask}",
        f"full, masked = encoder.embed({name!r}), encoder.embed({name!r}, keep_indices=keep)",
        "print(torch.cosine_similarity(torch.from_numpy(full), torch.from_numpy(masked)))",
        *(() if found.centered is None else ["print(robustness.centered(encoder, full, masked))"]),
    ]


# ------------------------------------------------------------------------------------------------------------ endpoint


def mask(
    call: Call,
    image: PictureFile,
    kind: Annotated[str, Parameter("Kind of mask", choices=KINDS)] = "random",
    ratio: Annotated[float, Parameter("Mask ratio", 0, MOST_RATIO / 100)] = 0.7,
    seed: Annotated[int, Parameter("Seed", 0, MOST_SEED)] = 0,
    hidden: Annotated[str, Parameter("Hidden patches")] = "",
) -> tuple[Image.Image, dict[str, Any]]:
    """Hide patches of a picture from the model, and compare its embedding, its answer and the time.

    Args:
        image: the picture.
        kind: "random" draws single patches, "focal" keeps one rectangle, "block" hides rectangles, "painted" hides the
            patches in `hidden`.
        ratio: the share of patches hidden; not with "painted".
        seed: the same seed gives the same mask.
        hidden: the patches that "painted" hides, by row and column from 1: 2.3 is one patch, 4.1-5.8 a rectangle, with
            commas between.

    Returns:
        Masked picture: the picture without the hidden patches.
        Answer: the patches `kept` of their `total`; `similarity`, the cosine similarity of the embedding to that of the
            full view, to be compared with `similarity_others`, what other pictures have on average, and
            `similarity_centered`, the same without the mean of all embeddings, with 0 (both null where the model
            carries no mean); `milliseconds_full` and `milliseconds_masked` on this machine; `top_before` and
            `top_after`, the most probable classes (null without a classifier); `cross_entropy` of the masked view's
            prototypes against the full view's sharpened ones, in nats, with its least and its even value, and the
            `prototypes` that matter (all null where the model has none).
    """
    encoder, picture = call.encoder, patch_grid.sent(image)
    ratio = real(ratio, "ratio", 0, MOST_RATIO / 100)
    ask = MaskingControls(kind, round(100 * ratio, 9), seed, hidden)
    found = compare(encoder, picture, kept_grid(ask, encoder.grid()), timed=True)
    return draw.masked_picture(patch_grid.seen(encoder, picture, least=0), found.kept), found.to_dict()


# ----------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    with gr.Row(elem_classes=["msn-columns", "msn-bench"]):
        with gr.Column(elem_classes="msn-left"):
            picture = app.picture("masking")
            with gr.Column(elem_classes="msn-controls"):
                kind = gr.Radio(
                    [(tr(label), name) for name, label in KINDS.items()],
                    value="random",
                    label=tr("Mask"),
                    info=tr(KIND),
                    elem_id="mask-kind",
                )
                with gr.Row():
                    ratio = gr.Slider(0, MOST_RATIO, 70, step=5, label=tr("Mask ratio, %"), info=tr(RATIO))
                    seed = gr.Number(FIRST_SEED, label=tr("Seed"), precision=0, info=tr(SEED))
                more = gr.Button(tr("New mask"), elem_classes="msn-quiet-button")
                paint = gr.Textbox("", label=tr("Hidden patches"), info=tr(PAINT), visible=False, submit_btn=False)
                with gr.Row():
                    opposite = gr.Button(tr("Invert"), elem_classes="msn-quiet-button", visible=False)
                    nothing = gr.Button(tr("Show all"), elem_classes="msn-quiet-button", visible=False)
            drawn = gr.HTML(elem_classes="msn-late")
        with gr.Column(elem_classes="msn-right"):
            shown = app.shown(tr("What the model sees"), height=348, elem_id="masked-view", elem_classes="msn-map")
            said = gr.HTML()
            numbers = gr.HTML()
            bars = gr.HTML()
    near = GallerySections()
    with gr.Row(elem_classes=["msn-columns", "msn-late"]):
        loss = gr.HTML(elem_id="masking-prototypes")
        looks = gr.HTML(elem_id="masking-attention")
    controls = bind(MaskingControls, kind=kind, ratio=ratio, seed=seed, paint=paint)
    longer = Sections()
    code = gr.HTML()
    brush = gr.HTML(js_on_load=PAINTING, elem_classes="msn-brush")
    outputs = {
        "view": shown,
        "sentence": said,
        "figures": numbers,
        "bars": bars,
        "chart": drawn,
        "code": code,
        "prototypes": loss,
        "attention": looks,
        "brush": brush,
        **near.outputs,
        **longer.results,
        **controls,
        "again": more,
        "invert": opposite,
        "clear": nothing,
    }
    again_on = [ratio.input, seed.input, paint.submit]
    app.answer("masking", answer, [controls], outputs, again=again_on, stays=(brush, near.one, longer.batch))
    notice = app.panels["masking"].notice
    for event, fn in (
        (kind.input, choose),
        (more.click, again),
        (paint.blur, leave),
        (opposite.click, invert),
        (nothing.click, clear),
        (shown.select, toggle),
        (picture.select, toggle_in_whole),
        (brush.click, stroke),
    ):
        app.on(event, fn, [controls], outputs, notice=notice)
    near.connect(app, controls, outputs, _answer)
    app.reveal(app.on(longer.film.click, take, [controls], outputs, notice=notice), "masked-view")
    longer.connect(app, controls, notice)
    app.link("mask", kind, lambda text: linked_choice(text, KINDS))
    app.link("hidden", ratio, lambda text: linked_whole(text, 0, MOST_RATIO))
    app.link("seed", seed, lambda text: linked_whole(text, 0, MOST_SEED))
    app.link("paint", paint, _painted)
    app.endpoint("mask", mask)


def _painted(text: str) -> str:
    """Hidden patches from a link; whether they fit the grid is checked later against the model."""
    if len(text) > limits.MAX_PAINT_LENGTH or set(text) - set("0123456789.,- "):
        raise ValueError(text[:40])
    return text
