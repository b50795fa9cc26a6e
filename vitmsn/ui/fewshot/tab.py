"""Few-shot: teach your own classes in three steps on one page: give examples, judge them, try it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from markupsafe import Markup

from vitmsn import archive, bundle, gallery, limits
from vitmsn.errors import FewShotError, ImageError, InputError
from vitmsn.gallery import Added, raw_pixels
from vitmsn.ui.app import App
from vitmsn.ui.fewshot import actions, answers, arrivals, camera, cards, downloads, report
from vitmsn.ui.fewshot.controls import DEFAULTS, FewShotControls
from vitmsn.ui.locale import later, tr, tr_count, tr_html, tr_said
from vitmsn.ui.page_scripts import KEEP_IN_ADDRESS
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.checks import linked_choice, linked_real, linked_whole, whole
from vitmsn.ui.shared.controls import bind
from vitmsn.ui.shared.endpoints import Parameter
from vitmsn.ui.shared.photo import UploadButton, check_total, read_picture, sent
from vitmsn.ui.shared.scripts import run, script
from vitmsn.ui.shared.workspace import METHODS, Workspace, learn, opened, version
from vitmsn.ui.visits import Call

SCRIPT, TRUST = script(__file__, "fewshot.js"), script(__file__, "fewshot.js", "large_matrix.js")
NEAREST = 3  # examples shown beside each answer
SLEPT = later("This page slept so long that your pictures were deleted; start again from here.")
PRIVACY = later(
    "Your pictures stay in this server's memory for your visit, and go "
    "{minutes} minutes after you close the page; loading it again brings them back. "
    "Nothing is kept, nothing is sent elsewhere."
)


class FewShotPage(NamedTuple):
    """The parts of the page that any change may update."""

    cards: str
    trust: str
    answers: str
    code: str


def answer(call: Call, asked: FewShotControls = DEFAULTS) -> FewShotPage:
    """Update all three steps."""
    with opened(call) as (workspace, encoder):
        settings = asked.checked()
        shown, code, ask = cards.cards(workspace), _python(call, settings), answers.asking(workspace)
        try:
            lesson = workspace.lesson(encoder, *settings)
        except FewShotError:
            return FewShotPage(shown, html.sentence(_missing(workspace)), ask, code)
        queries = workspace.queries.examples
        said = lesson.answer(workspace.queries.X, workspace.queries.pixels, NEAREST)
        answered = answers.answers(workspace, lesson, queries, said) if queries else ""
        trusted = report.trust(workspace, lesson, settings[0] != "auto")
        return FewShotPage(shown, trusted, ask + answered, downloads.beside(workspace, encoder, lesson) + code)


def start(call: Call, name: str, asked: FewShotControls = DEFAULTS) -> FewShotPage:
    """Load a starter set, or begin with two empty classes."""
    with opened(call) as (workspace, encoder):
        workspace.start(encoder, name, call.progress)
        return answer(call, asked)


def add_class(call: Call, name: str, asked: FewShotControls = DEFAULTS) -> dict[str, Any]:
    """Add an empty class, and empty the text box."""
    if not version(call.visit):
        call.message = tr(SLEPT)
        return answer(call, asked)._asdict()
    with opened(call) as (workspace, _):
        workspace.name_class(name)
        return {"name": "", **answer(call, asked)._asdict()}


def unzip(call: Call, path: str | None, asked: FewShotControls = DEFAULTS) -> dict[str, Any]:
    """Read a zip: pictures in one folder per class, or a saved set with its settings.

    Returns updates by name: the controls' values, and the page.
    """
    if path is None:
        raise InputError(tr("No zip came; choose one whose folders are the classes."))
    if bundle.is_bundle(path):
        return _reopen(call, path, asked)
    entries = archive.read_zip(path)
    with opened(call) as (workspace, encoder):
        added = workspace.unpack(encoder, entries, call.progress)
        arrivals.tell(call, added, [], added.notes)
        return answer(call, asked)._asdict()


def _reopen(call: Call, path: str, asked: FewShotControls) -> dict[str, Any]:
    """Open a saved set with the classifier saved in it and the model chosen now."""
    with opened(call) as (workspace, encoder):
        saved = bundle.read(path, call.progress)
        said, wanted = [], asked
        if saved.fingerprint != encoder.fingerprint:
            saved.re_embed(encoder, call.progress)
            said.append(tr("This set was saved with another model; its pictures were embedded again with this one."))
        saved.check_model(encoder)
        try:
            wanted = _saved(saved.settings, asked)
        except InputError as error:
            said.append(
                tr(
                    "It is judged with your own settings, because the saved ones cannot be used here. {error}",
                    error=tr_said(str(error)),
                )
            )
        workspace.reopen(encoder, saved)
        call.message = " ".join(said)
        return {**asdict(wanted), **answer(call, wanted)._asdict()}


def _saved(kept: dict[str, Any], now: FewShotControls) -> FewShotControls:
    """The controls' values as saved; those that were not saved keep their current value."""
    share = kept.get("caution", now.caution / 100)
    percent = round(100 * share, 6) if isinstance(share, float) else share
    method, k, temperature = (kept.get(name, getattr(now, name)) for name in ("method", "k", "temperature"))
    saved = FewShotControls(method=method, k=k, caution=percent, temperature=temperature)
    saved.checked()
    if percent > limits.MAX_CAUTION:
        raise InputError(
            tr(
                "The share is {percent:g} %; it must be from 0 to {most} %.",
                percent=percent,
                most=limits.MAX_CAUTION,
            )
        )
    return saved


