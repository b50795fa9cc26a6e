"""Watch it learn: a small network trains on drawn shapes, live on the page; up to four runs stay to compare."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from vitmsn import limits
from vitmsn.ui.app import SKIP, App
from vitmsn.ui.learn import training_film
from vitmsn.ui.learn.training_process import LETTERS, Desk, Run, Switches, TrainingState
from vitmsn.ui.locale import later, tr, tr_count, tr_html, tr_number
from vitmsn.ui.shared import html
from vitmsn.ui.shared.charts import Axis, Line, chart
from vitmsn.ui.shared.checks import choice
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.visits import Call, Visit

RECORDED = Path(__file__).with_name("recorded.json")  # lines of `pretrain shapes --watch --log-every 36`, as one list
SECONDS_BETWEEN_LOOKS = 1.0
CARDS = script(__file__, "training_cards.js")

MASKING = later("Hide 30 % of the patches of each random view. Off: the network sees them all.")
SINKHORN = later("Spread the targets of a batch evenly over the prototypes.")
ME_MAX = later("Reward using many prototypes. With Sinkhorn off too, everything collapses.")
STARTING = later("Getting ready: this takes some seconds. What you see stays until the first step.")
DASHED = later(
    "Dashed: kNN of raw pixels, which needs no network at all, and of the same network with random weights, before it "
    "has learned anything."
)


@dataclass
class OnPage:
    """What the open page shows of the visitor's runs: the last news, and the film (its run, and how many frames)."""

    news: tuple[Any, ...] = ()
    film: tuple[float, int] | None = None


# ------------------------------------------------------------------------------------------------------------ sentences


def sentence(run: Run) -> str:
    """How far a run is and what it has learned, in one sentence with numbers."""
    if run.ended == "failed":
        return tr("The training failed; start it again.")
    if not run.about or not run.frames:
        if run.ended == "stopped":
            return tr("Stopped before the first step.")
        return tr("The training ended before its first step; start it again.")
    first, last, about = run.frames[0], run.frames[-1], run.about
    over = {
        "stopped": tr(" Stopped."),
        "time": tr(
            " Its {seconds} s were over before its last step: this machine is busy.",
            seconds=limits.LIVE_SECONDS,
        ),
        "left": tr(" It ended because the page was left."),
    }.get(run.ended, "")
    if last["step"] == 0:
        begun = tr("With random weights kNN names {share} of the test pictures correctly.", share=share(first["knn"]))
        return begun + (over if run.ended else tr(" Training starts."))
    left = "" if run.ended else f" ({html.time_left(run.seconds_left)})"
    said = tr(
        "After {step} of {steps} steps in {seconds:.0f} s{without}{left}, kNN names {share} of the test pictures "
        "correctly (random weights: {random}); {used:.0f} of {prototypes} prototypes are in use.",
        step=last["step"],
        steps=about["steps"],
        seconds=last["seconds"],
        without=run.switches.without(),
        left=left,
        share=share(last["knn"]),
        random=share(first["knn"]),
        used=last["prototypes_in_use"],
        prototypes=about["prototypes"],
    )
    return f"{said}{over}{' ' + verdict(run) if run.ended or collapsed(run) else ''}"


def recorded() -> Run:
    """A recorded run, shown before anyone trains."""
    return Run(Switches(), Visit("", ""), told=json.loads(RECORDED.read_text(encoding="utf-8")), ended="finished")


def invitation(run: Run) -> str:
    """The text beside the recorded run."""
    first, last = run.frames[0], run.frames[-1]
    return tr(
        "A recording: in {step} steps a small network learned to tell drawn shapes apart without a "
        "single label; kNN names {share} of the test pictures correctly (random weights: {random}). "
        "Train your own, live, in about a minute.",
        step=last["step"],
        share=share(last["knn"]),
        random=share(first["knn"]),
    )


def ready(message: str, changing: str = "") -> Markup:
    """The strip over the recording, or an earlier run, until the new one has its first frame. Screen readers hear the
    message, but not what changes every second."""
    strip = Markup('<p class="msn-ready"><i aria-hidden="true"></i><span><span data-say>{}</span> {}</span></p>')
    return strip.format(html.text(message), html.text(changing))


