"""The live camera of Attention: where the model looks on each frame, by the controls of the tab."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from vitmsn.image import Picture
from vitmsn.ui.app import App
from vitmsn.ui.attention.map_view import AttentionControls, drawn, see, sentence
from vitmsn.ui.locale import later
from vitmsn.ui.shared import html, live_camera, patch_grid
from vitmsn.ui.shared.controls import Controls
from vitmsn.ui.visits import Call

SIDE = 320  # pixels of the picture's longer side
WHAT = later("Where the model looks on what the camera sees, with the settings above. Frames are not kept.")

Fitted = Callable[[Call, AttentionControls, Picture], AttentionControls]  # the controls, limited to what the model has


def answer(call: Call, asked: AttentionControls, fitted: Fitted) -> Markup:
    """The map of one frame, and the sentence about it."""
    number, picture = live_camera.frame(call)
    ask = fitted(call, asked, picture)
    found = see(call.encoder, picture, ask)
    photo = patch_grid.seen(call.encoder, picture, ask.input_size(call.encoder, picture), side=SIDE)
    said = html.sentence(sentence(found, ask.keep / 100), said=False)
    return Markup('<figure class="msn-live-map" data-n="{}">{}<figcaption>{}</figcaption></figure>').format(
        number, html.img(drawn(found, photo), found.alt), said
    )


def build(app: App, controls: Controls[AttentionControls], fitted: Fitted) -> None:
    """The button, the picture and the answer, in the place where this is called."""

    def told(call: Call, asked: AttentionControls) -> Markup:
        return answer(call, asked, fitted)

    live_camera.build(app, "attention", told, [controls], costly=lambda asked: asked.costly)
