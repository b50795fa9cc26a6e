"""Classify: what is on the picture, on several pictures, and what the model can recognize at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import gradio as gr
import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import limits
from vitmsn.classification import REGRESSION, Classification
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError, MissingHeadError
from vitmsn.image import Picture
from vitmsn.ui.app import App
from vitmsn.ui.classify.kinds import in_words, spoken
from vitmsn.ui.locale import ENGLISH, Retold, current, later, tr, tr_html, tr_number, tr_said
from vitmsn.ui.shared import html
from vitmsn.ui.shared.checks import whole
from vitmsn.ui.shared.endpoints import Parameter, PictureFile
from vitmsn.ui.shared.photo import Files, check_total, read_picture
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.visits import Call

SHOWN = 5  # answers on the page, and in each row of the table
STEP = 16  # pictures in memory at once
FACE = 64  # pixels of a thumbnail in the table
PEOPLE = {"person", "people", "human", "man", "woman", "boy", "girl"}
Tried = tuple[str, "Image.Image | None", "Classification | None", str]  # name, thumbnail, answer, why there is none
NO_HEAD = later("No names to show: {name} has no classifier.")
STILL = later(
    "It still turns pictures into embeddings, and those are enough to teach it classes of your own from a few examples."
)

SEARCH = script(__file__, "class_filter.js", "class_list.js")


@dataclass
class ClassifyState:
    table: Retold | None = None  # the answers to several pictures

    @property
    def nbytes(self) -> int:
        return self.table.nbytes if self.table else 0


@dataclass
class ClassifyOnPage:
    listed: str = ""  # the model whose classes the page shows
    table: Retold | None = None  # the table that it shows


# ------------------------------------------------------------------------------------------------------ one picture


class ClassifyPage(NamedTuple):
    """The outputs for one picture."""

    sentence: str
    bars: str
    about: str  # the model and its limits
    code: str
    table: Any  # of several pictures; sent only to a page that was loaded again
    classes: Any  # sent only when the model changed


def answer(call: Call) -> ClassifyPage:
    """Everything on the tab for the visitor's picture."""
    encoder, picture = call.encoder, call.picture
    code = html.in_python("from vitmsn import Encoder", call.python, _call(picture, call.visit.example))
    known, table = _once(call), _table_again(call)
    if encoder.problem_type is None:
        return ClassifyPage(html.sentence(tr(NO_HEAD, name=call.name)), "", html.hint(tr(STILL)), "", table, known)
    [result] = encoder.classify([picture], top_k=SHOWN)
    rows = list(zip(result.labels, result.probabilities, strict=True))
    bars = html.bars(rows, quiet=not result.sure) if encoder.has_classifier else ""  # a number has no bar
    return ClassifyPage(html.sentence(tr_said(spoken(result).sentence())), bars, modesty(call), code, table, known)


def _call(picture: Picture, example: str) -> str:
    name = picture.name if not example else f"{example}.png"
    return f"print(encoder.classify([{name!r}], top_k={SHOWN})[0].sentence())"


def modesty(call: Call) -> Markup:
    """What this model knows and its limits, in one line."""
    encoder = call.encoder
    trained = encoder.card.get("trained_on", "")
    height, width = encoder.input_size
    many = len(encoder.labels)
    if height <= 64:
        small = (
            tr("A small model: it knows {many} things and sees {height} × {width} pixels, so expect mistakes.")
            if encoder.has_classifier
            else tr("A small model: it gives {many} numbers and sees {height} × {width} pixels, so expect mistakes.")
        )
        middle = tr(" It looks at the middle of a picture.") if encoder.processor.crop is not None else ""
        return html.hint(small.format(many=many, height=height, width=width) + middle + language())
    large = (
        tr("{name} knows {many} things and sees {height} × {width} pixels{trained}.")
        if encoder.has_classifier
        else tr("{name} gives {many} numbers and sees {height} × {width} pixels{trained}.")
    )
    trained = tr(", trained on {pictures}", pictures=trained) if trained else ""
    words = large.format(name=call.name, many=many, height=height, width=width, trained=trained)
    return html.hint(words + language())


def language() -> str:
    """Why the classes are not in the language of the page; nothing where they are."""
    return "" if current() == ENGLISH else tr(" The names of the classes are English, as in the training data.")


def _once(call: Call) -> Any:
    """The list of classes, sent again only when the model changed, so that a search being typed stays."""
    shown = call.visit.on_page(ClassifyOnPage)
    if shown.listed == call.visit.model:
        return gr.skip()
    shown.listed = call.visit.model
    return classes(call.encoder, call.name)


def _table_again(call: Call) -> Any:
    """The answers to several pictures, for a page that was loaded again."""
    kept, shown = call.visit.state(ClassifyState).table, call.visit.on_page(ClassifyOnPage)
    if shown.table == kept:
        return gr.skip()
    shown.table = kept
    return Markup(kept.text if kept else "")


