"""The live camera of Few-shot: each frame is named by the classifier that learned from the examples."""

from __future__ import annotations

from markupsafe import Markup

from vitmsn import draw, fewshot
from vitmsn.errors import FewShotError
from vitmsn.gallery import raw_pixels
from vitmsn.ui.app import App
from vitmsn.ui.fewshot.controls import FewShotControls
from vitmsn.ui.locale import tr, tr_html, tr_said
from vitmsn.ui.shared import html, live_camera
from vitmsn.ui.shared.controls import Controls
from vitmsn.ui.shared.workspace import opened
from vitmsn.ui.visits import Call


def frame(call: Call, method: str, k: int, caution: float, temperature: float = 0.07) -> Markup:
    """The answer to one frame."""
    number, picture = live_camera.frame(call)
    with opened(call) as (workspace, encoder):
        try:
            lesson = workspace.lesson(encoder, method, k, caution, temperature)
        except FewShotError:
            return tr_html(
                '<p data-n="{}" class="msn-hint">Add pictures to two classes. It learns at once.</p>'
            ).format(number)
        classes = workspace.gallery.classes
        [said] = lesson.answer(encoder.embed(picture), raw_pixels([picture]))
        numbers = {label: i for i, label in enumerate(classes)}
        words = said.label or tr(said.reason)
        mark = "" if said.label is None else html.badge(numbers[said.label])
        best = said.probabilities.argsort()[::-1][:3]
        shares = [(lesson.classes[i], float(said.probabilities[i])) for i in best]
        tone = draw.class_style(numbers[said.closest])[0]
        far = said.reason == fewshot.NONE
        how = html.hint(tr_said(said.far())) if far else html.bars(shares, quiet=said.label is None)
        return Markup('<div data-n="{}" style="--tone:{}"><p class="msn-sentence">{} {}</p>{}</div>').format(
            number, tone, mark, html.text(words), how
        )


def build(app: App, controls: Controls[FewShotControls]) -> None:
    """The button, the picture and the answer, in the place where this is called."""

    def answer(call: Call, asked: FewShotControls) -> str:
        return frame(call, *asked.checked())

    live_camera.build(app, "fewshot", answer, [controls])
