"""Classify: what is on the picture."""

from __future__ import annotations

import gradio as gr

from vitmsn.errors import MissingHeadError
from vitmsn.ui import parts
from vitmsn.ui.page import App, only_paths, read_picture
from vitmsn.ui.state import Call


def answer(call: Call) -> tuple[str, str]:
    """Bars and the sentence for the visitor's picture."""
    encoder, picture = call.encoder, call.picture
    if not encoder.has_classifier:
        return "", parts.sentence(f"{encoder.name} has no classifier.")
    [result] = encoder.classify([picture])
    rows = list(zip(result.labels, result.probabilities, strict=True))
    return parts.bars(rows, quiet=not result.sure), parts.sentence(result.sentence())


def classify(call: Call, image: str, top_k: int = 5) -> dict[str, float]:
    """Say what is on a picture: the most probable of the classes the model knows, with calibrated confidences."""
    encoder = call.encoder
    if not encoder.has_classifier:
        raise MissingHeadError(f"{encoder.name} has no classifier; use /few_shot with examples of your own.")
    [result] = encoder.classify([read_picture(image)], top_k=int(top_k))
    return dict(zip(result.labels, result.probabilities, strict=True))


def build(app: App) -> None:
    with gr.Row():
        with gr.Column():
            app.picture("classify")
        with gr.Column():
            said = gr.HTML()
            bars = gr.HTML()
    app.answer("classify", answer, [], [bars, said])
    image = only_paths(gr.Image(visible=False, type="filepath"))
    app.endpoint("classify", classify, [image, gr.Number(5, visible=False, precision=0)], [gr.Label(visible=False)])
