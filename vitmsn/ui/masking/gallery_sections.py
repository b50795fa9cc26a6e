"""The Masking tab's sections that compare with the gallery: nearest pictures, and the prototype wall."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.blocks import Block
from markupsafe import Markup
from PIL import Image

from vitmsn.errors import InputError
from vitmsn.robustness import Comparison
from vitmsn.ui.app import App
from vitmsn.ui.locale import later, tr, tr_number
from vitmsn.ui.masking import nearest_pictures, prototype_wall
from vitmsn.ui.masking.controls import MaskingControls, series
from vitmsn.ui.masking.state import MaskingState
from vitmsn.ui.shared import html, patch_grid, picture_gallery
from vitmsn.ui.shared.checks import choice
from vitmsn.ui.shared.controls import Controls
from vitmsn.ui.visits import Call

HIDE = {"0": later("Nothing"), "30": "30 %", "50": "50 %", "70": "70 %", "90": "90 %"}  # percent of the patches

Answer = Callable[[Call, MaskingControls, MaskingControls], dict[str, Any]]


def shown(call: Call, ask: MaskingControls, found: Comparison, masked_picture: Image.Image) -> dict[str, Any]:
    """Updates of both sections for a comparison; the wall only once it was opened."""
    encoder = call.encoder
    index = picture_gallery.index(encoder, lambda done, total: call.progress(done, total, later("gallery pictures")))
    share = f"{ask.ratio:g}"
    hidden = 1 - found.count / found.total
    views = found.full, found.masked
    pictures = patch_grid.seen(encoder, call.picture), masked_picture
    updates: dict[str, Any] = {
        "nearest": nearest_pictures.section(index, pictures, views, hidden, call.name),
        "hide": gr.update(value=share if ask.kind != "painted" and share in HIDE else None),
    }
    if call.visit.state(MaskingState).wall:
        made = prototype_wall.wall(encoder, index, views, masked_picture, hidden, call.name)
        updates["wall"] = made + (_code(call) if index is not None and encoder.has_msn_head else Markup())
    if call.visit.state(MaskingState).opened not in ("", encoder.fingerprint):
        updates["one"] = ""  # the prototype of another model
        call.visit.state(MaskingState).opened = ""
    return updates


def _code(call: Call) -> Markup:
    return html.in_python(
        "from pathlib import Path",
        "from vitmsn import Encoder",
        "from vitmsn.nearest import PictureIndex",
        call.python,
        'index = PictureIndex(encoder, sorted(Path("photos").glob("*.jpg")))  # a gallery of your own',
        f"first = encoder.assign({patch_grid.file_name(call)!r}).argmax()",
        "print(index.prototype(int(first)).to_dict())",
    )


def one(call: Call) -> Markup:
    """The prototype that was clicked, large."""
    index = picture_gallery.index(call.encoder)
    if index is None or not call.encoder.has_msn_head:
        raise InputError(tr("{name} has no prototypes to open; choose a model that has.", name=call.name))
    call.visit.state(MaskingState).opened = call.encoder.fingerprint
    return prototype_wall.opened(index, call.chosen("number"))


class GallerySections:
    """Both sections, built where this is called. `outputs` are what :func:`shown` updates, by name."""

    def __init__(self) -> None:
        self.nearest = gr.HTML(elem_id="masking-nearest")
        with gr.Accordion(tr("Prototype wall: which groups stay?"), open=False, elem_id="masking-wall") as self.door:
            self.hide = gr.Radio(
                [(tr_number(tr(words)), percent) for percent, words in HIDE.items()],
                value="70",
                label=tr("Hide"),
                info=tr("The share of your picture's patches that are hidden, as above."),
                elem_classes="msn-pills",
            )
            self.line = gr.HTML("", elem_classes="msn-notice-line")
            with gr.Row(elem_classes="msn-wall-row"):
                self.wall = gr.HTML(js_on_load=prototype_wall.SCRIPT, elem_id="prototype-wall")
                self.one = gr.HTML(
                    html.hint(tr("Click a prototype to see its nearest pictures.")),
                    js_on_load=prototype_wall.SHOW,
                    elem_id="prototype-opened",
                )
        self.outputs: Mapping[str, Block] = {
            "nearest": self.nearest,
            "hide": self.hide,
            "wall": self.wall,
            "one": self.one,
        }

    def connect(
        self, app: App, controls: Controls[MaskingControls], outputs: Mapping[str, Block], answer: Answer
    ) -> None:
        """Wire the wall; `answer` is the tab's: the wall has no mask of its own."""

        def open_wall(call: Call, asked: MaskingControls) -> dict[str, Any]:
            call.visit.state(MaskingState).wall = True
            return answer(call, asked, asked)

        def hide(call: Call, share: str, asked: MaskingControls) -> dict[str, Any]:
            ratio = float(choice(share, "hide", HIDE))
            return answer(call, asked, replace(asked, kind=series(asked.kind), ratio=ratio))

        app.on(self.door.expand, open_wall, [controls], outputs, notice=self.line)
        app.on(self.hide.input, hide, [self.hide, controls], outputs, notice=self.line)
        app.on(self.wall.click, one, [], [self.one], notice=self.line)
