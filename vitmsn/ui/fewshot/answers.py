"""The answers as HTML: the drop zone for queries, the table with the nearest examples, and the same as CSV."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from vitmsn import export
from vitmsn.fewshot import Lesson, Prediction
from vitmsn.gallery import Example
from vitmsn.ui.fewshot import cards
from vitmsn.ui.shared import html
from vitmsn.ui.shared.workspace import Studio

AT_ONCE = 9  # answers in sight; the others one click away


def asking(studio: Studio) -> str:
    """The drop zone for queries."""
    clear = '<button type="button" class="msn-button" data-act="clear">Clear</button>' if len(studio.queries) else ""
    return (
        '<section class="msn-card msn-ask" data-drop="queries" aria-label="Pictures to name">'
        f"<footer>{cards.ways('Choose pictures', 'Pictures to name')}{clear}</footer>"
        f"{html.hint('or drop or paste them here')}"
        '<p data-said role="status"></p></section>'
    )


def answers(studio: Studio, lesson: Lesson, queries: Sequence[Example], said: Sequence[Prediction]) -> str:
    """What was said of the queries: one sentence, the table, and the same as CSV."""
    numbers = {label: i for i, label in enumerate(studio.gallery.classes)}
    held = {example.digest for example in lesson.examples}
    rows = []
    order = sorted(zip(queries, said, strict=True), key=lambda pair: pair[1].confidence)
    if studio.order == "down":
        order.reverse()
    for query, one in order if studio.order else zip(queries, said, strict=True):
        near = "".join(_neighbour(studio, lesson.examples[i], value) for i, value in one.neighbours)
        seen = "<small>is among the examples</small>" if query.digest in held else ""
        rows.append(
            f"<tr><td>{_looked(studio, query)}</td><td>{_said(one, numbers, studio.truth.get(query.id))}"
            f"{seen or _correct(studio, query)}</td>"
            f'<td><ul class="msn-near">{near}</ul></td></tr>'
        )
    more = f"<details><summary>Show all {len(rows)}</summary>{_table(rows[AT_ONCE:], '')}</details>"
    return (
        f"{html.sentence(summary(studio, queries, said))}{_table(rows[:AT_ONCE], studio.order or 'none')}"
        f"{more if len(rows) > AT_ONCE else ''}{_download(lesson, queries, said)}"
    )


def _table(rows: Sequence[str], order: str) -> str:
    """order: "up", "down" or "none" by confidence, where the head sorts; "" where it does not."""
    arrow = {"up": " ↑", "down": " ↓"}.get(order, "")
    sort = (
        f'<button type="button" data-act="sort" title="Sort by confidence">Answer{arrow}'
        '<span class="msn-aside">, sort by confidence</span></button>'
    )
    state = {"up": ' aria-sort="ascending"', "down": ' aria-sort="descending"'}.get(order, "")
    head = f'<th scope="col">Picture</th><th scope="col"{state}>{sort if order else "Answer"}</th>'
    head += '<th scope="col">Most similar examples</th>'
    return f'<table class="msn-answers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _looked(studio: Studio, query: Example) -> str:
    """The query as a button that shows what the model looked at, and then that."""
    name = html.text(query.name)
    seen = studio.kept.get(("look", query.id))
    shown = cards.picture(studio, query, query.name)
    if isinstance(seen, str):
        shown = f'<img src="{seen}" alt="{name}, bright where the model looked">'
    return (
        f'<button type="button" data-act="look" data-id="{query.id}" aria-pressed="{"true" if seen else "false"}" '
        f'title="What the model looked at in {name}">{shown}</button>'
    )


def _correct(studio: Studio, query: Example) -> str:
    """A chooser that makes the query an example of what it really is."""
    options = "".join(
        f'<option value="{html.text(label)}">{html.text(label, 40)}</option>' for label in studio.gallery.classes
    )
    return (
        f'<select class="msn-select msn-small" data-correct="{query.id}" aria-label="What {html.text(query.name)} '
        f'really is"><option value="">Teach: it is …</option>{options}</select>'
    )


def _said(one: Prediction, numbers: dict[str, int], truth: str | None) -> str:
    sure = html.percent(one.confidence).replace(" %", "&nbsp;%")
    if one.label is None:
        words = f"<strong>none of these</strong><small>closest: {html.text(one.closest)}, {sure}</small>"
    else:
        words = f"{html.badge(numbers[one.label])} <strong>{html.text(one.label)}</strong> {sure}"
    if truth is None:
        return words
    return words + ("<small>✓ right</small>" if one.label == truth else f"<small>✗ it is {html.text(truth)}</small>")


def _neighbour(studio: Studio, example: Example, similarity: float) -> str:
    title = f"{example.name} in {example.label}, similarity {similarity:.2f}"
    return f'<li title="{html.text(title)}">{cards.picture(studio, example, title)}<small>{similarity:.2f}</small></li>'


def summary(studio: Studio, queries: Sequence[Example], said: Sequence[Prediction]) -> str:
    """The answers in one sentence; how many are right where the classes are known."""
    nothing = sum(one.label is None for one in said)
    if studio.truth:
        right = sum(one.label == studio.truth.get(query.id) for query, one in zip(queries, said, strict=True))
        tail = f"; of {nothing} it said 'none of these'" if nothing else ""
        return f"{right} of {len(queries)} pictures it had never seen named rightly{tail}."
    found: dict[str, int] = {}
    for one in said:
        found[one.label or "none of these"] = found.get(one.label or "none of these", 0) + 1
    listed = [f"{count} {label}" for label, count in sorted(found.items(), key=lambda item: -item[1])]
    more = f" and {len(listed) - 6} classes more" if len(listed) > 6 else ""
    return f"{html.many(len(queries), 'picture')}: {', '.join(listed[:6])}{more}."


def _download(lesson: Lesson, queries: Sequence[Example], said: Sequence[Prediction]) -> str:
    """A link that carries the CSV itself: nothing is written on the server."""
    head = ["file", "answer", "closest", "confidence", "nearest file", "nearest class", "similarity"]
    lines: list[list[object]] = []
    for query, one in zip(queries, said, strict=True):
        index, similarity = one.neighbours[0]
        near = lesson.examples[index]
        line = [query.name, one.label or "none of these", one.closest, round(one.confidence, 4), near.name, near.label]
        lines.append([*line, round(similarity, 4), *(round(float(value), 4) for value in one.probabilities)])
    text = export.csv_text([*head, *(f"p({label})" for label in lesson.classes)], lines)
    data = base64.b64encode(text.encode("utf-8-sig")).decode("ascii")
    return f'<a class="msn-button" download="few-shot.csv" href="data:text/csv;base64,{data}">Download as CSV</a>'
