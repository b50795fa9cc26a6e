"""Two maps side by side on one color scale: another picture, an untrained model, or a masked picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
import torch
from gradio.components import Component
from markupsafe import Markup

from vitmsn import attention, draw, limits, masking
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, ViTMSNError
from vitmsn.image import Picture, decode
from vitmsn.look import OF_A_PATCH
from vitmsn.ui.attention.map_view import AttentionControls, Sight, brightest, see
from vitmsn.ui.attention.state import AttentionState
from vitmsn.ui.locale import later, tr, tr_said
from vitmsn.ui.models import RANDOM
from vitmsn.ui.shared import examples, html, patch_grid
from vitmsn.ui.shared.checks import choice, linked_choice, whole
from vitmsn.ui.shared.photo import UploadButton
from vitmsn.ui.visits import Call

BESIDE = {
    "": later("Nothing"),
    "random": later("Random weights"),
    "picture": later("Another picture"),
    "masked": later("This picture, masked"),
    "masks": later("Two masks"),
}
OWN = "own"
SIDE = 480  # pixels of the longer side of each
MOST_RATIO = 95  # percent
MOST_SEED = 2**31 - 2  # comparing two masks: the second one uses the next seed


def names() -> list[str]:
    return [example.name for example in examples.photographs()]


def controls() -> tuple[dict[str, Component], gr.UploadButton]:
    """The last four controls of the tab by name, and a button for a second picture."""
    beside = gr.Radio(
        [(tr(words), name) for name, words in BESIDE.items()],
        value="",
        label=tr("Compare with"),
        info=tr("Same settings, one color scale for both."),
        elem_classes="msn-pills",
    )
    with gr.Row():
        other = gr.Dropdown(
            _choices(own=False), value="coffee", label=tr("The other picture"), visible=False, filterable=False
        )
        ratio = gr.Slider(0, MOST_RATIO, 70, step=5, label=tr("Mask ratio, %"), visible=False)
        seed = gr.Number(0, label=tr("Seed"), precision=0, visible=False)
    upload = UploadButton(tr("Upload another picture"), elem_classes="msn-quiet-button")
    return {"beside": beside, "other": other, "ratio": ratio, "seed": seed}, upload


def ranges(ask: AttentionControls) -> dict[str, dict[str, Any]]:
    """Which of the controls are visible, and what they offer."""
    masks = {"visible": ask.beside in ("masked", "masks")}
    other = {"visible": ask.beside == "picture", "choices": _choices(own=ask.other == OWN)}
    return {"other": other, "ratio": masks, "seed": masks}


def another(call: Call, ask: AttentionControls) -> AttentionControls:
    """The controls with another example where the chosen one is the picture that is shown."""
    if ask.beside != "picture" or ask.other != call.visit.example:
        return ask
    return replace(ask, other=next((name for name in names() if name != ask.other), ask.other))


def _choices(own: bool) -> list[tuple[str, str]]:
    choices = [(tr(example.title), example.name) for example in examples.photographs()]
    return [(tr("The picture you uploaded"), OWN), *choices] if own else choices


def linked(text: str) -> Any:
    """The other picture of a link, among the choices that hold it."""
    name = linked_choice(text, [OWN, *names()])
    return gr.update(value=name, choices=_choices(own=name == OWN))


def keep(call: Call, picture: Picture) -> None:
    """Remember the visitor's second picture, small."""
    if max(picture.rgb.size) > limits.SHOWN_SIDE:
        reduced = picture.rgb.copy()
        reduced.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
        picture = decode(reduced, name=picture.name)
    call.visit.state(AttentionState).other = picture


def compare(call: Call, ask: AttentionControls, found: Sight) -> Markup:
    """Two figures on one scale and their overlap, as HTML; empty when no comparison was chosen.

    Where no comparison is possible, the reason is shown instead. The answer above stays.
    """
    if not ask.beside:
        return Markup()
    choice(ask.beside, "beside", BESIDE)
    try:
        sides = _sides(call, ask, found)
    except ViTMSNError as error:
        return html.notice(tr_said(str(error)))
    if found.colors is not None:
        figures = [
            (name, draw.tinted(patch_grid.seen(encoder, picture, side=SIDE), sight.colors, ask.strength / 100), sight)
            for name, encoder, picture, sight in sides
            if sight.colors is not None
        ]
        said = html.hint(tr("Each picture has its own colors: compare regions, not hues."))
    else:
        ends = [sight.scale for *_, sight in sides]
        scale = min(low for low, _ in ends), max(high for _, high in ends)
        figures = [(name, _drawn(encoder, picture, sight, scale), sight) for name, encoder, picture, sight in sides]
        said = patch_grid.legend(scale, found.what, ask.palette, shares=not found.signed)
    body = Markup().join(
        Markup("<figure>{}<figcaption><b>{}</b> {}</figcaption></figure>").format(
            html.img(shown, f"{name}: {sight.alt}"), html.text(_upper(name), 60), html.text(_half(sight))
        )
        for name, shown, sight in figures
    )
    return Markup('<section class="msn-beside"><div>{}</div>{}{}</section>').format(
        body, said, html.sentence(common(sides))
    )