def receive(call: Call, asked: FewShotControls = DEFAULTS) -> FewShotPage:
    """Add pictures dropped on a class."""
    if not version(call.visit):
        call.message = tr(SLEPT)
        return answer(call, asked)
    refused: list[str] = []
    notes: list[str] = []
    with opened(call) as (workspace, encoder):
        label = workspace.gallery.label(str(call.chosen("to")))
        added = workspace.add(encoder, label, arrivals.decoded(call, refused, notes))
        arrivals.tell(call, added, refused, notes)
        return answer(call, asked)


def ask(call: Call, asked: FewShotControls = DEFAULTS) -> FewShotPage:
    """Name new pictures."""
    refused: list[str] = []
    notes: list[str] = []
    with opened(call) as (workspace, encoder):
        twice = workspace.ask(encoder, arrivals.decoded(call, refused, notes), len(sent(call)))
        notes += [tr_count(twice, "{n} picture came twice", "{n} pictures came twice")] if twice else []
        arrivals.tell(call, Added(), refused, notes)
        return answer(call, asked)


def act(call: Call, asked: FewShotControls = DEFAULTS) -> FewShotPage:
    """Handle one of the small buttons on the page, or a new name for a class."""
    if not version(call.visit):
        call.message = tr(SLEPT)
        return answer(call, asked)
    what, id, text = (str(call.chosen(name) or "") for name in ("act", "id", "text"))
    with opened(call) as (workspace, encoder):
        if what in actions.CHANGES:
            actions.CHANGES[what](call, workspace, id, text)
        elif what == "clear":
            workspace.clear_queries(encoder)
        elif what == "look":
            actions.look(workspace, encoder, id)
        elif what == "curve":
            actions.curve(workspace, workspace.lesson(encoder, *asked.checked()))
        else:
            raise InputError(tr("The page asked for something unknown; load it again."))
        return answer(call, asked)


def _missing(workspace: Workspace) -> str:
    filled = sum(1 for count in workspace.gallery.counts.values() if count)
    if not filled:
        return tr("Add pictures to two classes. It learns at once.")
    waiting = html.pictures(len(workspace.gallery))
    if filled == 1:
        return tr("{pictures} waiting: add a second class.", pictures=waiting)
    return tr("{pictures} waiting: let a second class count.", pictures=waiting)


def _python(call: Call, settings: tuple[str, int, float, float]) -> Markup:
    method, k, caution, temperature = settings
    asked = [] if method == "auto" else [f'"{method}"']
    asked += [f"k={k}, temperature={temperature:g}"] if method == "knn" else []
    asked += [f"caution={caution:g}"] if caution != 0.05 else []
    return html.in_python(
        "from vitmsn import Encoder, archive, fewshot, gallery, image",
        call.python,
        "examples = gallery.Gallery(encoder)",
        'examples.extend(archive.read_folder("folder of folders"), encoder)',
        f"lesson = fewshot.learn({', '.join(['examples.X, examples.y', *asked])},",
        "    feature_mean=encoder.feature_mean, pixels=examples.pixels)",
        "print(lesson.sentence())",
        'query = [image.decode("query.jpg")]',
        "print(lesson.answer(encoder.embed(query), gallery.raw_pixels(query))[0].sentence())",
    )


# ------------------------------------------------------------------------------------------------------------ endpoint


