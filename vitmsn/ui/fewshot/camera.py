"""The live camera: one frame is sent and named, then the next; as many per second as the machine manages."""

from __future__ import annotations

import base64
import binascii

import gradio as gr
from markupsafe import Markup

from vitmsn import draw, fewshot, image, limits
from vitmsn.errors import FewShotError, InputError
from vitmsn.gallery import raw_pixels
from vitmsn.ui.app import App
from vitmsn.ui.fewshot.controls import FewShotControls
from vitmsn.ui.shared import html
from vitmsn.ui.shared.controls import Controls
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.shared.workspace import opened
from vitmsn.ui.visits import Call

SCRIPT = script(__file__, "camera.js")
START = "data:image/jpeg;base64,"
PANEL = Markup(
    '<section class="msn-live"><button type="button" class="msn-button" data-live aria-pressed="false">Live camera'
    '</button><video autoplay playsinline muted hidden aria-label="What the camera sees"></video>'
    '<p role="status"></p></section>'
)


def frame(call: Call, method: str, k: int, caution: float, temperature: float = 0.07) -> Markup:
    """The answer to one frame. `data-n` repeats the frame's number, so that the page can match them."""
    number, data = call.chosen("n"), call.chosen("frame")
    if (
        not isinstance(number, int)
        or not isinstance(data, str)
        or not data.startswith(START)
        or len(data) > limits.FRAME_LENGTH
    ):
        raise InputError("The camera sent something else than a small picture; load the page again.")
    try:
        picture = image.decode(
            base64.b64decode(data[len(START) :], validate=True), name="camera.jpg", most=limits.PICTURE_SIDE
        )
    except binascii.Error:
        raise InputError("The camera sent something else than a small picture; load the page again.") from None
    with opened(call) as (workspace, encoder):
        try:
            lesson = workspace.lesson(encoder, method, k, caution, temperature)
        except FewShotError:
            return Markup('<p data-n="{}" class="msn-hint">Add pictures to two classes. It learns at once.</p>').format(
                number
            )
        classes = workspace.gallery.classes
        [said] = lesson.answer(encoder.embed(picture), raw_pixels([picture]))
        numbers = {label: i for i, label in enumerate(classes)}
        words = said.label or said.reason
        mark = "" if said.label is None else html.badge(numbers[said.label])
        best = said.probabilities.argsort()[::-1][:3]
        shares = [(lesson.classes[i], float(said.probabilities[i])) for i in best]
        tone = draw.class_style(numbers[said.closest])[0]
        how = html.hint(said.far()) if said.reason == fewshot.NONE else html.bars(shares, quiet=said.label is None)
        return Markup('<div data-n="{}" style="--tone:{}"><p class="msn-sentence">{} {}</p>{}</div>').format(
            number, tone, mark, html.text(words), how
        )


def build(app: App, controls: Controls[FewShotControls]) -> None:
    """The button, the picture and the answer, in the place where this is called."""
    live = gr.HTML(PANEL, js_on_load=SCRIPT, elem_id="fewshot-live")
    failed = app.notice()
    said = gr.HTML(elem_id="fewshot-live-said")

    def answer(call: Call, asked: FewShotControls) -> str:
        return frame(call, *asked.checked())

    app.on(
        getattr(live, "frame"),  # noqa: B009 (an event of our own)
        answer,
        [controls],
        [said],
        notice=failed,
        show_progress="hidden",
    )