def verdict(run: Run) -> str:
    """What a finished run shows: learning or collapse."""
    first, last = run.frames[0], run.frames[-1]
    if collapsed(run):
        return (
            tr(
                "It collapsed: every picture falls on the same prototype, all views agree, and nothing is left to "
                "learn."
            )
            if last["prototypes_in_use"] == 1
            else tr(
                "It collapsed: every picture falls on the same two prototypes, all views agree, and nothing is left to "
                "learn."
            )
        )
    if last["knn"] > first["knn"] + 0.02:
        return tr("It never saw a label; labels only score the result.")
    return ""


def collapsed(run: Run) -> bool:
    """Whether nearly every picture is assigned to the same few prototypes, with certainty."""
    if not run.about or not run.frames or run.frames[-1]["step"] == 0:
        return False
    last = run.frames[-1]
    return bool(last["prototypes_in_use"] <= 2 and last["mean_entropy"] < 0.25 * math.log(run.about["prototypes"]))


share = partial(html.percent, whole=True)  # measured on a few hundred pictures, so accurate to about one percent


def line_of(ahead: int, seconds: float) -> tuple[str, str]:
    """The sentences for a visitor in the queue: who comes first, and for how long."""
    return (
        tr_count(
            ahead,
            "Another visitor's network is first: one trains at a time on this machine.",
            "{n} other visitors' networks are first: one trains at a time on this machine.",
        ),
        tr(
            "Yours starts by itself, in {seconds:.0f} s at the latest; everything else on the page works meanwhile.",
            seconds=seconds,
        ),
    )


# -------------------------------------------------------------------------------------------------------------- drawing