def classes(encoder: Encoder, name: str) -> Markup:
    """The searchable list of what the model can recognize, with the kind beside each class."""
    if not encoder.has_classifier:
        return html.hint(tr("{name} has no classifier, so it recognizes nothing by name.", name=name))
    wider: dict[str, list[str]] = {}
    for kind, labels in encoder.card.get("kinds", {}).items():
        for label in labels:
            wider.setdefault(label, []).append(kind)
    items = Markup().join(_class(label, wider.get(label, [])) for label in sorted(encoder.labels, key=str.casefold))
    nobody = not any(PEOPLE & set(label.lower().split()) for label in encoder.labels)
    note = tr("There is no class for a person: a face gets whatever looks closest, or 'not sure'.") if nobody else ""
    total = len(encoder.labels)
    return tr_html(
        '<div class="msn-classes"><input type="search" aria-label="Search the classes" '
        'placeholder="Search {} classes"><p role="status" data-total="{}">{} classes</p>'
        '{}<ul tabindex="0" aria-label="Classes">{}</ul></div>'
    ).format(total, total, total, html.hint(note), items)


def _class(label: str, kinds: list[str]) -> Markup:
    """A class and its kinds; both languages find it."""
    here = list(map(in_words, kinds))
    words = " ".join([label, *dict.fromkeys(kinds + here)]).lower()
    return Markup('<li data-words="{}">{}<small>{}</small></li>').format(
        html.text(words), html.text(label), html.text(", ".join(here))
    )


# -------------------------------------------------------------------------------------------------- several pictures


def many(call: Call, paths: list[str] | None) -> Markup:
    """A table with an answer for every picture and a CSV link; an unreadable file gets a row with the reason."""
    if not paths:
        return _shown(call, None)
    if len(paths) > limits.MAX_QUERIES:
        raise InputError(
            tr(
                "These are {many} files and {most} go at once; send fewer.",
                many=len(paths),
                most=limits.MAX_QUERIES,
            )
        )
    check_total(paths)
    encoder = call.encoder
    if encoder.problem_type is None:
        raise MissingHeadError(f"{tr(NO_HEAD, name=call.name)} {tr(STILL)}")
    rows: list[Tried] = []
    for start in range(0, len(paths), STEP):
        some = tried(call, paths, start)
        results = iter(encoder.classify([p for _, p, _ in some if p is not None], top_k=SHOWN))
        for name, picture, reason in some:
            face = picture.thumbnail(FACE) if picture else None  # the table needs only this
            rows.append((name, face, next(results) if picture else None, reason))
    call.progress(len(paths), len(paths))
    return _shown(call, Retold(lambda: _table(rows) + _download(rows)))


def _shown(call: Call, table: Retold | None) -> Markup:
    """Remember what the page shows now."""
    call.visit.state(ClassifyState).table = call.visit.on_page(ClassifyOnPage).table = table
    return Markup(table.text if table else "")


def tried(call: Call, paths: list[str], start: int) -> list[tuple[str, Picture | None, str]]:
    """The next STEP pictures as (name, picture, why there is none); checks for Stop and the time limit before each."""
    found = []
    for done, path in enumerate(paths[start : start + STEP], start):
        call.progress(done, len(paths))
        found.append(_try(path))
    return found


def _try(path: str) -> tuple[str, Picture | None, str]:
    try:
        picture = read_picture(path)
        return picture.name, picture, ""
    except ImageError as error:
        return Path(path).name, None, str(error)


