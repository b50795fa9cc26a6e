"""The answers as HTML: the drop zone for queries, the table with the nearest examples, and the same as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vitmsn.fewshot import Lesson, Prediction
from vitmsn.gallery import Example
from vitmsn.ui.fewshot import cards
from vitmsn.ui.shared import html
from vitmsn.ui.shared.workspace import Studio

AT_ONCE = 9  # answers in sight; the others one click away


def asking(studio: Studio) -> Markup:
    """The drop zone for queries."""
    clear = (
        Markup('<button type="button" class="msn-button" data-act="clear">Clear</button>')
        if len(studio.queries)
        else ""
    )
    return Markup(
        '<section class="msn-card msn-ask" data-drop="queries" aria-label="Pictures to name">'
        "<footer>{}{}</footer>"
        "{}"
        '<p data-said role="status"></p></section>'
    ).format(cards.ways("Choose pictures", "Pictures to name"), clear, html.hint("or drop or paste them here"))


def answers(studio: Studio, lesson: Lesson, queries: Sequence[Example], said: Sequence[Prediction]) -> Markup:
    """What was said of the queries: one sentence, the table, and the same as CSV."""
    numbers = {label: i for i, label in enumerate(studio.gallery.classes)}
    held = {example.digest for example in lesson.examples}
    rows = []
    order = sorted(zip(queries, said, strict=True), key=lambda pair: pair[1].confidence)
    if studio.order == "down":
        order.reverse()
    for query, one in order if studio.order else zip(queries, said, strict=True):
        near = Markup().join(_neighbour(studio, lesson.examples[i], value) for i, value in one.neighbours)
        seen = Markup("<small>is among the examples</small>") if query.digest in held else ""
        rows.append(
            Markup('<tr><td>{}</td><td>{}{}</td><td><ul class="msn-near">{}</ul></td></tr>').format(
                _looked(studio, query),
                _said(one, numbers, studio.truth.get(query.id)),
                seen or _correct(studio, query),
                near,
            )
        )
    more = Markup("<details><summary>Show all {}</summary>{}</details>").format(len(rows), _table(rows[AT_ONCE:], ""))
    parts = [html.sentence(summary(studio, queries, said)), _table(rows[:AT_ONCE], studio.order or "none")]
    parts += [more] if len(rows) > AT_ONCE else []
    return Markup().join([*parts, _download(lesson, queries, said)])


def _table(rows: Sequence[str], order: str) -> Markup:
    """order: "up", "down" or "none" by confidence, where the head sorts; "" where it does not."""
    arrow = {"up": " ↑", "down": " ↓"}.get(order, "")
    sort = Markup(
        '<button type="button" data-act="sort" title="Sort by confidence">Answer{}'
        '<span class="msn-aside">, sort by confidence</span></button>'
    ).format(arrow)
    state = {"up": Markup(' aria-sort="ascending"'), "down": Markup(' aria-sort="descending"')}.get(order, "")
    head = Markup('<th scope="col">Picture</th><th scope="col"{}>{}</th>').format(state, sort if order else "Answer")
    head += Markup('<th scope="col">Most similar examples</th>')
    return Markup('<table class="msn-answers"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
        head, Markup().join(rows)
    )


def _looked(studio: Studio, query: Example) -> Markup:
    """The query as a button that shows what the model looked at, and then that."""
    name = html.text(query.name)
    seen = studio.kept.get(("look", query.id))
    shown = cards.picture(studio, query, query.name)
    if isinstance(seen, str):
        shown = Markup('<img src="{}" alt="{}, bright where the model looked">').format(seen, name)
    return Markup(
        '<button type="button" data-act="look" data-id="{}" aria-pressed="{}" '
        'title="What the model looked at in {}">{}</button>'
    ).format(query.id, "true" if seen else "false", name, shown)


def _correct(studio: Studio, query: Example) -> Markup:
    """A chooser that makes the query an example of what it really is."""
    options = Markup().join(
        Markup('<option value="{}">{}</option>').format(html.text(label), html.text(label, 40))
        for label in studio.gallery.classes
    )
    return Markup(
        '<select class="msn-select msn-small" data-correct="{}" aria-label="What {} '
        'really is"><option value="">Teach: it is …</option>{}</select>'
    ).format(query.id, html.text(query.name), options)


def _said(one: Prediction, numbers: dict[str, int], truth: str | None) -> str:
    sure = html.percent(one.confidence).replace(" %", "\N{NO-BREAK SPACE}%")
    if one.label is None:
        words = Markup("<strong>none of these</strong><small>closest: {}, {}</small>").format(
            html.text(one.closest), sure
        )
    else:
        words = Markup("{} <strong>{}</strong> {}").format(html.badge(numbers[one.label]), html.text(one.label), sure)
    if truth is None:
        return words
    return words + (
        Markup("<small>✓ right</small>")
        if one.label == truth
        else Markup("<small>✗ it is {}</small>").format(html.text(truth))
    )


def _neighbour(studio: Studio, example: Example, similarity: float) -> Markup:
    title = f"{example.name} in {example.label}, similarity {similarity:.2f}"
    return Markup('<li title="{}">{}<small>{:.2f}</small></li>').format(
        html.text(title), cards.picture(studio, example, title), similarity
    )


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


def _download(lesson: Lesson, queries: Sequence[Example], said: Sequence[Prediction]) -> Markup:
    """A link that carries the CSV itself: nothing is written on the server."""
    head = ["file", "answer", "closest", "confidence", "nearest file", "nearest class", "similarity"]
    lines: list[list[object]] = []
    for query, one in zip(queries, said, strict=True):
        index, similarity = one.neighbours[0]
        near = lesson.examples[index]
        line = [query.name, one.label or "none of these", one.closest, round(one.confidence, 4), near.name, near.label]
        lines.append([*line, round(similarity, 4), *(round(float(value), 4) for value in one.probabilities)])
    return html.csv_link("few-shot.csv", [*head, *(f"p({label})" for label in lesson.classes)], lines)
