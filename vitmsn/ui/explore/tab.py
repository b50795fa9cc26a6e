"""Explore: a map that places similar examples and queries near each other, with the pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import gradio as gr
import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import archive, draw, image, limits, projection
from vitmsn.errors import ImageError, InputError
from vitmsn.gallery import Example
from vitmsn.names import clean_name
from vitmsn.ui.app import App
from vitmsn.ui.explore import map as map_
from vitmsn.ui.locale import later, tr, tr_count
from vitmsn.ui.shared import html
from vitmsn.ui.shared.checks import choice, linked_choice, linked_whole, whole
from vitmsn.ui.shared.controls import bind
from vitmsn.ui.shared.endpoints import Parameter
from vitmsn.ui.shared.scripts import script
from vitmsn.ui.shared.workspace import Workspace, center, opened, own_class, version
from vitmsn.ui.visits import Call

SCRIPT = script(__file__, "lasso.js", "zoom.js", "label_places.js", "explore.js")
METHODS = {"pca": later("PCA"), "umap": later("UMAP")}
MIN_DIST = 0.1
FIRST = "shapes"  # the starter set whose map shows most: groups by color, and in them by texture
TOGETHER = 16  # pictures of a zip decoded and embedded together
STARTING = later("Starting. The first UMAP takes up to half a minute longer.")


class MapSettings(NamedTuple):
    """The settings that a map depends on."""

    method: str
    queries: bool
    neighbors: int
    seed: int


@dataclass(frozen=True)
class ExploreControls:
    method: str = "pca"
    queries: bool = True  # show them too
    neighbors: float = 15
    seed: float = 0
    colour: str = "class"
    faces: bool = True  # show pictures as points

    def checked(self) -> MapSettings:
        """The checked settings of the map; InputError names a bad one."""
        neighbors = whole(self.neighbors, "neighbors", 2, limits.MAX_NEIGHBORS)
        return MapSettings(
            choice(self.method, "map", METHODS), bool(self.queries), neighbors, whole(self.seed, "seed", 0, 2**31 - 1)
        )


DEFAULTS = ExploreControls()


class ExplorePage(NamedTuple):
    """A sentence on what the map shows; the map with the list beside it."""

    words: str
    map: str


def answer(call: Call, asked: ExploreControls = DEFAULTS) -> ExplorePage:
    """The sentence, the map and the list. UMAP if it is ready, PCA until then."""
    choice(asked.colour, "colour", map_.COLORS)
    with opened(call, FIRST) as (workspace, encoder):
        settings = asked.checked()
        shown = _shown(workspace, settings)
        if len(shown) < 2:
            return ExplorePage(html.sentence(tr("A map needs two pictures. Add some in Few-shot.")), "")
        around = center(workspace.gallery, encoder.feature_mean)
        X = _rows(shown, around)
        ready = workspace.kept.get(settings)
        points = projection.pca(X) if ready is None else ready
        wanted = f"{workspace.version} {settings}" if settings.method == "umap" and ready is None else ""
        words = _words(workspace, shown, around) + _method_words(X, points, settings, ready is not None)
        level = map_.leveled(points, stretch=3 if ready is not None else 1)
        paints, legend = map_.painted(workspace, encoder, shown, asked.colour)
        doubts = map_.uncertainty(workspace, encoder, shown)
        drawn = map_.canvas(workspace, shown, level, paints, doubts, wanted, asked.faces) + legend + Markup("</div>")
        return ExplorePage(
            words, Markup('<div class="msn-atlas">{}{}</div>').format(drawn, map_.pictures(workspace, shown))
        )


def lay_out(call: Call, asked: ExploreControls = DEFAULTS) -> Markup:
    """Make the UMAP that `answer` wants, with progress; other visitors do not wait for it."""
    with opened(call) as (workspace, encoder):
        settings = asked.checked()
        shown, made_for = _shown(workspace, settings), workspace.version
        X = _rows(shown, center(workspace.gallery, encoder.feature_mean))
    call.progress(0, 0, STARTING)
    points = projection.umap(
        X,
        settings.seed,
        settings.neighbors,
        MIN_DIST,
        progress=lambda done, total: call.progress(done, total, later("steps")),
    )
    with opened(call) as (workspace, _):
        if workspace.version == made_for:
            workspace.kept[settings] = points
        return html.sentence(tr("The map is ready."))


def _shown(workspace: Workspace, settings: MapSettings) -> list[Example]:
    return [*workspace.gallery.enabled, *(workspace.queries.examples if settings.queries else [])]


def _rows(shown: Sequence[Example], center: np.ndarray | None) -> np.ndarray:
    """Embeddings as the classifiers see them: centered and of length 1."""
    X = np.stack([example.embedding for example in shown])
    return _unit(X, center)


def _unit(X: np.ndarray, center: np.ndarray | None) -> np.ndarray:
    from sklearn.preprocessing import normalize  # takes a second to import

    unit: np.ndarray = normalize(X - (X.mean(axis=0) if center is None else center))
    return unit


def _words(workspace: Workspace, shown: Sequence[Example], center: np.ndarray | None) -> Markup:
    own, total = own_class(workspace.gallery.X, workspace.gallery.y.tolist(), center)
    queries = len(shown) - total
    if total < 2 or len(set(workspace.gallery.y.tolist())) < 2:
        return html.sentence(tr("{pictures} on the map.", pictures=html.pictures(len(shown))))
    what = tr("{examples} on the map.", examples=html.examples(total))
    if queries:
        asked = tr_count(queries, "{n} query", "{n} queries")
        what = tr("{examples} and {queries} on the map.", examples=html.examples(total), queries=asked)
    return html.sentence(
        tr("{own} of {total} examples have their most similar neighbor in the same class.", own=own, total=total)
    ) + html.hint(what)


def _method_words(X: np.ndarray, points: np.ndarray, settings: MapSettings, umap: bool) -> Markup:
    if umap:
        _, _, neighbors, seed = settings
        used = projection.fitting_neighbors(len(X), neighbors)
        return html.hint(
            tr(
                "UMAP keeps neighbors together; distances between far groups mean little. {used} "
                "neighbors, least distance {least:.1f}, seed {seed}.",
                used=used,
                least=MIN_DIST,
                seed=seed,
            )
        )
    around = X - X.mean(axis=0)
    share = float((points**2).sum() / max(float((around**2).sum()), 1e-12))
    return html.hint(
        tr(
            "PCA: the two directions, of {dim}, in which these pictures differ most; they hold "
            "{share:.0f} % of the differences. Pictures far apart do differ; pictures close together may "
            "differ in other directions.",
            dim=X.shape[1],
            share=100 * share,
        )
    )


# -------------------------------------------------------------------------------------------------------------- doing


def act(call: Call, asked: ExploreControls = DEFAULTS) -> ExplorePage:
    """Move chosen points to a class (new or not), remove them, or undo. Moved queries become examples."""
    if not version(call.visit):
        call.message = tr("Your pictures were deleted because this page was inactive; start again from Few-shot.")
        return answer(call, asked)
    what, ids, text = call.chosen("act"), call.chosen("ids"), str(call.chosen("text") or "")
    with opened(call) as (workspace, _):
        if what == "undo":
            workspace.take_back()
            return answer(call, asked)
        if what not in ("move", "remove") or not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise InputError(tr("The page asked for something unknown; load it again."))
        own = [id for id in ids if not id.startswith("q")]
        queries = [workspace.queries[id[1:]] for id in ids if id.startswith("q")]
        if what == "remove":
            if not own:
                raise InputError(tr("These are queries; clear them in Few-shot."))
            with workspace.change(tr("removed {pictures}", pictures=html.pictures(len(own)))) as gallery:
                gallery.remove(own)
            call.message = tr("Queries stay; clear them in Few-shot.") if queries else ""
            return answer(call, asked)
        with workspace.change(
            tr("moved {pictures} to {label}", pictures=html.pictures(len(ids)), label=clean_name(text))
        ) as gallery:
            label = gallery.add_class(text)
            gallery.move(own, label)
            held = {example.digest for example in gallery.examples}
            for query in queries:
                if query.digest not in held:
                    gallery.adopt(query, label)
        return answer(call, asked)


def peek(call: Call) -> Markup:
    """The picture of a point that is not in the list."""
    id = str(call.chosen("id"))
    with opened(call) as (workspace, _):
        example = workspace.queries[id[1:]] if id.startswith("q") else workspace.gallery[id]
        return Markup('<img data-of="{}" src="{}" alt="{}">').format(
            html.text(id), workspace.url(example, map_.LARGE), html.text(example.name)
        )


# ------------------------------------------------------------------------------------------------------------ endpoint


def map(
    call: Call,
    images_zip: Annotated[str, Parameter("Zip of pictures", file="pictures.zip")],
    method: Annotated[str, Parameter("Method", choices=METHODS)] = "pca",
) -> tuple[Image.Image, dict[str, Any]]:
    """Place pictures on a plane so that those the model finds alike lie together.

    Args:
        images_zip: a zip of pictures; folders in it are taken as classes.
        method: "pca" answers at once, "umap" keeps neighbors together and takes longer.

    Returns:
        Map: a picture of the map.
        Answer: `points`, one for each picture: its `file`, its `label`, which is the class (null outside all folders),
            `x` and `y`; `skipped`, the files that are no pictures, each with the `reason`; `notes` on the zip; `method`
            and `model`.
    """
    if not images_zip:
        raise InputError("No zip came; send one as `images_zip`.")
    choice(method, "method", METHODS)
    encoder = call.encoder
    names: list[tuple[str, str | None]] = []
    rows: list[np.ndarray] = []
    refused: list[dict[str, str]] = []

    def turned_away(entry: archive.Entry, error: ImageError) -> None:
        refused.append({"file": entry.name, "reason": str(error)})

    def sources(entries: archive.Entries) -> Iterator[tuple[archive.Entry, bytes]]:
        for done, entry in enumerate(entries):  # a file that is not a picture takes time too
            call.progress(done, entries.total)
            yield entry, entry.data

    with archive.read_zip(images_zip) as entries:
        if entries.total > limits.MAX_EXAMPLES:
            raise InputError(f"The zip holds {entries.total} files and {limits.MAX_EXAMPLES} go at once; send fewer.")
        for batch in image.batches(
            sources(entries), turned_away, name=lambda entry: entry.name, size=TOGETHER, most=limits.PICTURE_SIDE
        ):
            names += [(entry.name, entry.label) for entry in batch.keys]
            rows.append(encoder.embed(batch.pictures))
        refused += [{"file": skip.name, "reason": skip.reason} for skip in entries.report.skipped]
        notes = list(entries.report.notes)
    if len(names) < 2:
        left_out = f" Left out: {refused[0]['file']} ({refused[0]['reason'].rstrip('.')})." if refused else ""
        raise InputError(f"{html.pictures(len(names))} came out of the zip; a map needs at least two.{left_out}")
    X = _unit(np.concatenate(rows), None)
    if method == "umap":
        points = projection.umap(X, progress=lambda done, total: call.progress(done, total, later("steps")))
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
        method = gr.Radio(
            [(tr(label), key) for key, label in METHODS.items()], value="pca", label=tr("Map"), elem_classes="msn-pills"
        )
        color = gr.Radio(
            [(tr(label), key) for key, label in map_.COLORS.items()],
            value="class",
            label=tr("Color"),
            elem_classes="msn-pills",
        )
        faces = gr.Checkbox(True, label=tr("Pictures as points"))
        queries = gr.Checkbox(True, label=tr("Show the queries too"))
        teach = gr.Button(tr("Change the examples →"), elem_classes="msn-quiet-button")
    with gr.Column():
        said = gr.HTML()
        stop = gr.Button(tr("Stop"), elem_classes=["msn-quiet-button", "msn-stop"])
    shown = gr.HTML(js_on_load=SCRIPT, elem_id="explore-map")
    with gr.Accordion(tr("More"), open=False, elem_id="explore-more"):
        neighbors = gr.Slider(
            2, limits.MAX_NEIGHBORS, 15, step=1, label=tr("Neighbors"),
            info=tr("How many pictures UMAP ties each one to: few show small groups, many the overall shape."),
        )  # fmt: skip
        seed = gr.Number(0, precision=0, minimum=0, label=tr("Seed"), info=tr("Same number, same map."))
    peeked = gr.HTML(elem_id="explore-peek", elem_classes="msn-aside")
    controls = bind(
        ExploreControls,
        method=method,
        queries=queries,
        neighbors=neighbors,
        seed=seed,
        colour=color,
        faces=faces,
    )
    again = [method.input, queries.input, neighbors.release, seed.submit, color.input, faces.input]
    page = {"words": said, "map": shown}
    app.answer("explore", answer, [controls], page, again=again, notice=line, stamp=version)
    made = app.on(getattr(shown, "wanted"), lay_out, [controls], [said], notice=line, long=True, show_progress="full")  # noqa: B009
    app.on(made.then, answer, [controls], page, notice=app.notice(), show_progress="hidden")
    app.on(getattr(shown, "act"), act, [controls], page, notice=line, trigger_mode="multiple")  # noqa: B009
    app.on(getattr(shown, "peek"), peek, [], [peeked], notice=app.notice(), show_progress="hidden")  # noqa: B009
    app.stop(stop)
    app.go(teach, "fewshot")
    app.link("map", method, lambda text: linked_choice(text, METHODS))
    app.link("neighbors", neighbors, lambda text: linked_whole(text, 2, limits.MAX_NEIGHBORS))
    app.link("map_seed", seed, lambda text: linked_whole(text, 0, 2**31 - 1))
    app.link("queries", queries, lambda text: linked_choice(text, ("true", "false")) == "true")
    app.link("pictures", faces, lambda text: linked_choice(text, ("true", "false")) == "true")
    app.link("colour", color, lambda text: linked_choice(text, map_.COLORS))
    app.endpoint("map", map, long=True)