def _sides(call: Call, ask: AttentionControls, found: Sight) -> list[tuple[str, Encoder, Picture, Sight]]:
    encoder, picture = call.encoder, call.picture
    here = (tr("this picture") if ask.beside == "picture" else tr("this model"), encoder, picture, found)
    if ask.beside == "random":
        other = call.models.get(RANDOM)
        layers, many = other.config.num_hidden_layers, other.config.num_attention_heads
        wanted = replace(ask, layer=min(ask.layer, layers), head=min(ask.head, many), start=min(ask.start, layers))
        wanted = replace(wanted, some=[number for number in ask.some if number <= many], label="")
        if patch_grid.grid(other, wanted.input_size(other, picture)) != found.grid:
            raise InputError(
                tr("Random weights have another patch grid here; choose another input size or the embedded model.")
            )
        return [here, (tr("random weights"), other, picture, see(other, picture, wanted))]
    if ask.beside == "picture":
        second = _picture(call, ask.other)
        return [here, (tr("the other picture"), encoder, second, _at_most(encoder, second, ask))]
    seed = whole(ask.seed or 0, "seed", 0, MOST_SEED)
    share = whole(ask.ratio, "mask ratio", 0, MOST_RATIO) / 100
    first, second_mask = (_masked(encoder, picture, ask, found, share, seed + step) for step in (0, 1))
    names = [tr("{ratio} % hidden, seed {seed}", ratio=ask.ratio, seed=seed + step) for step in (0, 1)]
    if ask.beside == "masked":
        return [(tr("all patches"), encoder, picture, found), (names[0], *first)]
    return [(names[0], *first), (names[1], *second_mask)]


def _picture(call: Call, name: str) -> Picture:
    if name == OWN:
        kept = call.visit.state(AttentionState).other
        if kept is None:
            raise InputError(tr("Your second picture is no longer here; upload it again, or choose an example."))
        return kept
    return examples.by_name(str(name)).picture


def _at_most(encoder: Encoder, picture: Picture, ask: AttentionControls) -> Sight:
    """The same map of another picture. Its grid may differ where proportions are kept."""
    rows, columns = patch_grid.grid(encoder, ask.input_size(encoder, picture))
    return see(encoder, picture, replace(ask, row=min(ask.row, rows), column=min(ask.column, columns)))


def _masked(
    encoder: Encoder, picture: Picture, ask: AttentionControls, found: Sight, share: float, seed: int
) -> tuple[Encoder, Picture, Sight]:
    generator = torch.Generator().manual_seed(seed)
    kept = masking.random_mask(found.grid, share, generator)
    if ask.kind in OF_A_PATCH:  # the chosen patch must stay
        patch = (ask.row - 1) * found.grid[1] + ask.column - 1
        if patch not in kept[0].tolist():
            kept = torch.cat([kept[:, 1:], torch.tensor([[patch]])], dim=1).sort(dim=1).values
    return encoder, picture, see(encoder, picture, ask, kept)


def _drawn(encoder: Encoder, picture: Picture, sight: Sight, scale: draw.Scale) -> Any:
    ask = sight.ask
    photo = patch_grid.seen(encoder, picture, ask.input_size(encoder, picture), side=SIDE)
    kept = ~np.isnan(sight.values)
    if ask.keep < 100 and not sight.signed:
        kept &= brightest(sight.values, ask.keep / 100)
    shown = draw.overlay(photo, sight.values, ask.strength / 100, scale, kept, ask.palette)
    if ask.kind in OF_A_PATCH:
        shown = draw.highlight(shown, ask.row - 1, ask.column - 1, sight.grid)
    return shown


def _half(sight: Sight) -> str:
    if sight.signed:
        return ""
    seen = int((~np.isnan(sight.values)).sum())
    return tr(
        "half of it falls on {brightest} of {seen} patches",
        brightest=int(brightest(sight.values, 0.5).sum()),
        seen=seen,
    )


def common(sides: list[tuple[str, Encoder, Picture, Sight]]) -> str:
    """How much two maps overlap, in one sentence. Only patches visible in both count."""
    (*_, left), (*_, right) = sides
    if left.ask.kind == "colors" or left.grid != right.grid:
        return ""
    a, b = left.values.ravel(), right.values.ravel()
    both = ~np.isnan(a) & ~np.isnan(b)
    seen = "" if both.all() else tr(", over the {both} patches that both see", both=int(both.sum()))
    if both.sum() < 2:
        return tr("Fewer than two patches are visible in both, too few to compare.")
    if left.signed:
        return tr(
            "The two maps differ by {apart:.2f} per patch on average{seen}.",
            apart=float(np.abs(a[both] - b[both]).mean()),
            seen=seen,
        )
    shared = attention.overlap(torch.from_numpy(a[both]), torch.from_numpy(b[both]))
    overlap = {
        "relevance": tr("The two relevance maps overlap by {shared}{seen}."),
        "rollout": tr("The two rollout maps overlap by {shared}{seen}."),
    }.get(left.ask.kind, tr("The two attention maps overlap by {shared}{seen}."))
    return overlap.format(shared=html.percent(float(shared), whole=True), seen=seen)


def _upper(name: str) -> str:
    return name[:1].upper() + name[1:]
