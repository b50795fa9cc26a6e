"""Explore: a map of the examples and queries, near where the model finds them alike, with the pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image
from sklearn.preprocessing import normalize

from vitmsn import archive, draw, image, limits, projection
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError, ImageError, InputError
from vitmsn.gallery import Example
from vitmsn.names import clean_name
from vitmsn.ui.app import App
from vitmsn.ui.shared import html
from vitmsn.ui.shared.checks import whole
from vitmsn.ui.shared.controls import bind
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.shared.workspace import SIDE, Studio, centre, opened, own_class, version
from vitmsn.ui.visits import Call

SCRIPT = script(__file__, "lasso.js", "explore.js")
METHODS = {"pca": "PCA", "umap": "UMAP"}
COLOURS = {"class": "Class", "confidence": "Confidence", "doubt": "Mislabelled?"}
PICTURES = 400  # in the list beside the map; the others come when they are pointed at
LARGE = 128  # pixels of a picture that is pointed at,
FEW = 200  # and of those in the list, up to so many
DIM, STRANGE = "#8c8c8c", "#d55e00"  # of what is not judged, and of what may be mislabelled
MIN_DIST = 0.1
TOGETHER = 16  # pictures of a zip decoded and embedded together
SLOW = "steps (a server's first UMAP is compiled first, for up to half a minute)"


class MapSettings(NamedTuple):
    """What a map depends on."""

    method: str
    queries: bool
    neighbors: int
    seed: int


@dataclass(frozen=True)
class ExploreControls:
    method: str = "pca"
    queries: bool = True  # shown too
    neighbors: float = 15
    seed: float = 0
    colour: str = "class"
    faces: bool = False  # pictures as points

    def checked(self) -> MapSettings:
        """What the map depends on, in range; InputError names what is not."""
        if self.method not in METHODS:
            raise InputError(f"There is no map called {str(self.method)[:32]!r}; choose one of {', '.join(METHODS)}.")
        neighbors = whole(self.neighbors, "neighbours", 2, limits.MAX_NEIGHBORS)
        return MapSettings(self.method, bool(self.queries), neighbors, whole(self.seed, "seed", 0, 2**31 - 1))


DEFAULTS = ExploreControls()


# ----------------------------------------------------------------------------------------------------------------- map


def answer(call: Call, asked: ExploreControls = DEFAULTS) -> tuple[str, str]:
    """(what the map shows, in words; the map and the list). UMAP where it is ready, PCA until then."""
    if asked.colour not in COLOURS:
        raise InputError(f"There is no colour by {str(asked.colour)[:32]!r}; choose one of {', '.join(COLOURS)}.")
    with opened(call) as (studio, encoder):
        settings = asked.checked()
        shown = _shown(studio, settings)
        if len(shown) < 2:
            return html.sentence("A map needs two pictures: add some in Few-shot."), ""
        around = centre(studio.gallery, encoder.feature_mean)
        X = _rows(shown, around)
        ready = studio.kept.get(settings)
        points = projection.pca(X) if ready is None else ready
        wanted = f"{studio.version} {settings}" if settings.method == "umap" and ready is None else ""
        words = _words(studio, shown, around) + _method_words(X, points, settings, ready is not None)
        level = _level(points, stretch=3 if ready is not None else 1)
        paints, legend = _paint(studio, encoder, shown, asked.colour)
        drawn = _map(studio, shown, level, paints, wanted, asked.faces) + legend + "</div>"
        return words, f'<div class="msn-atlas">{drawn}{_list(studio, shown)}</div>'


def lay_out(call: Call, asked: ExploreControls = DEFAULTS) -> str:
    """Make the UMAP that `answer` wants, with progress; nobody else's clicks wait for it."""
    with opened(call) as (studio, encoder):
        settings = asked.checked()
        shown, made_for = _shown(studio, settings), studio.version
        X = _rows(shown, centre(studio.gallery, encoder.feature_mean))
    call.progress(0, 1, SLOW)
    points = projection.umap(
        X, settings.seed, settings.neighbors, MIN_DIST, progress=lambda done, total: call.progress(done, total, SLOW)
    )
    with opened(call) as (studio, _):
        if studio.version == made_for:
            studio.kept[settings] = points
        return html.sentence("The map is ready.")


