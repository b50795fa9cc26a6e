"""The answers as HTML: the drop zone for queries, the table with the nearest examples, and a CSV download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from vitmsn import fewshot
from vitmsn.gallery import Example
from vitmsn.ui.fewshot import cards
from vitmsn.ui.locale import later, tr, tr_html, tr_said
from vitmsn.ui.shared import html
from vitmsn.ui.shared.workspace import Workspace

if TYPE_CHECKING:
    from vitmsn.fewshot import Lesson, Prediction

REASONS = (later("not sure"), later("none of these"))  # why the library names no class
AT_ONCE = 9  # answers shown; the rest are folded


def asking(workspace: Workspace) -> Markup:
    """The drop zone for queries."""
    clear = (
        tr_html('<button type="button" class="msn-button" data-act="clear">Clear</button>')
        if len(workspace.queries)
        else ""
    )
    return tr_html(
        '<section class="msn-card msn-ask" data-drop="queries" aria-label="Pictures to name">'
        "<footer>{}{}</footer>"
        "{}"
        '<p data-said role="status"></p></section>'
    ).format(
        cards.ways(tr("Choose pictures"), tr("Pictures to name")), clear, html.hint(tr("or drop or paste them here"))
    )


def answers(workspace: Workspace, lesson: Lesson, queries: Sequence[Example], said: Sequence[Prediction]) -> Markup:
    """The answers to the queries: one sentence, the table, and a CSV download."""
    numbers = {label: i for i, label in enumerate(workspace.gallery.classes)}
    held = {example.digest for example in lesson.examples}
    rows = []
    order = sorted(zip(queries, said, strict=True), key=lambda pair: pair[1].probability)
    if workspace.order == "down":
        order.reverse()
    for query, one in order if workspace.order else zip(queries, said, strict=True):
        near = Markup().join(_neighbor(workspace, lesson.examples[i], value) for i, value in one.neighbors)
        seen = tr_html("<small>is among the examples</small>") if query.digest in held else ""
        rows.append(
            Markup('<tr><td>{}</td><td>{}{}</td><td><ul class="msn-near">{}</ul></td></tr>').format(
                _looked(workspace, query),
                _said(one, numbers, workspace.truth.get(query.id)),
                seen or _correct(workspace, query),
                near,
            )
        )
    more = tr_html("<details><summary>Show all {}</summary>{}</details>").format(len(rows), _table(rows[AT_ONCE:], ""))
    parts = [
        Markup('<div id="fewshot-answers">{}</div>').format(html.sentence(summary(workspace, queries, said))),
        _table(rows[:AT_ONCE], workspace.order or "none"),
    ]
    parts += [more] if len(rows) > AT_ONCE else []
    parts += [html.hint(tr("Similarity: {scale}.", scale=tr_said(lesson.scale)))]
    return Markup().join([*parts, _download(lesson, queries, said)])


def _table(rows: Sequence[str], order: str) -> Markup:
    """order: "up", "down" or "none" by probability if the heading sorts; "" if it does not."""
    arrow = {"up": " ↑", "down": " ↓"}.get(order, "")
    sort = tr_html(
        '<button type="button" data-act="sort" title="Sort by probability">Answer{}'
        '<span class="msn-aside">, sort by probability</span></button>'
    ).format(arrow)
    state = {"up": Markup(' aria-sort="ascending"'), "down": Markup(' aria-sort="descending"')}.get(order, "")
    head = tr_html('<th scope="col">Picture</th><th scope="col"{}>{}</th>').format(
        state, sort if order else tr("Answer")
    )
    head += tr_html('<th scope="col">Most similar examples</th>')
    return Markup('<table class="msn-answers"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
        head, Markup().join(rows)
    )


def _looked(workspace: Workspace, query: Example) -> Markup:
    """The query as a button that toggles the map of what the model looked at."""
    name = html.text(query.name)
    seen = workspace.kept.get(("look", query.id))
    shown = cards.picture(workspace, query, query.name)
    if isinstance(seen, str):
        shown = tr_html('<img src="{}" alt="{}, bright where the model looked">').format(seen, name)
    return tr_html(
        '<button type="button" data-act="look" data-id="{}" aria-pressed="{}" '
        'title="What the model looked at in {}">{}</button>'
    ).format(query.id, "true" if seen else "false", name, shown)


def _correct(workspace: Workspace, query: Example) -> Markup:
    """A menu that adds the query as an example of its true class."""
    options = Markup().join(
        Markup('<option value="{}">{}</option>').format(html.text(label), html.text(label, 40))
        for label in workspace.gallery.classes
    )
    return tr_html(
        '<select class="msn-select msn-small" data-correct="{}" aria-label="What {} '
        'really is"><option value="">Teach: it is …</option>{}</select>'
    ).format(query.id, html.text(query.name), options)


def _said(one: Prediction, numbers: dict[str, int], truth: str | None) -> str:
    sure = html.percent(one.probability)
    if one.reason == fewshot.NONE:
        words = tr_html("<strong>none of these</strong><small>{}</small>").format(tr_said(one.far()))
    elif one.label is None:
        words = tr_html("<strong>not sure</strong><small>closest match: {} ({})</small>").format(
            html.text(one.closest), sure
        )
    else:
        words = Markup("{} <strong>{}</strong> {}").format(html.badge(numbers[one.label]), html.text(one.label), sure)
    if truth is None:
        return words
    return words + (
        tr_html("<small>✓ right</small>")
        if one.label == truth
        else tr_html("<small>✗ it is {}</small>").format(html.text(truth))
    )


def _neighbor(workspace: Workspace, example: Example, similarity: float) -> Markup:
    alike = html.similar(similarity)
    title = tr("{name} in {label}, similarity {similarity}", name=example.name, label=example.label, similarity=alike)
    return Markup('<li title="{}">{}<small>{}</small></li>').format(
        html.text(title), cards.picture(workspace, example, title), alike
    )


def summary(workspace: Workspace, queries: Sequence[Example], said: Sequence[Prediction]) -> str:
    """The answers in one sentence; how many are right, if the true classes are known."""
    if workspace.truth:
        right = sum(one.label == workspace.truth.get(query.id) for query, one in zip(queries, said, strict=True))
        silent = Counter(one.reason for one in said if one.reason)
        tail = "".join(f"; {tr(reason)}: {count}" for reason, count in silent.most_common())
        return tr("{right} of {total} new pictures named correctly{tail}.", right=right, total=len(queries), tail=tail)
    found = Counter(one.label or tr(one.reason) for one in said)
    listed = [f"{count} {label}" for label, count in found.most_common()]
    more = tr(" and {many} classes more", many=len(listed) - 6) if len(listed) > 6 else ""
    return f"{html.pictures(len(queries))}: {', '.join(listed[:6])}{more}."


def _download(lesson: Lesson, queries: Sequence[Example], said: Sequence[Prediction]) -> Markup:
    """A link with the CSV inside (a data: URL): nothing is written on the server."""
    head = [
        "file",
        "answer",
        "closest",
        "probability",
        "distance",
        "nearest file",
        "nearest class",
        "similarity",
    ]
    lines: list[list[object]] = []
    for query, one in zip(queries, said, strict=True):
        index, similarity = one.neighbors[0]
        near, far = lesson.examples[index], "" if one.distance is None else round(one.distance, 4)
        line = [query.name, one.label or one.reason, one.closest, round(one.probability, 4), far, near.name, near.label]
        lines.append([*line, round(similarity, 4), *(round(float(value), 4) for value in one.probabilities)])
    return html.csv_link("few-shot.csv", [*head, *(f"p({label})" for label in lesson.classes)], lines)
