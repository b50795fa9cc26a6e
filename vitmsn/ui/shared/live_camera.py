"""The live camera: one frame is sent and answered, then the next; as many per second as the machine manages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from vitmsn import image, limits
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.ui.app import App
from vitmsn.ui.locale import later, tr, tr_html
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.visits import Call

SCRIPT = script(__file__, "live_camera.js")
START = "data:image/jpeg;base64,"
ODD = later("The camera sent something else than a small picture; load the page again.")


def panel(said: str) -> Markup:
    """The button that starts the camera, and its picture; the answer is in the element with the id `said`."""
    return tr_html(
        '<section class="msn-live" data-said="{}"><button type="button" class="msn-button" data-live '
        'aria-pressed="false">Live camera</button><video autoplay playsinline muted hidden aria-label="What the '
        'camera sees"></video><p role="status"></p></section>'
    ).format(said)


def frame(call: Call) -> tuple[int, Picture]:
    """The number and the picture of a frame. The answer repeats the number as `data-n`, so that the page can match it.

    InputError: not a small JPEG; ImageError: it cannot be decoded.
    """
    number, data = call.chosen("n"), call.chosen("frame")
    if (
        not isinstance(number, int)
        or not isinstance(data, str)
        or not data.startswith(START)
        or len(data) > limits.FRAME_LENGTH
    ):
        raise InputError(tr(ODD))
    try:
        sent = base64.b64decode(data[len(START) :], validate=True)
    except binascii.Error:
        raise InputError(tr(ODD)) from None
    return number, image.decode(sent, name="camera.jpg", most=limits.PICTURE_SIDE)


def build(app: App, name: str, answer: Callable[..., str], inputs: Sequence[Any], **judged: Any) -> None:
    """The button, the picture and the answer `#NAME-live-said`, in the place where this is called.

    `answer(call, ...)` gives HTML whose first element has the frame's number as `data-n`.
    """
    live = gr.HTML(panel(f"{name}-live-said"), js_on_load=SCRIPT, elem_id=f"{name}-live")
    failed = app.notice()
    said = gr.HTML(elem_id=f"{name}-live-said")
    app.on(
        getattr(live, "frame"),  # noqa: B009 (an event of our own)
        answer,
        inputs,
        [said],
        notice=failed,
        show_progress="hidden",
        trigger_mode="multiple",  # the next frame is sent when an answer appears, just before its event has ended
        **judged,
    )