def _shown(studio: Studio, settings: MapSettings) -> list[Example]:
    return [*studio.gallery.enabled, *(studio.queries.examples if settings.queries else [])]


def _rows(shown: Sequence[Example], center: np.ndarray | None) -> np.ndarray:
    """Embeddings as the classifiers see them: centered and of length 1."""
    X = np.stack([example.embedding for example in shown])
    return _unit(X, center)


def _unit(X: np.ndarray, center: np.ndarray | None) -> np.ndarray:
    unit: np.ndarray = normalize(X - (X.mean(axis=0) if center is None else center))
    return unit


def _words(studio: Studio, shown: Sequence[Example], center: np.ndarray | None) -> str:
    own, total = own_class(studio.gallery.X, studio.gallery.y.tolist(), center)
    queries = len(shown) - total
    if total < 2 or len(set(studio.gallery.y.tolist())) < 2:
        return html.sentence(f"{html.many(len(shown), 'picture')} on the map.")
    asked = f" and {html.many(queries, 'query')}".replace("querys", "queries") if queries else ""
    what = f"{html.many(total, 'example')}{asked} on the map."
    return html.sentence(f"For {own} of {total} examples the most similar other one is of the same class.") + html.hint(
        what
    )


def _method_words(X: np.ndarray, points: np.ndarray, settings: MapSettings, umap: bool) -> str:
    if umap:
        _, _, neighbors, seed = settings
        used = projection.fitting_neighbors(len(X), neighbors)
        return html.hint(
            "UMAP keeps neighbours together; distances between far groups mean little. "
            f"{used} neighbours, least distance {MIN_DIST}, seed {seed}."
        )
    around = X - X.mean(axis=0)
    share = float((points**2).sum() / max(float((around**2).sum()), 1e-12))
    return html.hint(
        f"PCA: the two directions, of {X.shape[1]}, in which these pictures differ most; they hold {100 * share:.0f} % "
        "of the differences. Pictures that lie apart do differ; pictures that lie together may differ elsewhere."
    )


Paint = tuple[str, str, str, str]  # fill, letter, the letter's colour, what the colour says


def _paint(studio: Studio, encoder: Encoder, shown: Sequence[Example], colour: str) -> tuple[list[Paint], str]:
    """How each point is painted, and the legend. Colour never says it alone: a letter stands on it."""
    numbers = {label: i for i, label in enumerate(studio.gallery.classes)}
    held = len(studio.gallery.enabled)
    queries = '<li><span class="msn-letter msn-query">?</span> queries</li>' if len(shown) > held else ""
    if colour == "class":
        paints = []
        for place, example in enumerate(shown):
            if place >= held:
                paints.append((DIM, "?", "#000", "query"))
            else:
                tone, letter = draw.class_style(numbers[example.label])
                paints.append((tone, letter, html.ink(numbers[example.label]), ""))
        items = "".join(
            f"<li>{html.badge(i)} {html.text(label)} <small>{studio.gallery.counts[label]}</small></li>"
            for label, i in numbers.items()
        )
        return paints, f'<ul class="msn-legend">{items}{queries}</ul>'
    try:
        lesson = studio.lesson(encoder, "auto", 5, 0.05)
    except FewShotError:
        words = html.hint("Give two classes some pictures, and there is something to judge.")
        return [(DIM, "", "#000", "")] * len(shown), words
    judged = lesson.judged
    said = lesson.answer(studio.queries.X, studio.queries.pixels) if len(shown) > held else []
    best = judged.probabilities.max(axis=1)
    if colour == "confidence":
        sure = [float(value) if known else None for value, known in zip(best, judged.judged, strict=True)]
        paints = [_shade(value) for value in [*sure, *(one.confidence for one in said)]]
        ends = "".join(
            f'<li><span class="msn-letter" style="background:{tone};color:{ink}">{letter}</span> {percent} %</li>'
            for percent in (0, 50, 100)
            for tone, letter, ink, _ in [_shade(percent / 100)]
        )
        words = html.hint("How sure it is of its answer: of examples when held out, of queries as they are.")
        return paints, f'<ul class="msn-legend">{ends}</ul>{words}'
    paints = []
    for i in range(held):
        wrong = judged.judged[i] and judged.predictions[i] != judged.labels[i]
        word = f"looks like {judged.predictions[i]} ({html.whole_percent(best[i])})" if wrong else ""
        paints.append((STRANGE, "!", "#000", word) if wrong else (DIM, "", "#000", ""))
    paints += [(DIM, "?", "#000", "query")] * (len(shown) - held)
    count = sum(1 for paint in paints if paint[1] == "!")
    words = html.hint(f"{html.many(count, 'example')} named otherwise when held out, marked with !; point at one.")
    return paints, words


