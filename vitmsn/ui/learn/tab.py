"""Learn: a walk through MSN on the visitor's own picture, live training of a small network, and a printable lesson.

All eight steps are on the page and one is visible: changing the step needs no request, a link can open any step, and
printing gives the whole lesson. (Gradio's own walkthrough mounts a step only when it is reached, and does not let
visitors skip ahead.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from vitmsn.ui.app import App
from vitmsn.ui.learn import live_training, steps
from vitmsn.ui.learn.walkthrough import MOST_DRAW, MOST_RATIO, SIZES, LearnControls, study
from vitmsn.ui.locale import later, tr
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.checks import linked_choice, linked_real, linked_whole
from vitmsn.ui.shared.controls import Controls, bind
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.visits import Call

STYLE = Path(__file__).with_name("learn.css").read_text(encoding="utf-8")
SCRIPT = script(__file__, "learn.js")
NAMES = (
    later("Picture"),
    later("Views"),
    later("Patches"),
    later("Tokens"),
    later("Embeddings"),
    later("Prototypes"),
    later("Sharpening"),
    later("Loss"),
)
LAST = len(steps.STEPS)
GO = "(step) => Math.min({last}, Math.max(1, Number(step) + {by}))"
SHOW = "(step) => { document.documentElement.dataset.step = step; }"

SIZE = later("The input size. The model was trained at its own size and accepts others.")
DRAW = later("Same number, same crops.")
RATIO = later("The share of the masked view's patches dropped. MSN trained this model with 30 %.")
LAYER = later("Layers run one after another.")
OTHER = later("An unrelated picture to compare with.")
TEMPERATURE = later("τ. MSN trained this model with 0.1.")
SHARPENING = later(
    "T: the teacher's shares to the power of 1 / T, rescaled to sum to 1. MSN trained this model with 0.25."
)
WEIGHT = later("How much me-max counts. MSN trained this model with 1.")


# of the controls' values in a link; what fits the model is checked with the model
CHECKS: dict[str, Callable[[str], Any]] = {
    "size": lambda text: linked_choice(text, SIZES),
    "ratio": lambda text: linked_whole(text, 0, MOST_RATIO),
    "layer": lambda text: linked_whole(text, 1, 100),
    "other": lambda text: linked_choice(text, [known.name for known in examples.photographs()]),
    "temperature": lambda text: linked_real(text, 0.02, 1),
    "sharpening": lambda text: linked_real(text, 0.05, 1),
    "weight": lambda text: linked_real(text, 0, 5),
}


def answer(call: Call, asked: LearnControls) -> dict[str, Any]:
    """Update all eight steps for the current controls."""
    encoder, picture = call.encoder, call.picture
    lesson = study(encoder, picture, asked, lambda done, total: call.progress(done, total, later("gallery pictures")))
    headed = gr.update(interactive=lesson.assigned is not None)
    return {
        **{f"step {place + 1}": steps.answer(place, encoder, lesson, call.name) for place in range(LAST)},
        "layer": gr.update(maximum=encoder.config.num_hidden_layers, value=lesson.ask.layer),
        **dict.fromkeys(("temperature", "sharpening", "weight"), headed),
        "code": _python(call, lesson.ask),
    }


def _python(call: Call, ask: LearnControls) -> Markup:
    picture = f"{call.visit.example}.png" if call.visit.example else call.picture.name
    return html.in_python(
        "import torch",
        "from vitmsn import Encoder, masking",
        call.python,
        f"keep = masking.random_mask(encoder.config.grid, {ask.ratio / 100:g}, "
        f"torch.Generator().manual_seed({ask.draw}))",
        f"target = encoder.assign({picture!r}, sharpen=True)  # (1, prototypes)",
        f"anchor = encoder.assign({picture!r}, keep_indices=keep)",
        "print(-(target * torch.from_numpy(anchor).log().numpy()).sum())  # cross-entropy, in nats",
    )


# ----------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    gr.HTML(
        Markup("<style>{}</style>").format(Markup(STYLE)), js_on_load=SCRIPT, elem_classes="msn-styles", container=False
    )
    with gr.Column(elem_classes="msn-lesson"):
        choices = [(f"{number} {tr(name)}", number) for number, name in enumerate(NAMES, start=1)]
        step = gr.Radio(choices, value=1, label=tr("Step"), show_label=False, container=False, elem_id="learn-step")
        with gr.Row(elem_classes=["msn-columns", "msn-walk"]):
            with gr.Column(elem_classes="msn-left"):
                app.picture("learn")
            with gr.Column(elem_classes="msn-right", elem_id="learn-steps"):
                with gr.Row(elem_classes="msn-turn"):
                    back = gr.Button(tr("← Back"), elem_classes="msn-quiet-button", elem_id="learn-back")
                    forward = gr.Button(tr("Next →"), elem_classes="msn-quiet-button", elem_id="learn-next")
                    page = gr.Button(tr("Print the lesson"), elem_classes="msn-quiet-button", elem_id="learn-print")
                shown, controls = _steps()
        code = gr.HTML(elem_classes="msn-python")
    again = [getattr(control, "input") for control in controls.values()]  # noqa: B009 (every control has it)
    clock, comes_back = live_training.build(app)

    def fill(call: Call, asked: LearnControls) -> dict[str, Any]:
        runs = {"clock": gr.Timer(active=True)} if comes_back(call) else {}
        return answer(call, asked) | runs

    app.answer("learn", fill, [controls], {**shown, **controls, "code": code, "clock": clock}, again=again)
    for button, by in ((back, -1), (forward, 1)):
        button.click(None, [step], [step], js=GO.format(last=LAST, by=by), api_visibility="private")
    step.change(None, [step], js=SHOW, api_visibility="private")
    page.click(None, js="() => window.print()", api_visibility="private")
    app.link("step", step, lambda text: linked_whole(text, 1, LAST))
    app.link("draw", controls["draw"], lambda text: linked_whole(text, 1, MOST_DRAW))
    for name, check in CHECKS.items():
        app.link(f"learn_{name}", controls[name], check, "input")


def _steps() -> tuple[dict[str, gr.HTML], Controls[LearnControls]]:
    """The eight steps: their answers and their controls."""
    start, shown, controls = LearnControls(), {}, {}
    makers: dict[str, Callable[[], Component]] = {
        "size": lambda: gr.Radio(
            [(tr(words), name) for name, words in SIZES.items()], value=start.size, label=tr("Size"), info=tr(SIZE)
        ),
        "draw": lambda: gr.Slider(1, MOST_DRAW, start.draw, step=1, label=tr("Seed"), info=tr(DRAW)),
        "ratio": lambda: gr.Slider(0, MOST_RATIO, start.ratio, step=5, label=tr("Mask ratio, %"), info=tr(RATIO)),
        "layer": lambda: gr.Slider(1, 9, start.layer, step=1, label=tr("Layer"), info=tr(LAYER)),
        "other": lambda: gr.Dropdown(
            [(tr(known.title), known.name) for known in examples.photographs()],
            value=examples.photographs()[-1].name,
            label=tr("Another picture"),
            info=tr(OTHER),
            filterable=False,
        ),
        "temperature": lambda: gr.Slider(
            0.02, 1, start.temperature, step=0.01, label=tr("Temperature"), info=tr(TEMPERATURE)
        ),
        "sharpening": lambda: gr.Slider(
            0.05, 1, start.sharpening, step=0.05, label=tr("Sharpening"), info=tr(SHARPENING)
        ),
        "weight": lambda: gr.Slider(0, 5, start.weight, step=0.25, label=tr("Weight λ"), info=tr(WEIGHT)),
    }
    for number, (told, (name, make)) in enumerate(zip(steps.STEPS, makers.items(), strict=True), start=1):
        with gr.Column(elem_id=f"step-{number}", elem_classes="msn-step"):
            shown[f"step {number}"] = gr.HTML(elem_classes="msn-step-answer")
            with gr.Column(elem_classes="msn-controls"):
                controls[name] = make()
            gr.HTML(html.hint(tr(told.words)), elem_classes="msn-words")
    return shown, bind(LearnControls, **controls)
