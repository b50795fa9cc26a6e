"""A studio as HTML: class cards, and the answers with their nearest examples (`trust` has what is between them).

Only Few-shot and Explore draw from here. Names of classes and files are visitors' own and always escaped. What can be
clicked carries `data-act`; fewshot.js listens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from vitmsn import draw, export, limits
from vitmsn.fewshot import Lesson, Prediction
from vitmsn.gallery import Example
from vitmsn.ui import examples, parts
from vitmsn.ui.studio import Studio

THUMBNAILS = 240  # shown in all cards together; the others count without being shown
ON_A_CARD = 24
AT_ONCE = 9  # answers in sight; the others one click away


def badge(index: int) -> str:
    """A class's colour with its letter on it."""
    tone, letter = draw.class_style(index)
    return f'<span class="msn-letter" style="background:{tone};color:{ink(index)}">{letter}</span>'


def ink(index: int) -> str:
    """Black or white, whichever is read better on the class's colour."""
    tone = draw.class_style(index)[0]
    red, green, blue = ((int(tone[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # relative luminance, as WCAG counts contrast
    return "#000" if light > 0.18 else "#fff"


def picture(studio: Studio, example: Example, alt: str) -> str:
    """A small picture of an example or query."""
    return f'<img src="{studio.url(example)}" alt="{parts.text(alt)}">'


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# ----------------------------------------------------------------------------------------------------------- 1 examples


def cards(studio: Studio) -> str:
    """A card for each class: name, pictures, ways to add more; then what the set is and how much room is left."""
    shown = studio.gallery
    members: dict[str, list[Example]] = {label: [] for label in shown.classes}
    for example in shown.examples:
        members[example.label].append(example)
    most = max(4, min(ON_A_CARD, THUMBNAILS // max(1, len(members))))
    items = "".join(
        _card(studio, i, label, own, len(own) if label in studio.unfolded else most)
        for i, (label, own) in enumerate(members.items())
    )
    undo = f'<button type="button" class="msn-button" data-act="undo">Undo: {parts.text(studio.undo)}</button>'
    credit = next((known.credit for known in examples.starter_sets() if known.name == studio.starter), "")
    room = (
        f"{len(shown)} of at most {limits.MAX_EXAMPLES} pictures in {len(members)} of at most {limits.MAX_CLASSES} "
        f"classes; {limits.MAX_IMAGE_BYTES // limits.MIB} MB a picture. Click pictures to move or remove them."
    )
    own = " data-own" if studio.own else ""
    return (
        f'<div class="msn-cards" data-version="{studio.version}"{own}>{items}</div>{_picked(list(members))}'
        f"{undo if studio.undo else ''}"
        f"{parts.hint(room)}{parts.hint(f'Pictures: {credit}.') if credit else ''}"
    )


def _card(studio: Studio, index: int, label: str, members: list[Example], most: int) -> str:
    letter, name = draw.class_style(index)[1], parts.text(label)
    thumbnails = "".join(
        f'<li><button type="button" data-pick="{example.id}" aria-pressed="false" title="{parts.text(example.name)}">'
        f"{picture(studio, example, f'{example.name} in {label}')}</button></li>"
        for example in members[-most:]
    )
    hidden = len(members) - most
    unfold = f'<li><button type="button" class="msn-more" data-act="unfold" data-id="{name}">and {hidden} more</button>'
    more = f"{unfold}</li>" if hidden > 0 else ""
    resting = bool(members) and not any(example.enabled for example in members)
    others = "".join(
        f'<option value="{parts.text(other)}">{parts.text(other, 40)}</option>'
        for other in studio.gallery.classes
        if other != label
    )
    turn = f'<button type="button" class="msn-button" data-act="{"wake" if resting else "rest"}" data-id="{name}">'
    merge = (
        f'<select class="msn-select" data-merge="{name}" aria-label="Merge class {name} into">'
        f'<option value="">Merge into …</option>{others}</select>'
    )
    menu = (
        f'<details class="msn-menu"><summary aria-label="More for class {name}" title="More">⋯</summary><div>'
        f"{turn}{'Count it again' if resting else 'Leave it out'}</button>{merge if others else ''}</div></details>"
    )
    return (
        f'<section class="msn-card{" msn-resting" if resting else ""}" data-drop="{name}" '
        f'aria-label="Class {letter}: {name}">'
        f'<header>{badge(index)}<input data-rename="{name}" value="{name}" maxlength="{limits.MAX_NAME_LENGTH}" '
        f'autocomplete="off" aria-label="Name of class {letter}"><span>{len(members)}</span>{menu}'
        f'<button type="button" class="msn-x" data-act="remove-class" data-id="{name}" title="Remove this class" '
        f'aria-label="Remove class {name}">×</button></header>'
        f"{parts.hint('Left out: it is kept and does not count.') if resting else ''}"
        f"<ul>{thumbnails}{more}</ul><footer>{ways('Add pictures', f'Add pictures to {label}')}</footer>"
        '<p data-said role="status"></p></section>'
    )


def _picked(labels: Sequence[str]) -> str:
    """What can be done with the pictures that were clicked; fewshot.js shows it while there are any."""
    options = "".join(f'<option value="{parts.text(label)}">{parts.text(label, 40)}</option>' for label in labels)
    return (
        '<div class="msn-picked" role="group" aria-label="Chosen pictures" hidden><span role="status"></span>'
        f'<select class="msn-select" data-move aria-label="Move the chosen pictures to"><option value="">Move to …'
        f'</option>{options}</select><button type="button" class="msn-button" data-remove>Remove</button>'
        '<button type="button" class="msn-button" data-let-go>Let go</button></div>'
    )


def ways(words: str, title: str) -> str:
    """The ways to send pictures: a file chooser and the camera."""
    said = parts.text(title)
    return (
        f'<label class="msn-button">{words}<input type="file" accept="image/*" multiple aria-label="{said}"></label>'
        f'<button type="button" class="msn-button" data-camera="{said}" aria-label="{said} by camera">Camera</button>'
    )


# ---------------------------------------------------------------------------------------------------------------- 2 try


def asking(studio: Studio) -> str:
    """The drop zone for queries."""
    clear = '<button type="button" class="msn-button" data-act="clear">Clear</button>' if len(studio.queries) else ""
    return (
        '<section class="msn-card msn-ask" data-drop="queries" aria-label="Pictures to name">'
        f"<footer>{ways('Choose pictures', 'Pictures to name')}{clear}</footer>"
        f"{parts.hint('or drop or paste them here')}"
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
        f"{parts.sentence(summary(studio, queries, said))}{_table(rows[:AT_ONCE], studio.order or 'none')}"
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
    name = parts.text(query.name)
    seen = studio.kept.get(("look", query.id))
    shown = picture(studio, query, query.name)
    if isinstance(seen, str):
        shown = f'<img src="{seen}" alt="{name}, bright where the model looked">'
    return (
        f'<button type="button" data-act="look" data-id="{query.id}" aria-pressed="{"true" if seen else "false"}" '
        f'title="What the model looked at in {name}">{shown}</button>'
    )


def _correct(studio: Studio, query: Example) -> str:
    """A chooser that makes the query an example of what it really is."""
    options = "".join(
        f'<option value="{parts.text(label)}">{parts.text(label, 40)}</option>' for label in studio.gallery.classes
    )
    return (
        f'<select class="msn-select msn-small" data-correct="{query.id}" aria-label="What {parts.text(query.name)} '
        f'really is"><option value="">Teach: it is …</option>{options}</select>'
    )


def _said(one: Prediction, numbers: dict[str, int], truth: str | None) -> str:
    sure = parts.percent(one.confidence).replace(" %", "&nbsp;%")
    if one.label is None:
        words = f"<strong>none of these</strong><small>closest: {parts.text(one.closest)}, {sure}</small>"
    else:
        words = f"{badge(numbers[one.label])} <strong>{parts.text(one.label)}</strong> {sure}"
    if truth is None:
        return words
    return words + ("<small>✓ right</small>" if one.label == truth else f"<small>✗ it is {parts.text(truth)}</small>")


def _neighbour(studio: Studio, example: Example, similarity: float) -> str:
    title = f"{example.name} in {example.label}, similarity {similarity:.2f}"
    return f'<li title="{parts.text(title)}">{picture(studio, example, title)}<small>{similarity:.2f}</small></li>'


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
    return f"{many(len(queries), 'picture')}: {', '.join(listed[:6])}{more}."


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
