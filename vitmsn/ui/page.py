"""The page: header, tabs, the panel About, status line."""

from __future__ import annotations

from copy import copy
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
from gradio.themes import Base
from markupsafe import Markup

from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.errors import ViTMSNError
from vitmsn.ui import zero_gpu
from vitmsn.ui.app import SKIP, App
from vitmsn.ui.attention import tab as attention
from vitmsn.ui.blocks import Page
from vitmsn.ui.classify import tab as classify
from vitmsn.ui.classroom import dialog as classroom
from vitmsn.ui.classroom.room import Room
from vitmsn.ui.explore import tab as explore
from vitmsn.ui.fair_queue import OPEN
from vitmsn.ui.fewshot import tab as fewshot
from vitmsn.ui.learn import tab as learn
from vitmsn.ui.locale import later, tr, tr_said
from vitmsn.ui.masking import tab as masking
from vitmsn.ui.models import GIVEN, Models
from vitmsn.ui.page_scripts import ABOUT, FORGET_VISIT, HEADER, KEEP_IN_ADDRESS, PAGE_LOADED, PAGE_OPENS
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.scripts import run
from vitmsn.ui.status import status_line
from vitmsn.ui.visits import INACTIVE, OWN, Call, Visit, Visitors, keep_picture

TITLE = later("ViT-MSN: look inside an AI that learned to see from half-hidden pictures")
TABS = (
    ("classify", later("Classify"), classify.build),
    ("attention", later("Attention"), attention.build),
    ("masking", later("Masking"), masking.build),
    ("fewshot", later("Few-shot"), fewshot.build),
    ("explore", later("Explore"), explore.build),
    ("learn", later("Learn"), learn.build),
)
NOT_IN_THIS_LINK = {
    ("picture",): later("The sender's own picture is not in this link."),
    ("set",): later("The sender's own set is not in this link."),
    ("picture", "set"): later("The sender's own picture and set are not in this link."),
}
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


PRIVACY = later(
    "Your pictures are for this visit only. They stay in this server's memory; the file your browser sends is deleted "
    "{upload} minutes after it was read, everything else {leave} minutes after you close the page, or after "
    "{visit} minutes without a click. Until then they come "
    "back when you load the page again in the same tab. Nothing is kept, nothing is sent elsewhere."
)


def theme() -> Base:
    """One accent, system fonts, no request to anywhere. The rest of the look is in the .css files beside this one."""
    quiet = {"block_border_width": "0px", "block_shadow": "none", "block_background_fill": "transparent"}
    return Base(
        primary_hue="indigo",
        neutral_hue="slate",
        spacing_size="md",
        radius_size="md",
        text_size="md",
        font=FONTS,
        font_mono=MONO,
    ).set(
        **quiet,
        **{f"{name}_dark": value for name, value in quiet.items()},
        body_background_fill="#ffffff",
        body_background_fill_dark="#12141a",
        body_text_color="#1c2030",
        body_text_color_dark="#e8eaf1",
        body_text_color_subdued="#5b6275",
        body_text_color_subdued_dark="#a3a9ba",
        button_primary_background_fill="*primary_600",  # 500 has too little contrast with white words
        button_primary_background_fill_dark="*primary_600",
        background_fill_primary_dark="#12141a",
        background_fill_secondary="#f4f5f9",
        background_fill_secondary_dark="#1c1f29",
        input_background_fill="#f4f5f9",
        input_background_fill_dark="#1c1f29",
        color_accent="#4f46e5",
        block_label_text_color="#5b6275",
        block_label_text_color_dark="#a3a9ba",
        block_title_text_color="#5b6275",
        block_title_text_color_dark="#a3a9ba",
        border_color_primary="#e5e7ee",
        border_color_primary_dark="#2a2e3a",
    )


