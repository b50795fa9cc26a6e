"""The status line at the foot of the page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from vitmsn.ui.locale import tr
from vitmsn.ui.models import Models
from vitmsn.ui.shared import html
from vitmsn.ui.visits import Call


def status_line(models: Models, call: Call) -> Any:
    """Model · input size · device and precision · milliseconds of the tab's last forward · patches, as HTML.

    A job of a tab that the visitor has left meanwhile changes nothing.
    """
    if call.tab != call.visit.tab:
        return gr.skip()
    encoder = models.loaded(call.visit.model)
    if encoder is None:
        return html.status([call.name, tr("not read yet")])
    height, width = encoder.input_size
    words = [
        encoder.name,
        f"{height} × {width} px",
        f"{encoder.device} · {str(encoder.dtype).removeprefix('torch.')}",
    ]
    if (forward := call.visit.forwards.get(call.tab)) is not None and forward.model == encoder.name:
        words += [
            tr("last forward {time}", time=html.milliseconds(forward.milliseconds)),
            tr("{many} patches", many=forward.patches),
        ]
    else:
        words.append(tr("answer from cache"))
    return html.status(words)