def _shade(value: float | None) -> Paint:
    """Cividis, dark for unsure, with the tens of the percentage on it."""
    if value is None:
        return DIM, "", "#000", "not judged"
    tens = str(min(9, int(10 * value)))
    ink = "#fff" if value < 0.6 else "#000"
    return draw.ramp(11, "cividis")[round(10 * value)], tens, ink, f"{html.percent(value).replace('&lt;', '<')} sure"


def _map(
    studio: Studio, shown: Sequence[Example], around: np.ndarray, paints: Sequence[Paint], wanted: str, faces: bool
) -> str:
    """The canvas with its data as attributes (escaped; the script writes names only as text), still open at its end."""
    held = len(studio.gallery.enabled)
    data = []
    for place, (example, (x, y), paint) in enumerate(zip(shown, around.tolist(), paints, strict=True)):
        asked = place >= held
        words = [
            example.name,
            "query" if asked else example.label,
            *([paint[3]] if paint[3] not in ("", "query") else []),
        ]
        point = {"id": _id(example, asked), "x": round(x, 4), "y": round(y, 4), "q": int(asked), "n": ", ".join(words)}
        data.append(point | {"f": paint[0], "l": paint[1], "k": paint[2], "d": example.digest[:12]})
    alt = f"Map of {len(shown)} pictures in {len(studio.gallery.classes)} classes; they are listed beside it"
    options = "".join(
        f'<option value="{html.text(label)}">{html.text(label, 40)}</option>' for label in studio.gallery.classes
    )
    undo = f'<button type="button" class="msn-button" data-act="undo">Undo: {html.text(studio.undo)}</button>'
    return (
        f'<div><div class="msn-map" data-points="{_attribute(data)}" data-wanted="{html.text(wanted)}" '
        f'data-faces="{"yes" if faces else ""}"><canvas role="img" aria-label="{html.text(alt)}"></canvas>'
        '<div class="msn-tip" hidden><img alt=""><p></p></div></div>'
        '<div class="msn-picked" role="group" aria-label="Chosen pictures" hidden><span role="status"></span>'
        f'<select class="msn-select" data-move aria-label="Move the chosen pictures to"><option value="">Move to …'
        f'</option>{options}</select><input class="msn-select" data-new maxlength="{limits.MAX_NAME_LENGTH}" size="12" '
        'placeholder="New class …" aria-label="Name a new class for the chosen pictures, then Enter">'
        '<button type="button" class="msn-button" data-remove>Remove</button>'
        '<button type="button" class="msn-button" data-let-go>Let go</button></div>'
        '<p class="msn-hint msn-how"><span class="msn-clicks">Draw around points to choose them, or click them one by '
        'one with Shift.</span><span class="msn-taps">Tap a point to see its picture; to choose several, draw around '
        "them.</span> "
        '<button type="button" class="msn-button msn-touch" data-lasso aria-pressed="false">Draw with a finger</button>'
        f"</p>{undo if studio.undo else ''}"
    )


def _level(points: np.ndarray, stretch: float = 1) -> np.ndarray:
    """The map turned so that it is wider than high, and scaled into -1..1; its height by up to ``stretch`` more."""
    around = points - points.mean(axis=0)
    turned = around @ np.linalg.svd(around, full_matrices=False)[2].T
    turned *= np.where(np.abs(turned.max(axis=0)) < np.abs(turned.min(axis=0)), -1, 1)  # SVD leaves the signs open
    turned -= (turned.max(axis=0) + turned.min(axis=0)) / 2
    wide, high = np.maximum(np.abs(turned).max(axis=0), 1e-9)
    level: np.ndarray = turned / max(wide, high) * [1, min(stretch, max(wide, high) / high)]
    return level


