"""The Masking tab's sections of longer measurements: filmstrip, curves, deciding patches, batch of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import gradio as gr
import numpy as np
from PIL import Image

from vitmsn import draw, robustness
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.app import App
from vitmsn.ui.fair_queue import COSTLY
from vitmsn.ui.locale import Retold, later, tr
from vitmsn.ui.masking import batch_table, deciding_patches, filmstrip, similarity
from vitmsn.ui.masking.controls import KINDS, MOST_SEED, MaskingControls, kept_grid, series
from vitmsn.ui.masking.controls import draw as draw_mask
from vitmsn.ui.masking.state import MaskingOnPage, MaskingState
from vitmsn.ui.shared import examples, html, patch_grid
from vitmsn.ui.shared.checks import choice, linked_choice, whole
from vitmsn.ui.shared.controls import Controls
from vitmsn.ui.shared.endpoints import Parameter, PictureFile
from vitmsn.ui.shared.photo import Files
from vitmsn.ui.visits import PICTURES, Call, Stopped

DRAWN = [name for name in KINDS if name != "painted"]
QUICK, SLOW = 20, 100  # milliseconds of a full view: up to QUICK 8 draws per point, up to SLOW 4


def _stamps(call: Call, ask: MaskingControls) -> dict[str, tuple[object, ...]]:
    """What each section depends on: a result made with another stamp is out of date."""
    here = call.visit.model, call.visit.picture.digest if call.visit.picture else ""
    kind = series(ask.kind)
    return {
        "film": (*here, kind, ask.ratio),
        "curves": (*here, kind),
        "search": here,
        "batch": (call.visit.model, kind, ask.ratio),
    }


def results(call: Call, ask: MaskingControls) -> dict[str, str]:
    """Updates of the sections' results: those out of date are emptied, and a page that was loaded again gets the
    others back."""
    kept, page = call.visit.state(MaskingState), call.visit.on_page(MaskingOnPage)
    kept.wanted = _stamps(call, ask)
    old = [name for name, stamp in kept.wanted.items() if kept.made.get(name) not in (None, stamp)]
    for name in old:
        kept.results.pop(name, None)
    again = {} if page.filled else {name: result.text for name, result in kept.results.items()}
    page.filled = True
    return again | dict.fromkeys(old, "")


def _progress(call: Call, ask: MaskingControls, name: str) -> Callable[[int, int, str], None]:
    """`call.progress` for a section; also stops it once the page shows another picture, model or mask."""
    kept, begun = call.visit.state(MaskingState), _stamps(call, ask)[name]
    kept.wanted[name] = begun

    def progress(done: int, total: int, what: str) -> None:
        call.progress(done, total, what)
        if not begun == kept.wanted[name] == _stamps(call, ask)[name]:
            raise Outdated(tr("This stopped because the page now shows something else; start it again."))

    return progress


class Outdated(Stopped):
    """The page no longer shows what was being measured."""


def _remember(call: Call, ask: MaskingControls, name: str, make: Callable[[], str]) -> str:
    """The result that `make` writes, which the page shows for these settings; a page that is loaded again gets it back,
    in its language."""
    kept = call.visit.state(MaskingState)
    kept.made[name], kept.results[name] = _stamps(call, ask)[name], (result := Retold(make))
    return result.text


# ------------------------------------------------------------------------------------------------------------ sections


def film(call: Call, asked: MaskingControls) -> str:
    """Sixteen masks of the chosen kind, starting at its seed."""
    first = min(whole(asked.seed or 0, "seed", 0, MOST_SEED), MOST_SEED - filmstrip.MANY)
    encoder, name, picture = call.encoder, call.name, call.picture

    def sample(seed: int) -> np.ndarray:
        return kept_grid(MaskingControls(series(asked.kind), asked.ratio, seed), encoder.grid())

    return _remember(call, asked, "film", lambda: filmstrip.strip(encoder, name, picture, sample, first))


def curves(call: Call, asked: MaskingControls) -> Iterator[str]:
    """All curves for the chosen kind of mask, drawn while they are measured."""
    encoder, picture = call.encoder, call.picture
    kind = series(asked.kind)
    choice(kind, "kind", KINDS)
    seeds = _seeds(encoder, picture)
    points: list[robustness.CurvePoint] = []
    _remember(call, asked, "curves", str)
    total = len(robustness.RATIOS)
    progress = _progress(call, asked, "curves")
    running = robustness.curve(encoder, picture, lambda r, seed: draw_mask(encoder, kind, 100 * r, seed), seeds=seeds)
    name, lines = call.name, _code(call, kind)
    try:
        for point in running:
            points.append(point)
            progress(len(points), total, later("ratios"))
            if len(points) < total:
                yield similarity.panels(points)
    except Outdated as outdated:
        call.message = str(outdated)
        yield ""
        return
    except Stopped as stopped:
        so_far = tr("Stopped at {hidden:.0f} % hidden; the curve so far stays.", hidden=100 * points[-1].ratio)
        call.message = so_far if call.visit.stopped > call.began else str(stopped)
    views = points[-1].views

    def made() -> str:
        compared = html.hint(similarity.worth(name, views.others, views.centered is not None))
        return html.sentence(similarity.told(points)) + compared + similarity.panels(points) + html.in_python(*lines)

    yield _remember(call, asked, "curves", made)


def _seeds(encoder: Encoder, picture: Picture) -> range:
    cost = encoder.time(picture, repeats=1)
    return range(8 if cost <= QUICK else 4 if cost <= SLOW else 2)


def find(call: Call, by: str, asked: MaskingControls) -> str:
    """Hide patches until the answer changes."""
    encoder, picture = call.encoder, call.picture
    progress = _progress(call, asked, "search")
    found = deciding_patches.run(encoder, picture, by, lambda done, total: progress(done, total, later("masks")))
    name = patch_grid.file_name(call)
    lines = [f"found = robustness.search(encoder, {name!r})", "print(found.answer, found.flip, found.keep)"]
    if by == "relevance":
        scores = f"scores = look(encoder, {name!r}, 'relevance').values.ravel()"
        lines = ["from vitmsn.look import look", scores, lines[0].replace(")", ", scores)"), lines[1]]
    lines = ["from vitmsn import Encoder, robustness", call.python, *lines]

    def made() -> str:
        said = html.sentence(deciding_patches.sentence(encoder, picture, found))
        return said + deciding_patches.shown(encoder, picture, found) + html.in_python(*lines)

    return _remember(call, asked, "search", made)


def batch(call: Call, paths: list[str] | None, asked: MaskingControls) -> str:
    """Several pictures, each under the same masks."""
    if paths:
        return _table(call, paths, asked)
    kept = call.visit.state(MaskingState)
    kept.made.pop("batch", None)
    kept.results.pop("batch", None)
    return ""


def batch_of_examples(call: Call, asked: MaskingControls) -> str:
    """The example pictures, for visitors without their own."""
    pictures = [replace(example.picture, name=example.title) for example in examples.photographs()]
    return _table(call, pictures, asked, examples=True)


def _table(call: Call, sources: Sequence[Picture | str], ask: MaskingControls, *, examples: bool = False) -> str:
    encoder, name = call.encoder, call.name
    progress = _progress(call, ask, "batch")
    rows = batch_table.judge(
        encoder,
        sources,
        lambda seed: draw_mask(encoder, ask.kind, ask.ratio, seed),
        lambda done, total: progress(done, total, PICTURES),
        examples=examples,
    )
    return _remember(call, ask, "batch", lambda: batch_table.table(rows, name))


def _code(call: Call, kind: str) -> list[str]:
    grid = call.encoder.grid()
    similarity = "similarity" if call.encoder.feature_mean is None else "centered"
    return [
        "import torch",
        "from vitmsn import Encoder, masking, robustness",
        call.python,
        "draw = lambda seed: torch.Generator().manual_seed(seed)",
        f"sample = lambda ratio, seed: masking.{kind}_mask({grid}, ratio, draw(seed))[0].numpy()",
        f"for point in robustness.curve(encoder, {patch_grid.file_name(call)!r}, sample):",
        f"    print(point.ratio, point.views.{similarity}.mean(), point.milliseconds)",
    ]


# ----------------------------------------------------------------------------------------------------------- endpoints


def mask_curve(
    call: Call,
    image: PictureFile,
    kind: Annotated[str, Parameter("Kind of mask", choices=DRAWN)] = "random",
    seeds: Annotated[int, Parameter("Draws", 1, 16)] = 4,
) -> dict[str, Any]:
    """Measure what hiding more and more patches of a picture does to its embedding and its answer.

    Args:
        image: the picture.
        kind: "random" draws single patches, "focal" keeps one rectangle, "block" hides rectangles.
        seeds: how many masks are drawn at each mask ratio.

    Returns:
        Answer: lists with an entry for each mask ratio. `mask_ratio`, from 0 to 0.95; the patches `kept`; and, over the
            draws, `similarity`, the cosine similarity to the full view, `similarity_centered`, the same without the
            mean of all embeddings (null where the model has none; two different pictures have 0 on average there, and
            `similarity_others` plainly), `answer_kept`, whether the first answer stays, and `cross_entropy` of the
            prototypes in nats (null where the model has none). `milliseconds` of one view as measured on this machine,
            and `milliseconds_ideal`, in proportion to the tokens left.
    """
    picture, encoder = patch_grid.sent(image), call.encoder
    many = whole(seeds, "seeds", 1, 16)
    choice(kind, "kind", DRAWN)
    points = []
    for point in robustness.curve(
        encoder, picture, lambda r, seed: draw_mask(encoder, kind, 100 * r, seed), seeds=range(many)
    ):
        points.append(point)
        call.progress(len(points), len(robustness.RATIOS), "ratios")
    return robustness.MaskCurve(points).to_dict()


def mask_search(
    call: Call,
    image: PictureFile,
    by: Annotated[str, Parameter("Hide first", choices=deciding_patches.BY)] = "attention",
) -> tuple[Image.Image, dict[str, Any]]:
    """Find few patches that decide the answer: those whose hiding changes it and those that alone keep it. Greedy; the
    smallest found, not proven.

    Args:
        image: the picture.
        by: the order in which patches are hidden: by what the summary token attends to most, or by what speaks most
            for the answer.

    Returns:
        Patches: the picture with the patches that keep the answer.
        Answer: `answer`, the first class even where the model is not sure, or the nearest prototype without a
            classifier; `changes`, the patches whose hiding changes it (null when hiding all but one, in this order,
            does not) and what it `changes_to`; `keeps`, the patches that alone keep it, as [row, column] from 1;
            `changes_to_sure` and `keeps_sure`, whether the model is sure of its answer then;
            `changes_random` and `keeps_random`, the same counts in random orders; and `patches`, how many there are.
    """
    picture, encoder = patch_grid.sent(image), call.encoder
    found = deciding_patches.run(encoder, picture, by, lambda done, total: call.progress(done, total, "masks"))
    kept = np.zeros(found.grid, dtype=bool)
    kept.flat[found.keep] = True
    return draw.masked_picture(patch_grid.seen(encoder, picture, least=0), kept), found.to_dict()


# ----------------------------------------------------------------------------------------------------------------- tab


@dataclass
class Sections:
    """The accordions below the comparison, built where this is called."""

    results: dict[str, gr.HTML] = field(default_factory=dict)  # keys as in `_stamps`

    def __post_init__(self) -> None:
        with gr.Accordion(tr("Hide patches until the answer changes"), open=False, elem_id="masking-search-fold"):
            self.by = gr.Radio(
                [(tr(words), name) for name, words in deciding_patches.BY.items()],
                value="attention",
                label=tr("Hide first"),
                info=tr("Patches are hidden in this order."),
                elem_classes="msn-pills",
            )
            self.find = gr.Button(tr("Find the patches that decide"), elem_classes="msn-quiet-button")
            self.found_line, self.stop_find = _line(), _stop()
            self.found = gr.HTML(js_on_load=deciding_patches.SCRIPT, elem_id="masking-search")
        with gr.Accordion(tr("Many masks at once"), open=False, elem_id="masking-film-fold"):
            self.draw = gr.Button(tr("Draw 16 masks"), elem_classes="msn-quiet-button")
            self.film_line = _line()
            self.film = gr.HTML(js_on_load=filmstrip.SCRIPT, elem_id="masking-film")
        with gr.Accordion(tr("Curves by mask ratio"), open=False, elem_id="masking-curves-fold"):
            self.measure = gr.Button(tr("Measure the curves"), elem_classes="msn-quiet-button")
            self.curve_line, self.stop_curve = _line(), _stop()
            self.curves = gr.HTML(elem_id="masking-curves")
        with gr.Accordion(tr("Which pictures survive masking?"), open=False, elem_id="masking-batch-fold"):
            self.files = Files(
                file_count="multiple",
                label=tr("Pictures"),
                height=160,
                elem_classes="msn-files",
            )
            self.examples = gr.Button(tr("Use the example pictures"), elem_classes="msn-quiet-button")
            self.batch_line, self.stop_batch = _line(), _stop()
            self.batch = gr.HTML(js_on_load=batch_table.SCRIPT, elem_id="masking-batch")
        self.results = {"film": self.film, "curves": self.curves, "search": self.found, "batch": self.batch}

    def connect(self, app: App, controls: Controls[MaskingControls], notice: gr.HTML) -> None:
        """Wire the sections; messages appear beside their buttons."""
        slow: dict[str, Any] = {"long": True, "show_progress": "full"}
        drawn = app.on(self.draw.click, film, [controls], [self.film], notice=self.film_line, **COSTLY)
        measured = app.on(self.measure.click, curves, [controls], [self.curves], notice=self.curve_line, **slow)
        found = app.on(self.find.click, find, [self.by, controls], [self.found], notice=self.found_line, **slow)
        for done, result in ((drawn, "film"), (measured, "curves"), (found, "search")):
            app.reveal(done, f"masking-{result}")
        events = [self.files.upload, self.files.delete, self.files.clear]
        app.on(events, batch, [self.files, controls], [self.batch], notice=self.batch_line, **slow)
        tried = app.on(self.examples.click, batch_of_examples, [controls], [self.batch], notice=self.batch_line, **slow)
        app.reveal(tried, "masking-batch")
        for button in (self.stop_find, self.stop_curve, self.stop_batch):
            app.stop(button)
        app.link("by", self.by, lambda text: linked_choice(text, deciding_patches.BY))
        app.endpoint("mask_curve", mask_curve, long=True)
        app.endpoint("mask_search", mask_search, long=True)


def _line() -> gr.HTML:
    return gr.HTML("", elem_classes="msn-notice-line")


def _stop() -> gr.Button:
    return gr.Button(tr("Stop"), elem_classes=["msn-quiet-button", "msn-stop"])
