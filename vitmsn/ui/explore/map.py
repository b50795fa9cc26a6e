"""The map of Explore as HTML: how its points are painted, the canvas with its data, and the list beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vitmsn import draw, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError
from vitmsn.gallery import Example
from vitmsn.ui.locale import later, tr, tr_count, tr_html
from vitmsn.ui.shared import html
from vitmsn.ui.shared.workspace import SIDE, Workspace

COLORS = {"class": later("Class"), "probability": later("Probability"), "doubt": later("Mislabelled?")}
PICTURES = 400  # in the list beside the map; the others are sent when the pointer is on them
LARGE = 256  # pixels of the chosen picture,
MIDDLE = 128  # and of pictures in the list, when there are at most FEW
FEW = 200
DIM, STRANGE = "#8c8c8c", "#d55e00"  # colors of points not judged, and of points that may be mislabelled
Paint = tuple[str, str, str, str]  # fill, letter, the letter's color, what the color means


QUERY = later("query")  # a picture without a class
VIEWS = (
    ("in", later("Zoom in"), "+"),
    ("out", later("Zoom out"), "−"),
    ("left", later("Move left"), "←"),
    ("right", later("Move right"), "→"),
    ("up", later("Move up"), "↑"),
    ("down", later("Move down"), "↓"),
    ("whole", later("Show the whole map"), later("All")),
)


def tools() -> Markup:
    """What stands above the map: the search, the views, the size of the pictures."""
    view = Markup('<button type="button" class="msn-button" data-view="{}" title="{}" aria-label="{}">{}</button>')
    views = Markup().join(view.format(name, tr(words), tr(words), tr(sign)) for name, words, sign in VIEWS)
    return tr_html(
        '<div class="msn-tools"><input type="search" class="msn-select" data-search aria-label="Search by class or '
        'file name" placeholder="Class or file name"><span role="status" data-found></span>'
        '<span class="msn-zoom" role="group" aria-label="Zoom and move the map">{}</span>'
        '<label>Picture size <input type="range" data-size min="8" max="40" value="16"></label></div>'
    ).format(views)


def uncertainty(workspace: Workspace, encoder: Encoder, shown: Sequence[Example]) -> list[float | None]:
    """1 - the probability of each answer: examples as held out, queries as they are; None: not judged."""
    try:
        lesson = workspace.lesson(encoder, "auto", 5, 0.05)
    except FewShotError:
        return [None] * len(shown)
    judged, held = lesson.judged, len(workspace.gallery.enabled)
    best = judged.probabilities.max(axis=1)
    doubts = [1 - float(value) if known else None for value, known in zip(best, judged.judged, strict=True)]
    if len(shown) > held:
        said = lesson.answer(workspace.queries.X, workspace.queries.pixels)
        doubts += [1 - one.probability for one in said]
    return doubts


def painted(workspace: Workspace, encoder: Encoder, shown: Sequence[Example], color: str) -> tuple[list[Paint], str]:
    """The paint of each point, and the legend. Color is never the only sign: a letter says it too."""
    numbers = {label: i for i, label in enumerate(workspace.gallery.classes)}
    held = len(workspace.gallery.enabled)
    queries = tr_html('<li><span class="msn-letter msn-query">?</span> queries</li>') if len(shown) > held else ""
    if color == "class":
        paints = []
        for place, example in enumerate(shown):
            if place >= held:
                paints.append((DIM, "?", "#000", QUERY))
            else:
                tone, letter = draw.class_style(numbers[example.label])
                paints.append((tone, letter, html.ink(numbers[example.label]), ""))
        items = Markup().join(
            Markup("<li>{} {} <small>{}</small></li>").format(
                html.badge(i), html.text(label), workspace.gallery.counts[label]
            )
            for label, i in numbers.items()
        )
        return paints, Markup('<ul class="msn-legend">{}{}</ul>').format(items, queries)
    try:
        lesson = workspace.lesson(encoder, "auto", 5, 0.05)
    except FewShotError:
        words = html.hint(tr("Add pictures to two classes first."))
        return [(DIM, "", "#000", "")] * len(shown), words
    judged = lesson.judged
    said = lesson.answer(workspace.queries.X, workspace.queries.pixels) if len(shown) > held else []
    best = judged.probabilities.max(axis=1)
    if color == "probability":
        sure = [float(value) if known else None for value, known in zip(best, judged.judged, strict=True)]
        paints = [_shade(value) for value in [*sure, *(one.probability for one in said)]]
        ends = Markup().join(
            Markup('<li><span class="msn-letter" style="background:{};color:{}">{}</span> {}</li>').format(
                tone, ink, letter, html.percent(percent / 100, whole=True)
            )
            for percent in (0, 50, 100)
            for tone, letter, ink, _ in [_shade(percent / 100)]
        )
        words = html.hint(
            tr("How sure the model is: for each example, when it was hidden from training; for queries, as they are.")
        )
        return paints, Markup('<ul class="msn-legend">{}</ul>{}').format(ends, words)
    paints = []
    for i in range(held):
        wrong = judged.judged[i] and judged.predictions[i] != judged.labels[i]
        word = (
            tr(
                "looks like {label} ({best})",
                label=judged.predictions[i],
                best=html.percent(best[i], whole=True),
            )
            if wrong
            else ""
        )
        paints.append((STRANGE, "!", "#000", word) if wrong else (DIM, "", "#000", ""))
    paints += [(DIM, "?", "#000", QUERY)] * (len(shown) - held)
    count = sum(1 for paint in paints if paint[1] == "!")
    words = html.hint(
        tr_count(
            count,
            "{n} example named differently when hidden from training, marked with !.",
            "{n} examples named differently when hidden from training, marked with !.",
        )
    )
    return paints, words


def _shade(value: float | None) -> Paint:
    """A color of the Cividis scale, dark for unsure, with the tens digit of the percentage as letter."""
    if value is None:
        return DIM, "", "#000", tr("not judged")
    tens = str(min(9, int(10 * value)))
    ink = "#fff" if value < 0.6 else "#000"
    return draw.ramp(11, "cividis")[round(10 * value)], tens, ink, tr("{share} sure", share=html.percent(value))


def canvas(
    workspace: Workspace,
    shown: Sequence[Example],
    around: np.ndarray,
    paints: Sequence[Paint],
    doubts: Sequence[float | None],
    wanted: str,
    faces: bool,
) -> Markup:
    """The canvas with its data as attributes (escaped; the script writes names only as text); no closing tag."""
    held = len(workspace.gallery.enabled)
    data = []
    for place, (example, (x, y), paint, doubt) in enumerate(zip(shown, around.tolist(), paints, doubts, strict=True)):
        asked = place >= held
        words = [
            example.name,
            tr(QUERY) if asked else example.label,
            *([paint[3]] if paint[3] not in ("", QUERY) else []),
        ]
        point = {
            "id": point_id(example, asked),
            "x": round(x, 4),
            "y": round(y, 4),
            "q": int(asked),
            "n": ", ".join(words),
            "c": "" if asked else example.label,
            "u": None if doubt is None else round(doubt, 4),
        }
        data.append(point | {"f": paint[0], "l": paint[1], "k": paint[2], "d": example.digest[:12]})
    alt = tr(
        "Map of {many} pictures in {classes} classes; they are listed beside it",
        many=len(shown),
        classes=len(workspace.gallery.classes),
    )
    options = Markup().join(
        Markup('<option value="{}">{}</option>').format(html.text(label), html.text(label, 40))
        for label in workspace.gallery.classes
    )
    undo = tr_html('<button type="button" class="msn-button" data-act="undo">Undo: {}</button>').format(
        html.text(workspace.undo)
    )
    return tr_html(
        '<div>{}<div class="msn-map" data-points="{}" data-wanted="{}" '
        'data-faces="{}"><canvas role="img" aria-label="{}"></canvas>'
        '<div class="msn-tip" hidden><img alt=""><p></p></div></div>'
        '<div class="msn-picked" role="group" aria-label="Chosen pictures" hidden><span role="status"></span>'
        '<select class="msn-select" data-move aria-label="Move the chosen pictures to"><option value="">Move to …'
        '</option>{}</select><input class="msn-select" data-new maxlength="{}" size="12" '
        'placeholder="New class …" aria-label="Name a new class for the chosen pictures, then Enter">'
        '<button type="button" class="msn-button" data-remove>Remove</button>'
        '<button type="button" class="msn-button" data-let-go>Clear selection</button></div>'
        '<p class="msn-hint msn-how"><span class="msn-clicks">Draw around points to choose them, or click them one by '
        'one with Shift.</span><span class="msn-taps">Tap a point to see its picture; to choose several, draw around '
        "them.</span> "
        '<button type="button" class="msn-button msn-touch" data-lasso aria-pressed="false">Draw with a finger</button>'
        "</p>{}"
    ).format(
        tools(),
        json.dumps(data, ensure_ascii=False),
        html.text(wanted),
        "yes" if faces else "",
        html.text(alt),
        options,
        limits.MAX_NAME_LENGTH,
        undo if workspace.undo else "",
    )


def leveled(points: np.ndarray, stretch: float = 1) -> np.ndarray:
    """The map rotated to be wider than high and scaled into -1..1; its height is scaled by up to ``stretch`` more."""
    around = points - points.mean(axis=0)
    turned = around @ np.linalg.svd(around, full_matrices=False)[2].T
    turned *= np.where(np.abs(turned.max(axis=0)) < np.abs(turned.min(axis=0)), -1, 1)  # SVD does not fix the signs
    turned -= (turned.max(axis=0) + turned.min(axis=0)) / 2
    wide, high = np.maximum(np.abs(turned).max(axis=0), 1e-9)
    level: np.ndarray = turned / max(wide, high) * [1, min(stretch, max(wide, high) / high)]
    return level


def point_id(example: Example, asked: bool) -> str:
    return f"q{example.id}" if asked else example.id  # the two galleries have separate ids


def pictures(workspace: Workspace, shown: Sequence[Example]) -> Markup:
    """The same pictures as buttons, for the keyboard and for viewing."""
    numbers = {label: i for i, label in enumerate(workspace.gallery.classes)}
    held = len(workspace.gallery.enabled)
    items = ""
    side = MIDDLE if len(shown) <= FEW else SIDE
    for place, example in enumerate(shown[:PICTURES]):
        asked = place >= held
        words = f"{example.name}, {tr(QUERY) if asked else example.label}"
        mark = Markup('<span class="msn-letter msn-query">?</span>') if asked else html.badge(numbers[example.label])
        src = workspace.url(example, side)
        items += Markup(
            '<li><button type="button" data-id="{}" aria-pressed="false" '
            'title="{}"><img src="{}" alt="{}">{}</button></li>'
        ).format(point_id(example, asked), html.text(words), src, html.text(words), mark)
    more = (
        html.hint(tr("The first {first} of {many} pictures.", first=PICTURES, many=len(shown)))
        if len(shown) > PICTURES
        else ""
    )
    return tr_html(
        '<div><div class="msn-tools"><select class="msn-select" data-order aria-label="Order of the list">'
        '<option value="">As added</option><option value="doubt">Most uncertain first</option></select></div>'
        '<ul class="msn-gallery" aria-label="Pictures on the map">{}</ul>{}</div>'
    ).format(items, more)