def build(models: Models | None = None, room: Room | None = None, host: str = "") -> App:
    """The whole page, not yet served: `.page` is Gradio's.

    Args:
        room: the class, where there is one; `host` is then the address that the server listens on.
    """
    models = models or Models()
    visitors = Visitors(models.default)
    with Page(title=tr(TITLE), analytics_enabled=False, delete_cache=(600, limits.VISIT_SECONDS)) as page:
        with gr.Row(elem_classes="msn-header"):
            gr.HTML(html.header(), js_on_load=HEADER, elem_classes="msn-brand", min_width=240)
            model = gr.Dropdown(
                models.choices,
                value=models.default,
                label=tr("Model"),
                filterable=False,
                elem_id="model",
                min_width=240,
            )
            door = classroom.door() if room is not None else None
            about = gr.HTML(js_on_load=ABOUT, elem_id="about", min_width=0)
        top = gr.HTML(html.notice(models.warning), elem_classes="msn-notice-line")
        status = gr.HTML(elem_classes="msn-foot", render=False)
        with gr.Tabs(elem_id="work", elem_classes="msn-tabs", selected=TABS[0][0], overflow_behavior="wrap") as tabs:
            app = App(page, models, visitors, model=model, status=status, tabs=tabs)
            for name, label, tab in TABS:
                with gr.Tab(tr(label), id=name, elem_id=f"tab-{name}") as app.items[name]:
                    gr.HTML(Markup("<h2>{}</h2>").format(tr(label)), elem_classes="msn-tab-name")  # for screen readers
                    tab(app)
        status.render()
        app.connect()
        _answer_first(app)
        about.value = _about(models, models.default)  # what computes is known once the first answer was made
        _wire_model(app, top, about)
        _wire_forget(app, about)
        _wire_load(page, app, top)
        if room is not None and door is not None:
            classroom.connect(app, room, host, door)
    return app


def _answer_first(app: App) -> None:
    """Put the answer that most visitors see first into the page itself: first tab, first example, first model.

    The page then opens with it, without a forward and whatever the queue is doing. A visit that opens with anything
    else, as a link may say, is answered as always (`_wire_load`).
    """
    tab, example, key = TABS[0][0], examples.photographs()[0], app.models.default
    if app.models.loaded(key) is None or (zero_gpu.ACTIVE and key == GIVEN):  # a GPU is borrowed for visitors only
        return
    visit, entry = Visit("", key, tab), app.answers[tab]
    keep_picture(visit, example.picture, example.name)
    call = Call(app.models, visit, tab)
    try:
        values = entry.fn(call)
    except ViTMSNError:
        return  # each visitor is told
    for block, value in zip(entry.outputs, values, strict=True):
        if isinstance(value, str):
            block.value = value
    app.status.value = status_line(app.models, call)
    visit.shown[tab] = app.stamp(visit, entry)
    app.opens_with = visit


def _wire_model(app: App, top: gr.HTML, about: gr.HTML) -> None:
    """On a new model: open it (the old one stays when that fails), then answer the open tab again.

    A model of the Hub that a link names is opened once the page shows something, as its download may take minutes.
    """

    def want(key: str, request: gr.Request) -> None:
        """Outside the queue and at once: whoever chooses another model waits for the last one no longer."""
        app.visitors.of(request.session_hash).wanted = str(key)

    def choose(call: Call, key: str) -> Any:
        visit = call.visit
        visit.wanted = key
        try:
            for far in app.models.follow(key, lambda: visit.wanted == key and not call.gone):
                call.downloads(app.models.name(key), far)
            if visit.wanted != key or call.gone:
                return SKIP
            visit.model = key
        except ViTMSNError as error:
            kept = app.models.name(visit.model)
            call.message = tr("{error} The model stays {name}.", error=tr_said(str(error)), name=kept)
        return visit.model, _about(app.models, visit.model)

    def choose_linked(call: Call) -> Any:
        return choose(call, call.visit.link.get("model", ""))

    linked = gr.Button(visible="hidden", elem_id="open-model")
    outputs = [app.model, about]
    shown: dict[str, Any] = {"show_progress": "full", "show_progress_on": [top], **OPEN}
    app.refill(app.on(app.model.input, choose, [app.model], outputs, notice=top, **shown).then)
    app.model.input(want, [app.model], None, queue=False, api_visibility="private", show_progress="hidden")
    app.refill(app.on(linked.click, choose_linked, [], outputs, notice=top, **shown).then)
    app.model.change(None, [app.model], js=run(KEEP_IN_ADDRESS, "model"), api_visibility="private")


def _wire_forget(app: App, about: gr.HTML) -> None:
    """The button in About that deletes the visit at once."""

    def forget(request: gr.Request) -> None:
        app.visitors.forget(request.session_hash)

    asked: Any = getattr(about, "forget")  # noqa: B009 (an event of its script)
    app.at_once(asked, forget, []).then(None, js=FORGET_VISIT, api_visibility="private")