def _id(example: Example, asked: bool) -> str:
    return f"q{example.id}" if asked else example.id  # two galleries, each with ids of its own


def _attribute(value: Any) -> str:
    return escape(json.dumps(value, ensure_ascii=False), quote=True)


def _list(studio: Studio, shown: Sequence[Example]) -> str:
    """The same pictures as buttons, for the keyboard and for looking."""
    numbers = {label: i for i, label in enumerate(studio.gallery.classes)}
    held = len(studio.gallery.enabled)
    items = ""
    side = LARGE if len(shown) <= FEW else SIDE
    for place, example in enumerate(shown[:PICTURES]):
        asked = place >= held
        words = f"{example.name}, {'query' if asked else example.label}"
        mark = '<span class="msn-letter msn-query">?</span>' if asked else html.badge(numbers[example.label])
        src = studio.url(example, side)
        items += (
            f'<li><button type="button" data-id="{_id(example, asked)}" aria-pressed="false" '
            f'title="{html.text(words)}"><img src="{src}" alt="{html.text(words)}">{mark}</button></li>'
        )
    more = html.hint(f"The first {PICTURES} of {len(shown)} pictures.") if len(shown) > PICTURES else ""
    return f'<div><ul class="msn-gallery" aria-label="Pictures on the map">{items}</ul>{more}</div>'


# -------------------------------------------------------------------------------------------------------------- doing


def act(call: Call, asked: ExploreControls = DEFAULTS) -> tuple[str, str]:
    """What is done with chosen points: moved to a class, new or old, removed, or undone. Queries become examples."""
    if not version(call.visit):
        call.message = "This page slept so long that your pictures were deleted; start again from Few-shot."
        return answer(call, asked)
    what, ids, text = call.chosen("act"), call.chosen("ids"), str(call.chosen("text") or "")
    with opened(call) as (studio, _):
        if what == "undo":
            studio.take_back()
            return answer(call, asked)
        if what not in ("move", "remove") or not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise InputError("The page asked for something unknown; load it again.")
        own = [id for id in ids if not id.startswith("q")]
        queries = [studio.queries[id[1:]] for id in ids if id.startswith("q")]
        if what == "remove":
            if not own:
                raise InputError("These are queries; clear them in Few-shot.")
            with studio.change(f"removed {html.many(len(own), 'picture')}") as gallery:
                gallery.remove(own)
            call.message = "Queries stay; clear them in Few-shot." if queries else ""
            return answer(call, asked)
        with studio.change(f"moved {html.many(len(ids), 'picture')} to {clean_name(text)}") as gallery:
            label = gallery.add_class(text)
            gallery.move(own, label)
            held = {example.digest for example in gallery.examples}
            for query in queries:
                if query.digest not in held:
                    gallery.adopt(query, label)
        return answer(call, asked)


def peek(call: Call) -> str:
    """The picture of a point that is not in the list."""
    id = str(call.chosen("id"))
    with opened(call) as (studio, _):
        example = studio.queries[id[1:]] if id.startswith("q") else studio.gallery[id]
        return f'<img data-of="{html.text(id)}" src="{studio.url(example, LARGE)}" alt="{html.text(example.name)}">'


# ------------------------------------------------------------------------------------------------------------ endpoint