def few_shot(
    call: Call,
    support_zip: Annotated[str, Parameter("Examples", file="examples.zip")],
    queries: Annotated[list[str] | None, Parameter("Pictures to name", file="who.jpg")] = None,
    method: Annotated[str, Parameter("Method", choices=METHODS)] = "auto",
    k: Annotated[int, Parameter("Nearest examples", 1, limits.MAX_K)] = 5,
) -> dict[str, Any]:
    """Learn classes from a few examples each, and name other pictures with them.

    Args:
        support_zip: a zip with one folder of pictures for each class, or a set that was saved in this app.
        queries: the pictures to name; none if only the examples are to be judged.
        method: "auto" is "centroid" at one or two examples per class and "ridge" above, or "pixels" where the raw
            pixels do better; "knn" lets the `k` nearest examples vote; "logistic" is logistic regression.
        k: how many of the nearest examples vote with "knn", and are named for each query.

    Returns:
        Answer: `classes`, each with its number of `examples` and its `accuracy`; `leave_one_out`, how many examples
            the others name right, beside what guessing gets; `near_copies` among the examples; `predictions`, for each
            query its `label` (null with the `reason` "not sure", or "none of these", which is said from three pictures
            per class on), the `closest` class and its calibrated `probability`, all `probabilities`, its `distance` to
            the nearest example and the `limit` for it, the nearest examples as `neighbors`, and the whole as a
            `sentence`; `skipped`, the files that are no pictures, each with the `reason`; `notes`, `method` and
            `model`.
    """
    if not support_zip:
        raise InputError("No zip came; send one as `support_zip`, with one folder of pictures for each class.")
    k = whole(k, "k", 1, limits.MAX_K)
    paths = queries or []
    if len(paths) > limits.MAX_QUERIES:
        raise InputError(f"These are {len(paths)} queries and {limits.MAX_QUERIES} go at once; send fewer.")
    check_total(paths)
    encoder = call.encoder
    if bundle.is_bundle(support_zip):
        support, added = bundle.load(support_zip, encoder, re_embed=True, progress=call.progress), Added()
    else:
        support = gallery.Gallery(encoder)
        added = support.extend(archive.read_zip(support_zip), encoder, call.progress)
    try:
        lesson = learn(support, encoder.feature_mean, method, k)
    except FewShotError as error:
        left_out = arrivals.sentence(arrivals.told(added, [], added.notes))
        raise FewShotError(f"{error} Of the zip: {left_out}" if left_out else str(error)) from None
    names: list[str] = []
    rows, raw = [encoder.embed([])], [raw_pixels([])]
    refused = [{"file": skip.name, "reason": skip.reason} for skip in added.skipped]
    for done, path in enumerate(paths):  # one at a time: two hundred large pictures do not fit into memory together
        call.progress(done, len(paths), later("queries"))
        try:
            picture = read_picture(path)
        except ImageError as error:
            refused.append({"file": Path(path).name, "reason": str(error)})
            continue
        names.append(picture.name)
        rows.append(encoder.embed(picture))
        raw.append(raw_pixels([picture]))
    said = lesson.answer(np.concatenate(rows), np.concatenate(raw), k)
    return {
        "model": call.name,
        **lesson.to_dict(),
        "predictions": [{"file": name, **one.to_dict(lesson)} for name, one in zip(names, said, strict=True)],
        "skipped": refused,
        "notes": list(added.notes),
    }