def _wire_load(page: gr.Blocks, app: App, top: gr.HTML) -> None:
    """When the page opens, apply the link's tab, example, model and settings; unknown values are ignored."""

    def load(call: Call, search: str, ticket: str) -> list[object]:
        query = dict(parse_qsl(str(search)[: limits.LINK_LENGTH].lstrip("?"), keep_blank_values=True))
        visit = call.visit = app.visitors.resume(call.visit.key, str(ticket))
        visit.link = query
        visit.shown.clear()  # a page that came back shows nothing yet
        visit.page.clear()
        if query.get("tab") in app.items:
            visit.tab = query["tab"]
        example = examples.photographs()[0]
        try:
            if "model" in query and not app.models.is_far(query["model"]):
                app.models.get(query["model"])
                visit.model = query["model"]
            if query.get("example", OWN) != OWN:
                example = examples.by_name(query["example"])
        except ViTMSNError as error:
            call.message = tr("{error} The link was followed without it.", error=tr_said(str(error)))
        if not visit.begun:
            visit.greeting = _greeting(query, ticket)
        if query.get("example") == OWN and visit.own is not None:
            keep_picture(visit, visit.own)
        elif not visit.begun or query.get("example", OWN) != OWN:
            keep_picture(visit, example.picture, example.name)
        values = []
        for name, link in app.links.items():
            try:
                values.append(link.check(query[name]) if name in query else gr.skip())
            except ValueError:
                values.append(gr.skip())
        call.tab = visit.tab
        first, own = app.opens_with, visit.kept or visit.greeting
        if first and not own and first.shown == {visit.tab: app.stamp(visit, app.answers[visit.tab])}:
            visit.shown, visit.page = dict(first.shown), {kind: copy(one) for kind, one in first.page.items()}
        far = query["model"] if app.models.is_far(query.get("model", "")) else ""
        return [visit.tab, visit.ticket, far, gr.Tabs(selected=visit.tab), visit.model, *values]

    tab, ticket, far = (gr.Textbox(visible="hidden") for _ in range(3))
    outputs = [tab, ticket, far, app.tabs, app.model, *(link.component for link in app.links.values())]
    # outside the queue, so that many people opening the page at once are not refused
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
    opened = app.on(page.load, load, [tab, ticket], outputs, notice=top, js=PAGE_OPENS, **quiet)
    opened.then(None, [tab, ticket, far], js=PAGE_LOADED, api_visibility="private")


def _greeting(query: dict[str, str], ticket: str) -> str:
    """What to say of own pictures that the address speaks of and this visit does not have."""
    missing = tuple(what for name, what in (("example", "picture"), ("set", "set")) if query.get(name) == OWN)
    if not missing:
        return ""
    return INACTIVE if ticket else NOT_IN_THIS_LINK[missing]


def _about(models: Models, key: str) -> Markup:
    """About: which model runs, on which device, the limits, and what happens to pictures."""
    facts = [(tr("Model"), models.name(key))]
    encoder = models.loaded(key)
    if encoder is not None:
        height, width = encoder.input_size
        patch = " × ".join(str(side) for side in dict.fromkeys(encoder.patch_size))
        facts += [
            (tr("Input"), tr("{height} × {width} px, patches of {patch} px", height=height, width=width, patch=patch)),
            (tr("Device"), str(encoder.device)),
            (tr("Precision"), precision(encoder)),
            (tr("Computed by"), "OpenVINO" if encoder.engine == "openvino" else "PyTorch"),
            (
                tr("Classes"),
                f"{len(encoder.labels)}" if encoder.has_classifier else tr("none: this model has no classifier"),
            ),
        ]
    bounds = [
        (
            tr("One picture"),
            tr(
                "{size} MB, {pixels} megapixels",
                size=limits.MAX_IMAGE_BYTES // limits.MIB,
                pixels=limits.MAX_PIXELS // 1_000_000,
            ),
        ),
        (
            tr("One zip"),
            tr(
                "{size} MB, {many} files",
                size=limits.MAX_ARCHIVE_BYTES // limits.MIB,
                many=limits.MAX_ARCHIVE_ENTRIES,
            ),
        ),
        (
            tr("Your examples"),
            tr(
                "{many} in {classes} classes",
                many=limits.MAX_EXAMPLES,
                classes=limits.MAX_CLASSES,
            ),
        ),
        (
            tr("One request"),
            tr(
                "{pixels} megapixels, {many} pictures",
                pixels=limits.REQUEST_PIXELS // 1_000_000,
                many=limits.MAX_QUERIES,
            ),
        ),
        (
            tr("At once"),
            tr(
                "{many} requests, {slow} of them long",
                many=limits.VISITOR_JOBS,
                slow=limits.VISITOR_SLOW_JOBS,
            ),
        ),
        (tr("One job"), f"{limits.JOB_SECONDS} s"),
    ]
    privacy = tr(
        PRIVACY,
        upload=limits.UPLOAD_SECONDS // 60,
        leave=limits.LEAVE_SECONDS // 60,
        visit=limits.VISIT_SECONDS // 60,
    )
    return html.about(facts, bounds, privacy, examples.credit())


def precision(encoder: Encoder) -> str:
    return str(encoder.dtype).removeprefix("torch.")
