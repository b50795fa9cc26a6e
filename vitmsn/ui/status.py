"""The status line at the foot of the page."""

from __future__ import annotations

from vitmsn.ui.models import Models
from vitmsn.ui.shared import html
from vitmsn.ui.visits import Call


def status_line(models: Models, call: Call) -> str:
    """Model · input size · device and precision · milliseconds of the visit's last forward · patches, as HTML."""
    encoder = models.loaded(call.visit.model)
    if encoder is None:
        return html.status([call.name, "not read yet"])
    height, width = encoder.input_size
    words = [
        encoder.name,
        f"{height} × {width} px",
        f"{encoder.device} · {str(encoder.dtype).removeprefix('torch.')}",
    ]
    if (forward := call.visit.forward) is not None and forward.model == encoder.name:
        words += [f"last forward {html.milliseconds(forward.milliseconds)}", f"{forward.patches} patches"]
    else:
        words.append("answer from cache")
    return html.status(words)