def charts(run: Run, others: Sequence[Run] = ()) -> str:
    """Charts over the steps: accuracy, with those of the other runs; prototypes in use; the parts of the loss."""
    about, frames = run.about, run.frames
    if not about or not frames:
        return ""
    last_step, most = about["steps"], about["prototypes"]
    steps = Axis(0, last_step, [(0, "0"), (last_step, tr("{steps} steps", steps=f"{last_step:g}"))])
    first, last, learned = frames[0], frames[-1], [frame for frame in frames if frame["step"]]
    beside = [other for other in others if other is not run and other.frames]
    named = f"{run.letter} " if beside else f"{tr('trained')} "
    accuracy = chart(
        [
            Line([(0, about["raw"])], tr("raw pixels {share}", share=share(about["raw"]))),
            Line([(0, first["knn"])], tr("random {share}", share=share(first["knn"]))),
            *(
                Line(
                    [(f["step"], f["knn"]) for f in other.frames],
                    f"{other.letter} {share(other.frames[-1]['knn'])}",
                    kind="quiet",
                )
                for other in beside
            ),
            Line([(f["step"], f["knn"]) for f in frames], f"{named}{share(last['knn'])}", now=True),
        ],
        steps,
        Axis(0, 1, [(value, share(value)) for value in (0, 0.5, 1)]),
        caption=tr(
            "Share of {held_out} test pictures that kNN names correctly, by the vote of 20 "
            "neighbors among {pictures:,}. {dashed}",
            held_out=about["held_out"],
            pictures=about["pictures"],
            dashed=tr(DASHED),
        ),
        alt=tr(
            "kNN accuracy over the steps: {said}; random weights {random}, raw pixels {raw}",
            said=said(frames, "knn", share),
            random=share(first["knn"]),
            raw=share(about["raw"]),
        ),
    )
    if not learned:
        return accuracy
    in_use = [(f["step"], f["prototypes_in_use"]) for f in learned]
    used = chart(
        [Line(in_use, tr("in use {used:.0f}", used=last["prototypes_in_use"]), now=True)],
        steps,
        Axis(0, most, [(value, f"{value:g}") for value in (0, most // 2, most)]),
        caption=tr(
            "Prototypes in use: the first choice of some picture in a batch, of {most}. One means collapse.", most=most
        ),
        alt=tr(
            "Prototypes in use over the steps: {said} of {most}",
            said=said(learned, "prototypes_in_use", lambda v: f"{v:.0f}"),
            most=most,
        ),
    )
    top = math.log(most)
    mean = [(f["step"], f["mean_entropy"]) for f in learned]
    cross = [(f["step"], f["cross_entropy"]) for f in learned]
    loss = chart(
        [
            Line(mean, tr("mean entropy {nats:.1f}", nats=last["mean_entropy"]), now=True),
            Line(cross, tr("cross-entropy {nats:.1f}", nats=last["cross_entropy"]), kind="quiet"),
        ],
        steps,
        Axis(
            0,
            max(1.2 * top, *(value for _, value in (*mean, *cross))),
            [(value, tr_number(f"{value:g}")) for value in (0, round(top, 1))],
        ),
        caption=tr(
            "The loss in nats: cross-entropy (thin) falls as views agree; me-max keeps the "
            "entropy of the mean assignment (thick) near its most, log {most} = {top:.1f}.",
            most=most,
            top=top,
        ),
        alt=tr(
            "Mean entropy over the steps: {mean}; cross-entropy: {cross} nats",
            mean=said(learned, "mean_entropy", lambda v: tr_number(f"{v:.2f}")),
            cross=said(learned, "cross_entropy", lambda v: tr_number(f"{v:.2f}")),
        ),
    )
    return Markup('<div class="msn-three">{}{}{}</div>').format(accuracy, used, loss)


def said(frames: list[dict[str, Any]], name: str, words: Any) -> str:
    """A value at the start, in the middle and now, as text."""
    picked = [frames[0], frames[len(frames) // 2], frames[-1]]
    return ", ".join(
        tr("{value} after {step}", value=words(frame[name]), step=frame["step"]) for frame in picked[-len(frames) :]
    )


def cards(kept: Sequence[Run], opened: Run | None) -> Markup:
    """The kept runs side by side, as buttons that open their films; empty for fewer than two."""
    shown = [run for run in kept if run.about and run.frames]
    if len(shown) < 2:
        return Markup()
    made = Markup().join(
        tr_html(
            '<li><button type="button" data-letter="{}" aria-pressed="{}">{}<b>{}</b><span>{}</span>'
            "<small>kNN {}, {:.0f} of {} prototypes</small></button></li>"
        ).format(
            run.letter,
            "true" if run is opened else "false",
            training_film.miniature(run),
            run.letter,
            run.switches.words(),
            share(run.frames[-1]["knn"]),
            run.frames[-1].get("prototypes_in_use", 0),
            run.about["prototypes"] if run.about else 0,
        )
        for run in shown
    )
    return tr_html('<h3>Your runs, side by side</h3><ol class="msn-runs">{}</ol>').format(made)


# -------------------------------------------------------------------------------------------------------------- the tab


def build(app: App) -> tuple[gr.Timer, Callable[[Call], bool]]:
    """Build and wire the section; returns its clock, and whether the clock must start on a page that was loaded
    again: then the page shows the visitor's runs instead of the recording."""
    desk, before = Desk(), recorded()

    def news(visit: Visit) -> tuple[Any, ...]:
        """What differs when the page has something new to show."""
        run, kept = desk.look(visit), visit.state(TrainingState)
        return kept.opened, desk.waiting(visit), run and (run.began, len(run.told), run.ended)

    def look(call: Call) -> Any:
        """Called once a second: update what changed. On a page that was loaded again the boxes are those of the run."""
        last = call.visit.on_page(OnPage).news
        if last == news(call.visit):
            return SKIP
        return shown(call) | ({} if last else boxes(call.visit))

    def boxes(visit: Visit) -> dict[str, Any]:
        """The boxes as they were for the run that the page shows."""
        switches = desk.switches(visit)
        return {} if switches is None else {name: gr.update(value=on) for name, on in asdict(switches).items()}

    def shown(call: Call) -> dict[str, Any]:
        """What the page shows of this visitor's runs. What it showed before, the recording at first, stays until a
        run has a frame."""
        visit, page = call.visit, call.visit.on_page(OnPage)
        page.news = news(visit)
        run, waiting, kept = desk.look(visit), desk.waiting(visit), visit.state(TrainingState)
        active = waiting is not None or (run is not None and not run.ended)
        one = kept.shown
        if waiting is not None:
            strip = ready(*line_of(*waiting))
        elif run is not None and not run.ended and not run.frames:
            strip = ready(tr(STARTING))
        elif one is not None and not one.frames:
            strip = html.notice(sentence(one))
        else:
            strip = Markup()
        answer = {
            "strip": strip,
            "cards": cards(kept.kept, one),
            "clock": gr.Timer(active=active),
            "begin": gr.update(interactive=not active),
            "end": gr.update(visible=active),
        }
        if one is None or not one.frames:
            return answer
        film = one.began, len(one.frames)
        if page.film != film:
            page.film = film
            answer["reel"] = training_film.reel(one)
        words = html.sentence(sentence(one), said=bool(one.ended))  # while it runs, it changes every two seconds
        return {**answer, "words": words, "charts": charts(one, kept.kept)}

    def start(call: Call, masking: bool, sinkhorn: bool, me_max: bool) -> dict[str, Any]:
        desk.ask(call.visit, Switches(bool(masking), bool(sinkhorn), bool(me_max)))
        return shown(call)

    def stop(call: Call) -> dict[str, Any]:
        desk.stop(call.visit)
        return shown(call)

    def open_run(call: Call) -> dict[str, Any]:
        """A card was clicked: show that run, and the boxes as they were for it."""
        call.visit.state(TrainingState).opened = choice(call.chosen("letter"), "run", LETTERS)
        return shown(call) | boxes(call.visit)

    def comes_back(call: Call) -> bool:
        fresh = not call.visit.on_page(OnPage).news
        return fresh and (bool(call.visit.state(TrainingState).kept) or desk.waiting(call.visit) is not None)

    with gr.Column(elem_id="watch", elem_classes="msn-watch"):
        gr.HTML(tr_html('<h2 class="msn-watch-title">Watch it learn</h2>'))
        notice = app.notice()
        with gr.Row(elem_classes="msn-switches"):
            masking = gr.Checkbox(True, label=tr("Masking"), info=tr(MASKING))
            sinkhorn = gr.Checkbox(True, label=tr("Sinkhorn"), info=tr(SINKHORN))
            me_max = gr.Checkbox(True, label=tr("me-max"), info=tr(ME_MAX))
        with gr.Row():
            begin = gr.Button(tr("Train it now"), variant="primary", elem_classes="msn-train")
            end = gr.Button(tr("Stop"), visible=False, elem_classes="msn-quiet-button")
        strip = gr.HTML(elem_id="watch-ready")
        words = gr.HTML(html.sentence(invitation(before), said=False), elem_id="watch-said")
        with gr.Row(elem_classes="msn-watched"):
            gr.HTML(training_film.player(), js_on_load=training_film.SCRIPT, elem_id="watch-map")
            drawn = gr.HTML(charts(before), elem_id="watch-charts")
        reel = gr.HTML(training_film.reel(before), js_on_load=training_film.REEL, elem_classes="msn-brush")
        compared = gr.HTML(js_on_load=CARDS, elem_id="watch-runs")
        clock = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    outputs = {
        "strip": strip,
        "words": words,
        "reel": reel,
        "charts": drawn,
        "cards": compared,
        "clock": clock,
        "begin": begin,
        "end": end,
        "masking": masking,
        "sinkhorn": sinkhorn,
        "me_max": me_max,
    }
    quiet: dict[str, Any] = {"notice": notice, "show_progress": "hidden", "queue": False}
    app.on(begin.click, start, [masking, sinkhorn, me_max], outputs, **quiet)
    app.on(end.click, stop, [], outputs, **quiet)
    app.on(clock.tick, look, [], outputs, **quiet)
    app.on(compared.click, open_run, [], outputs, **quiet)
    # with Sinkhorn nothing collapses even without me-max, so there would be nothing to see
    me_max.input(lambda on: gr.skip() if on else False, [me_max], [sinkhorn], queue=False, api_visibility="private")
    return clock, comes_back
