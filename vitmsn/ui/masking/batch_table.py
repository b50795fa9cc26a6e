"""Which pictures survive masking: a batch as a sortable table, and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import limits, robustness
from vitmsn.encoder import Encoder
from vitmsn.encodings import Progress
from vitmsn.errors import ImageError, InputError
from vitmsn.image import Picture
from vitmsn.ui.locale import later, tr, tr_html, tr_said
from vitmsn.ui.masking import similarity
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.photo import check_total, read_picture
from vitmsn.ui.shared.scripts import script

DRAWS = 8
HEADER = (
    later("File"),
    later("Answer"),
    later("Similarity"),
    later("Lowest"),
    later("Answer kept"),
    later("Cross-entropy"),
)

SCRIPT = script(__file__, "table_order.js", "batch_table.js")


@dataclass(frozen=True)
class Row:
    """Results of one picture over several draws of one kind of mask, or why it could not be read."""

    name: str
    picture: Image.Image | None = None
    views: robustness.Views | None = None
    sure: bool = True
    refused: str = ""
    example: bool = False  # its name is a text of the page, in the language of whoever reads the table

    @property
    def title(self) -> str:
        return tr(self.name) if self.example else self.name


def judge(
    encoder: Encoder,
    sources: Sequence[Picture | str],
    sample: Callable[[int], np.ndarray],
    progress: Progress,
    *,
    examples: bool = False,
) -> list[Row]:
    """Every picture (or path of an upload) under the same DRAWS masks; `sample` gives the patches kept for a seed.

    examples: whether they are the page's own, whose names are shown in the language of the page.
    """
    if len(sources) > limits.MAX_QUERIES:
        raise InputError(
            tr(
                "These are {many} files and {most} go at once; send fewer.",
                many=len(sources),
                most=limits.MAX_QUERIES,
            )
        )
    check_total([source for source in sources if isinstance(source, str)])
    kept = np.stack([sample(seed) for seed in range(DRAWS)])
    rows = []
    for number, source in enumerate(sources):
        progress(number, len(sources))
        try:
            picture = source if isinstance(source, Picture) else read_picture(source)
        except ImageError as error:
            rows.append(Row(Path(str(source)).name, refused=str(error)))
            continue
        sure = not encoder.has_classifier or encoder.classify(picture, top_k=1)[0].sure
        face = picture.thumbnail(64)  # all the table needs
        rows.append(Row(picture.name, face, robustness.views(encoder, picture, kept), sure, example=examples))
    progress(len(sources), len(sources))
    return rows


def table(rows: list[Row], name: str) -> Markup:
    """The table, most robust first, with a sentence and a CSV link, as HTML; `name` is the model's."""
    good = sorted((row for row in rows if row.views is not None), key=_rank, reverse=True)
    ordered = [*good, *(row for row in rows if row.views is None)]
    head = Markup().join(
        Markup('<th scope="col"{}><button type="button">{}</button></th>').format(
            " aria-sort=descending" if column == "Answer kept" else "", tr(column)
        )
        for column in HEADER
    )
    body = Markup().join(_row(row) for row in ordered)
    views = [row.views for row in good if row.views is not None]
    known = [view.others for view in views if view.others is not None]
    compared = similarity.worth(
        name, float(np.mean(known)) if known else None, any(v.centered is not None for v in views)
    )
    note = tr(
        "Each picture under {draws} masks of the kind chosen above. 'Not sure' still has a closest match, kept or not.",
        draws=DRAWS,
    )
    return tr_html(
        '{}<div class="msn-scroll"><table class="msn-answers msn-robust"><thead><tr>'
        '<th scope="col" aria-label="Picture"></th>{}</tr></thead><tbody>{}</tbody></table></div>'
        "{}{}"
    ).format(
        html.sentence(sentence(good)), head, body, html.hint(f"{note} {compared}" if views else note), _csv(ordered)
    )


def sentence(rows: list[Row]) -> str:
    """Which pictures survive best and worst; `rows` go from best to worst."""
    if not rows:
        return ""
    if len(rows) == 1:
        return f"{rows[0].title}: {_words(rows[0])}."
    return tr(
        "{best} survives best ({best_words}), {worst} worst ({worst_words}).",
        best=rows[0].title,
        best_words=_words(rows[0]),
        worst=examples.inside(rows[-1].title) if rows[-1].example else rows[-1].title,
        worst_words=_words(rows[-1]),
    )


def _words(row: Row) -> str:
    assert row.views is not None
    said = similarity.alike(*similarity.mean(row.views))
    return (
        said
        if row.views.same is None
        else tr("{same} of {draws} keep the answer, {said}", same=int(row.views.same.sum()), draws=DRAWS, said=said)
    )


def _rank(row: Row) -> tuple[float, float]:
    assert row.views is not None
    same, (plain, centered) = row.views.same, similarity.mean(row.views)
    return (0.0 if same is None else float(same.mean())), plain if centered is None else centered


def _row(row: Row) -> Markup:
    if row.views is None or row.picture is None:
        cells = Markup('<td></td><td data-value="{}">{}</td>').format(html.text(row.name), html.text(row.name, 40))
        return Markup('<tr class="msn-refused">{}<td colspan="{}">{}</td></tr>').format(
            cells, len(HEADER) - 1, html.text(tr_said(row.refused))
        )
    cells = Markup("<td>{}</td>").format(html.img(row.picture, ""))
    answer, plain, least, centered, least_centered, *others = _values(row)[1:]
    alike = [plain, least] if centered == "" else [centered, least_centered]  # what is subtracted, the note says
    for value, said in zip([row.title, answer, *alike, *others], _shown(row, alike), strict=True):
        cells += Markup('<td data-value="{}">{}</td>').format(html.text(value), html.text(said, 60))
    return Markup("<tr>{}</tr>").format(cells)


def _values(row: Row) -> list[str | float]:
    """Values to sort by and to write as CSV; "" where this model has no such number."""
    assert row.views is not None
    views = row.views
    return [
        row.name,
        "" if views.predictions is None else views.predictions.name(0),
        round(float(views.similarity.mean()), 6),
        round(float(views.similarity.min()), 6),
        "" if views.centered is None else round(float(views.centered.mean()), 6),
        "" if views.centered is None else round(float(views.centered.min()), 6),
        "" if views.same is None else round(float(views.same.mean()), 6),
        "" if views.cross_entropy is None else round(float(views.cross_entropy.mean()), 6),
    ]


def _shown(row: Row, similarities: list[str | float]) -> list[str]:
    _, answer, *_, surprise = _values(row)
    kept = (
        ""
        if row.views is None or row.views.same is None
        else tr("{count} of {total}", count=int(row.views.same.sum()), total=DRAWS)
    )
    unsure = "" if row.sure or not answer else tr(" (not sure)")
    loss = "" if surprise == "" else tr("{value:.2f} nats", value=surprise)
    alike = [html.similar(float(one)) for one in similarities]
    return [row.title, f"{tr_said(str(answer))}{unsure}", *alike, kept, loss]


def _csv(rows: list[Row]) -> Markup:
    head = ["file", "answer", "mean similarity", "least similarity", "mean centered similarity"]
    head += ["least centered similarity", "share that keep the answer", "mean cross-entropy"]
    lines = [[row.name, row.refused, *[""] * (len(head) - 2)] if row.views is None else _values(row) for row in rows]
    return html.csv_link("robust.csv", head, lines)