def map(call: Call, images_zip: str, method: str = "pca") -> tuple[Image.Image, dict[str, Any]]:
    """Lay pictures out on a plane so that those the model finds alike lie together. `images_zip` is a zip of pictures;
    folders in it are taken as classes. method: "pca" (at once) or "umap" (keeps neighbours together; takes longer).
    Answers with a picture of the map, and with one point per file: its name, its class (null outside all folders), x
    and y. Files that are no pictures are named under `skipped`.
    """
    if not images_zip:
        raise InputError("No zip came; send one as `images_zip`.")
    if method not in METHODS:
        raise InputError(f"There is no method {str(method)[:32]!r}; choose one of {', '.join(METHODS)}.")
    encoder = call.encoder
    names: list[tuple[str, str | None]] = []
    rows: list[np.ndarray] = []
    refused: list[dict[str, str]] = []

    def turned_away(entry: archive.Entry, error: ImageError) -> None:
        refused.append({"file": entry.name, "reason": str(error)})

    with archive.read_zip(images_zip) as entries:
        if entries.total > limits.MAX_EXAMPLES:
            raise InputError(f"The zip holds {entries.total} files and {limits.MAX_EXAMPLES} go at once; send fewer.")
        sources = ((entry, entry.data) for entry in entries)
        for batch in image.batches(sources, turned_away, name=lambda entry: entry.name, size=TOGETHER):
            names += [(entry.name, entry.label) for entry in batch.keys]
            rows.append(encoder.embed(batch.pictures))
            call.progress(batch.done, entries.total)
        refused += [{"file": skip.name, "reason": skip.reason} for skip in entries.report.skipped]
        notes = list(entries.report.notes)
    if len(names) < 2:
        left_out = f" Left out: {refused[0]['file']} ({refused[0]['reason'].rstrip('.')})." if refused else ""
        raise InputError(f"{html.many(len(names), 'picture')} came out of the zip; a map needs at least two.{left_out}")
    X = _unit(np.concatenate(rows), None)
    if method == "umap":
        points = projection.umap(X, progress=lambda done, total: call.progress(done, total, SLOW))
    else:
        points = projection.pca(X)
    labels = [label or "no class" for _, label in names]
    drawn = draw.scatter(points, labels, title=f"{METHODS[method]} of {len(names)} pictures, {call.name}")
    found = [
        {"file": name, "label": label, "x": float(x), "y": float(y)}
        for (name, label), (x, y) in zip(names, points.tolist(), strict=True)
    ]
    return drawn, {"model": call.name, "method": method, "points": found, "skipped": refused, "notes": notes}


# ----------------------------------------------------------------------------------------------------------------- tab


def build(app: App) -> None:
    line = app.notice()
    with gr.Row(elem_classes="msn-explore"):
        method = gr.Radio([(label, key) for key, label in METHODS.items()], value="pca", label="Map")
        colour = gr.Radio([(label, key) for key, label in COLOURS.items()], value="class", label="Colour")
        faces = gr.Checkbox(False, label="Pictures as points")
        queries = gr.Checkbox(True, label="Show the queries too")
        teach = gr.Button("Change the examples →", elem_classes="msn-quiet-button")
    with gr.Column():
        said = gr.HTML()
        stop = gr.Button("Stop", elem_classes=["msn-quiet-button", "msn-stop"])
    shown = gr.HTML(js_on_load=SCRIPT, elem_id="explore-map")
    with gr.Accordion("More", open=False):
        neighbors = gr.Slider(
            2, limits.MAX_NEIGHBORS, 15, step=1, label="Neighbours",
            info="UMAP ties each picture to so many others: fewer show small groups, more the large picture.",
        )  # fmt: skip
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="UMAP draws lots; the same seed draws the same.")
    peeked = gr.HTML(elem_id="explore-peek", elem_classes="msn-aside")
    controls = bind(
        ExploreControls,
        method=method,
        queries=queries,
        neighbors=neighbors,
        seed=seed,
        colour=colour,
        faces=faces,
    )
    again = [method.input, queries.input, neighbors.release, seed.submit, colour.input, faces.input]
    app.answer("explore", answer, [controls], [said, shown], again=again, notice=line, stamp=version)
    made = app.on(getattr(shown, "wanted"), lay_out, [controls], [said], notice=line, long=True, show_progress="full")  # noqa: B009
    app.on(made.then, answer, [controls], [said, shown], notice=app.notice(), show_progress="hidden")
    app.on(getattr(shown, "act"), act, [controls], [said, shown], notice=line, trigger_mode="multiple")  # noqa: B009
    app.on(getattr(shown, "peek"), peek, [], [peeked], notice=app.notice(), show_progress="hidden")  # noqa: B009
    app.stop(stop)
    app.go(teach, "fewshot")
    app.link("map", method, _known)
    app.link("colour", colour, _colour)
    app.endpoint(
        "map",
        map,
        [gr.File(visible=False, type="filepath"), gr.Textbox("pca", visible=False)],
        [gr.Image(visible=False), gr.JSON(visible=False)],
        long=True,
    )


def _known(text: str) -> str:
    if text not in METHODS:
        raise ValueError(text)
    return text


def _colour(text: str) -> str:
    if text not in COLOURS:
        raise ValueError(text)
    return text
