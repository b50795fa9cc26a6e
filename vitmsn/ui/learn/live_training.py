"""Watch it learn: a small network trains on handwritten digits, live on the page."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from vitmsn import limits
from vitmsn.ui.app import SKIP, App
from vitmsn.ui.learn.training_process import Desk, Run, Switches, TrainingState
from vitmsn.ui.shared import html
from vitmsn.ui.shared.charts import Axis, Line, chart
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.visits import Call, Visit

RECORDED = Path(__file__).with_name("recorded.json")  # output of `pretrain digits --watch --log-every 18`
SECONDS_BETWEEN_LOOKS = 1.0
MAP = script(__file__, "live_training.js")

MASKING = "Hide 30 % of the patches of each random view. Off: the network sees them all."
SINKHORN = "Spread the targets of a batch evenly over the prototypes."
ME_MAX = "Reward using many prototypes. With Sinkhorn off too, everything collapses."


# ------------------------------------------------------------------------------------------------------------ sentences


def sentence(run: Run) -> str:
    """How far a run is and what it has learned, in one sentence with numbers."""
    if run.ended == "failed":
        return "The training failed; start it again."
    if not run.about or not run.frames:
        return {
            "": "Starting: opening Python and the digits takes some seconds.",
            "stopped": "Stopped before the first step.",
        }.get(run.ended, "The training ended before its first step; start it again.")
    first, last, about = run.frames[0], run.frames[-1], run.about
    if last["step"] == 0:
        return f"With random weights kNN names {share(first['knn'])} of the test digits correctly. Training starts."
    begun = f"After {last['step']} of {about['steps']} steps in {last['seconds']:.0f} s"
    learned = f"kNN names {share(last['knn'])} of the test digits correctly (random weights: {share(first['knn'])})"
    used = f"{last['prototypes_in_use']:.0f} of {about['prototypes']} prototypes are in use"
    over = {
        "stopped": " Stopped.",
        "time": f" Its {limits.LIVE_SECONDS} s were over before its last step: this machine is busy.",
        "left": " It ended because the page was left.",
    }.get(run.ended, "")
    return f"{begun}, {learned}; {used}.{over}{' ' + verdict(run) if run.ended or collapsed(run) else ''}"


def recorded() -> Run:
    """A recorded run, shown before anyone trains."""
    return Run(Switches(), Visit("", ""), told=json.loads(RECORDED.read_text(encoding="utf-8")), ended="finished")


def invitation(run: Run) -> str:
    """The text beside the recorded run."""
    first, last = run.frames[0], run.frames[-1]
    return (
        f"A recording: in {last['step']} steps a small network learned handwritten digits without a single label; "
        f"kNN names {share(last['knn'])} of the test digits correctly (random weights: {share(first['knn'])}). Train "
        "your own, live, in about a minute."
    )


def verdict(run: Run) -> str:
    """What a finished run shows: learning or collapse."""
    first, last = run.frames[0], run.frames[-1]
    if collapsed(run):
        same = "prototype" if last["prototypes_in_use"] == 1 else "two prototypes"
        return f"It collapsed: every picture falls on the same {same}, all views agree, and nothing is left to learn."
    if last["knn"] > first["knn"] + 0.02:
        return "It never saw a label; labels only score the result."
    return ""


def collapsed(run: Run) -> bool:
    """Whether nearly every picture is assigned to the same few prototypes, with certainty."""
    if not run.about or not run.frames or run.frames[-1]["step"] == 0:
        return False
    last = run.frames[-1]
    return bool(last["prototypes_in_use"] <= 2 and last["mean_entropy"] < 0.25 * math.log(run.about["prototypes"]))


share = partial(html.percent, whole=True)  # measured on a few hundred pictures, so accurate to about one percent


def line_of(ahead: int, seconds: float) -> str:
    """The sentence for a visitor in the queue."""
    others = "Another visitor's network is" if ahead == 1 else f"{ahead} other visitors' networks are"
    return (
        f"{others} first: one trains at a time on this machine. Yours starts by itself, in {seconds:.0f} s at the "
        "latest; the rest of the page works meanwhile."
    )


# -------------------------------------------------------------------------------------------------------------- drawing


def charts(run: Run) -> str:
    """Charts of accuracy, prototypes in use and the parts of the loss over the steps."""
    about, frames = run.about, run.frames
    if not about or not frames:
        return ""
    last_step, most = about["steps"], about["prototypes"]
    steps = Axis(0, last_step, [(0, "0"), (last_step, f"{last_step:g} steps")])
    first, last, learned = frames[0], frames[-1], [frame for frame in frames if frame["step"]]
    accuracy = chart(
        [
            Line([(0, about["raw"])], f"raw {share(about['raw'])}"),
            Line([(f["step"], f["knn"]) for f in frames], f"trained {share(last['knn'])}", now=True),
            Line([(0, first["knn"])], f"random {share(first['knn'])}"),
        ],
        steps,
        Axis(0, 1, [(value, f"{value:g}") for value in (0, 0.5, 1)]),
        caption=f"kNN accuracy on {about['held_out']} unseen test digits, by the vote of 20 neighbors among "
        f"{about['pictures']:,}. Dashed: with random weights, and on raw pixels, which suit these small, "
        "centered digits well.",
        alt=f"kNN accuracy over the steps: {said(frames, 'knn', share)}; random weights {share(first['knn'])}, raw "
        f"pixels {share(about['raw'])}",
    )
    if not learned:
        return accuracy
    in_use = [(f["step"], f["prototypes_in_use"]) for f in learned]
    used = chart(
        [Line(in_use, f"in use {last['prototypes_in_use']:.0f}", now=True)],
        steps,
        Axis(0, most, [(value, f"{value:g}") for value in (0, most // 2, most)]),
        caption=f"Prototypes in use: the first choice of some picture in a batch, of {most}. One means collapse.",
        alt=f"Prototypes in use over the steps: {said(learned, 'prototypes_in_use', lambda v: f'{v:.0f}')} of {most}",
    )
    top = math.log(most)
    mean = [(f["step"], f["mean_entropy"]) for f in learned]
    cross = [(f["step"], f["cross_entropy"]) for f in learned]
    loss = chart(
        [
            Line(mean, f"mean entropy {last['mean_entropy']:.1f}", now=True),
            Line(cross, f"cross-entropy {last['cross_entropy']:.1f}", kind="quiet"),
        ],
        steps,
        Axis(
            0,
            max(1.2 * top, *(value for _, value in (*mean, *cross))),
            [(value, f"{value:g}") for value in (0, round(top, 1))],
        ),
        caption="The loss in nats: cross-entropy (thin) falls as views agree; me-max keeps the entropy of the mean "
        f"assignment (thick) near its most, log {most} = {top:.1f}.",
        alt=f"Mean entropy over the steps: {said(learned, 'mean_entropy', lambda v: f'{v:.2f}')}; cross-entropy: "
        f"{said(learned, 'cross_entropy', lambda v: f'{v:.2f}')} nats",
    )
    return Markup('<div class="msn-three">{}{}{}</div>').format(accuracy, used, loss)


def said(frames: list[dict[str, Any]], name: str, words: Any) -> str:
    """A value at the start, in the middle and now, as text."""
    picked = [frames[0], frames[len(frames) // 2], frames[-1]]
    return ", ".join(f"{words(frame[name])} after {frame['step']}" for frame in picked[-len(frames) :])


def field(run: Run) -> Markup:
    """The map: each held-out digit at its embedding; live_training.js moves them."""
    if not run.about or not run.frames:
        return Markup()
    last, labels = run.frames[-1], run.about["labels"]
    alt = (
        f"Map of {len(labels)} handwritten digits held out, after {last['step']} steps: spread {last['spread']:.2f}, "
        f"{share(last['knn'])} of them named correctly"
    )
    data = json.dumps({"xy": last["xy"], "labels": labels, "step": last["step"]})
    return Markup(
        '<figure class="msn-field" data-frame="{}"><canvas role="img" aria-label="{}">'
        "</canvas><figcaption>Each numeral is an unseen test digit, placed where the network puts it. Same digits "
        "together = it has learned. Spread: {:.2f} (0 = all in one place).</figcaption></figure>"
    ).format(data, html.text(alt, 300), last["spread"])


# -------------------------------------------------------------------------------------------------------------- the tab


def build(app: App) -> None:
    desk, before = Desk(), recorded()
    opening = [html.sentence(invitation(before)), field(before), charts(before)]

    def look(call: Call) -> Any:
        """Called once a second: update what changed."""
        run = desk.look(call.visit)
        seen = None if run is None else (run.began, len(run.told), run.ended)
        if seen is not None and seen == call.visit.state(TrainingState).seen:
            return SKIP
        call.visit.state(TrainingState).seen = seen
        return shown(call)

    def shown(call: Call) -> list[Any]:
        run = desk.look(call.visit)
        waiting = desk.waiting(call.visit)
        active = waiting is not None or (run is not None and not run.ended)
        buttons = [gr.Timer(active=active), gr.update(interactive=not active), gr.update(visible=active)]
        if waiting is not None:
            return [html.sentence(line_of(*waiting)), "", "", *buttons]
        if run is None:
            return [*opening, *buttons]
        return [html.sentence(sentence(run)), field(run), charts(run), *buttons]

    def start(call: Call, masking: bool, sinkhorn: bool, me_max: bool) -> list[Any]:
        desk.ask(call.visit, Switches(bool(masking), bool(sinkhorn), bool(me_max)))
        return shown(call)

    def stop(call: Call) -> list[Any]:
        desk.stop(call.visit)
        return shown(call)

    with gr.Column(elem_id="watch", elem_classes="msn-watch"):
        gr.HTML(Markup('<h2 class="msn-watch-title">Watch it learn</h2>'))
        notice = app.notice()
        with gr.Row(elem_classes="msn-switches"):
            masking = gr.Checkbox(True, label="Masking", info=MASKING)
            sinkhorn = gr.Checkbox(True, label="Sinkhorn", info=SINKHORN)
            me_max = gr.Checkbox(True, label="me-max", info=ME_MAX)
        with gr.Row():
            begin = gr.Button("Train it now", variant="primary", elem_classes="msn-train")
            end = gr.Button("Stop", visible=False, elem_classes="msn-quiet-button")
        words = gr.HTML(opening[0], elem_id="watch-said")
        with gr.Row(elem_classes="msn-watched"):
            plotted = gr.HTML(opening[1], js_on_load=MAP, elem_id="watch-map")
            drawn = gr.HTML(opening[2], elem_id="watch-charts")
        clock = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    outputs = [words, plotted, drawn, clock, begin, end]
    quiet: dict[str, Any] = {"notice": notice, "show_progress": "hidden", "queue": False}
    app.on(begin.click, start, [masking, sinkhorn, me_max], outputs, **quiet)
    app.on(end.click, stop, [], outputs, **quiet)
    app.on(clock.tick, look, [], outputs, **quiet)
    # with Sinkhorn nothing collapses even without me-max, so there would be nothing to see
    me_max.input(lambda on: gr.skip() if on else False, [me_max], [sinkhorn], queue=False, api_visibility="private")