def _table(rows: list[Tried]) -> Markup:
    body = Markup().join(_row(*row) for row in rows)
    head = tr_html('<th scope="col" aria-label="Picture"></th>')
    head += Markup().join(
        Markup('<th scope="col">{}</th>').format(name) for name in (tr("File"), tr("Answer"), tr("Closest match"))
    )
    return Markup('<table class="msn-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(head, body)


def _row(name: str, picture: Image.Image | None, result: Classification | None, reason: str) -> Markup:
    if picture is None or result is None:
        cells = Markup('<td></td><td>{}</td><td colspan="2">{}</td>').format(
            html.text(name, 40), html.text(tr_said(reason))
        )
        return Markup('<tr class="msn-refused">{}</tr>').format(cells)
    first = result.probabilities[0]
    figure = tr_number(f"{first:.4g}") if result.problem_type == REGRESSION else html.percent(first)
    return Markup("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>").format(
        html.img(picture, name),
        html.text(name, 40),
        html.text(tr_said(spoken(result).named())),
        f"{result.labels[0]} ({figure})",
    )


def _download(rows: list[Tried]) -> Markup:
    """A link that contains the CSV itself: nothing is written on the server."""
    head = ["file", "answer", "kind", "kind probability"]
    numbers = any(result is not None and result.problem_type == REGRESSION for _, _, result, _ in rows)
    for place in range(1, SHOWN + 1):
        head += [f"class {place}", f"{'value' if numbers else 'probability'} {place}"]
    lines: list[list[object]] = []
    for name, _, result, reason in rows:
        if result is None:
            lines.append([name, reason, "", ""])
            continue
        kind = [result.kind, round(result.kind_probability, 6)] if result.kind else ["", ""]
        line: list[object] = [name, result.named() if result.sure else "not sure", *kind]
        for label, value in zip(result.labels, result.probabilities, strict=True):
            line += [label, round(value, 6)]
        lines.append(line)
    return html.csv_link("classified.csv", head, lines)


# --------------------------------------------------------------------------------------------------------- endpoints


def classify(
    call: Call, image: PictureFile, top_k: Annotated[int, Parameter("Number of classes", 1, 1000)] = 5
) -> dict[str, Any]:
    """Say what is on a picture, in the model's classes. It has none for people.

    Args:
        image: the picture.
        top_k: how many of the most probable classes to name.

    Returns:
        Answer: `label`, the class (null, with the `reason` "not sure", where none is probable enough); `closest`, the
            most probable class, and its calibrated `probability` from 0 to 1; `kind`, a wider name where only that is
            probable, and `kind_probability`; `labels`, the `top_k` most probable classes, best first, each with its
            `probability`; and the whole as a `sentence`.
    """
    encoder = call.encoder
    [result] = encoder.classify([_required(image)], top_k=whole(top_k, "top_k", 1, 1000))
    return result.to_dict()


def embed(call: Call, images: Annotated[list[str], Parameter("Pictures", file="cat.jpg")]) -> dict[str, Any]:
    """Turn pictures into embeddings, vectors whose cosine similarity is high where pictures are alike.

    Args:
        images: the pictures.

    Returns:
        Answer: `embeddings`, a vector of `dim` numbers for each picture, in the order of `files`; `skipped`, the files
            that are no pictures, each with the `reason`; and `model`, its name.
    """
    if not images:
        raise InputError("No files came; send at least one picture.")
    if len(images) > limits.MAX_QUERIES:
        raise InputError(f"These are {len(images)} files and {limits.MAX_QUERIES} go at once; send fewer.")
    check_total(images)
    encoder = call.encoder
    files: list[str] = []
    skipped: list[dict[str, str]] = []
    parts: list[np.ndarray] = []
    for start in range(0, len(images), STEP):
        some = tried(call, images, start)
        pictures = [picture for _, picture, _ in some if picture is not None]
        files += [picture.name for picture in pictures]
        skipped += [{"file": name, "reason": reason} for name, picture, reason in some if picture is None]
        parts.append(encoder.embed(pictures))
    if not files:
        raise ImageError(skipped[0]["reason"])
    vectors = np.concatenate(parts)
    return {
        "model": call.name,
        "dim": int(vectors.shape[1]),
        "embeddings": vectors.tolist(),
        "files": files,
        "skipped": skipped,
    }


def _required(path: str | None) -> Picture:
    if path is None:
        raise InputError("No picture came; send one as `image`.")
    return read_picture(path)


# --------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    with gr.Row(elem_classes="msn-columns"):
        with gr.Column(elem_classes="msn-left"):
            app.picture("classify")
        with gr.Column(elem_classes="msn-right"):
            said = gr.HTML()
            bars = gr.HTML()
            teach = gr.Button(tr("Teach it your own classes →"), elem_classes="msn-quiet-button")
            about = gr.HTML()
            code = gr.HTML()
    with gr.Accordion(tr("Several pictures at once"), open=False, elem_id="classify-several-fold"):
        files = Files(
            file_count="multiple",
            label=tr("Pictures"),
            height=160,
            elem_classes="msn-files",
        )
        line = app.notice()
        stop = gr.Button(tr("Stop"), elem_classes=["msn-quiet-button", "msn-stop"])
        table = gr.HTML(elem_id="classify-several")
    with gr.Accordion(tr("What it can recognize"), open=False, elem_id="classify-known-fold"):
        known = gr.HTML(js_on_load=SEARCH)
    page = {"sentence": said, "bars": bars, "about": about, "code": code, "table": table, "classes": known}
    app.answer("classify", answer, [], page, stays=(about, table, known))
    app.on([files.delete, files.clear], many, [files], [table], notice=line, long=True, show_progress="full")
    tried_all = app.on(files.upload, many, [files], [table], notice=line, long=True, show_progress="full")
    app.reveal(tried_all, "classify-several")
    app.go(teach, "fewshot")
    app.stop(stop)
    app.endpoint("classify", classify)
    app.endpoint("embed", embed, long=True)