# ----------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    def uploads(fn: Callable[..., Any]) -> Callable[..., Any]:
        """Files named inside an event count as uploads too, and are deleted with them."""

        @functools.wraps(fn)
        def read(call: Call, *values: Any) -> Any:
            try:
                return fn(call, *values)
            finally:
                paths = call.chosen("paths")
                for path in paths if isinstance(paths, list) else []:
                    if isinstance(path, str) and path.startswith(str(Path(get_upload_folder()).resolve())):
                        app.visitors.read_upload(Path(path))

        return read

    with gr.Row(elem_classes="msn-starters"):
        gr.HTML(tr_html('<p class="msn-hint">Start with</p>'), min_width=80)
        sets = [
            (known.name, gr.Button(tr(known.title), elem_classes="msn-quiet-button"))
            for known in examples.starter_sets()
        ]
        sets.append(("", gr.Button(tr("Your own pictures"), elem_classes="msn-quiet-button", elem_id="fewshot-own")))
    with gr.Row(elem_classes="msn-steps"):
        with gr.Column(min_width=280):
            gr.HTML(_step(1, tr("Examples")))
            line = app.notice()
            shown = gr.HTML(js_on_load=SCRIPT, elem_id="fewshot-examples")
            with gr.Row(elem_classes="msn-add-class"):
                name = gr.Textbox(
                    label=tr("New class"),
                    max_lines=1,
                    max_length=limits.MAX_NAME_LENGTH,
                    placeholder=tr("Name a class"),
                )
                add = gr.Button(tr("Add class"), elem_classes="msn-quiet-button")
            with gr.Row():
                zipped = UploadButton(
                    tr("Zip of folders, or a saved set"), file_types=[".zip"], elem_classes="msn-quiet-button"
                )
                stop = gr.Button(tr("Stop"), elem_classes=["msn-quiet-button", "msn-stop"])
            gr.HTML(html.hint(tr(PRIVACY, minutes=limits.LEAVE_SECONDS // 60)))
        with gr.Column(min_width=280):
            gr.HTML(_step(2, tr("Trust")))
            doubt = app.notice()
            trusted = gr.HTML(js_on_load=TRUST, elem_id="fewshot-trust")
            method = gr.Dropdown(
                [(tr(label), key) for key, label in METHODS.items()],
                value="auto", label=tr("Classifier"), filterable=False,
                info=tr("Automatic: centroids at one or two examples per class, ridge above, raw pixels where better."),
            )  # fmt: skip
            k = gr.Slider(
                1,
                limits.MAX_K,
                5,
                step=1,
                label=tr("k"),
                info=tr("How many of the nearest examples vote."),
                visible=False,
            )
            temperature = gr.Slider(
                0.01, 1, 0.07, step=0.01, label=tr("Temperature"), visible=False,
                info=tr("Of the vote: low, the nearest decides; high, all k count alike."),
            )  # fmt: skip
            with gr.Accordion(tr("More"), open=False, elem_id="fewshot-more"):
                caution = gr.Slider(
                    0, limits.MAX_CAUTION, 5, step=1,
                    label=tr('How easily it says "none of these", in %'),
                    info=tr(
                        "Share of your own examples that it may turn away; what is too far from all of them is none of "
                        "these."
                    ),
                )  # fmt: skip
        with gr.Column(min_width=280):
            gr.HTML(_step(3, tr("Try it")))
            failed = app.notice()
            controls = bind(FewShotControls, method=method, k=k, caution=caution, temperature=temperature)
            camera.build(app, controls)
            tried = gr.HTML(js_on_load=SCRIPT, elem_id="fewshot-try")
            gr.HTML(_step(4, tr("Take it away")))
            downloads.build(app, controls)
            code = gr.HTML()
    page = {"cards": shown, "trust": trusted, "answers": tried, "code": code}
    teach: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_id": "teach", "concurrency_limit": 4}
    here: dict[str, Any] = {"show_progress": "full", "show_progress_on": [shown]}
    there: dict[str, Any] = {"show_progress": "full", "show_progress_on": [tried]}
    app.answer("fewshot", answer, [controls], page, notice=line, stamp=version, **here)
    for key, button in sets:
        app.on(button.click, functools.partial(_start, key), [controls], page, notice=line, **teach)
        button.click(None, js=run(KEEP_IN_ADDRESS, "set", key), api_visibility="private")
    app.on([name.submit, add.click], add_class, [name, controls], {"name": name, **page}, notice=line, **teach)
    unzipped = app.on(zipped.upload, unzip, [zipped, controls], {**controls, **page}, notice=line, long=True, **here)
    app.reveal(unzipped, "fewshot-examples")
    app.on(shown.files, uploads(receive), [controls], page, notice=line, **here, **teach)
    asked = app.on(tried.files, uploads(ask), [controls], page, notice=failed, **there, **teach)
    app.reveal(asked, "fewshot-answers")
    for part, said in ((shown, line), (trusted, doubt), (tried, failed)):
        app.on(part.act, act, [controls], page, notice=said, **teach)
    app.on([method.input, k.input, caution.input, temperature.input], answer, [controls], page, notice=doubt)
    app.on(method.change, _ask_k, [method], [k, temperature], notice=doubt, show_progress="hidden")
    app.stop(stop)
    app.link("classifier", method, lambda text: linked_choice(text, METHODS))
    app.link("k", k, lambda text: linked_whole(text, 1, limits.MAX_K))
    app.link("caution", caution, lambda text: linked_whole(text, 0, limits.MAX_CAUTION))
    app.link("temperature", temperature, lambda text: linked_real(text, 0.01, 1))
    app.endpoint("few_shot", few_shot, long=True)


def _step(number: int, name: str) -> Markup:
    return Markup('<h2 class="msn-step"><span>{}</span>{}</h2>').format(number, name)


def _start(name: str, call: Call, asked: FewShotControls) -> FewShotPage:
    return start(call, name, asked)


def _ask_k(call: Call, method: str) -> Any:
    return [gr.update(visible=method == "knn")] * 2
