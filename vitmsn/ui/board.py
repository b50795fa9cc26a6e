"""A studio as HTML: class cards, the verdict with its confusion matrix, the answers with their nearest examples.

Only Few-shot and Explore draw from here. Names of classes and files are visitors' own and always escaped. What can be
clicked carries `data-act`; fewshot.js listens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from vitmsn import draw, export, limits
from vitmsn.gallery import Example
from vitmsn.ui import examples, parts
from vitmsn.ui.studio import ENOUGH, METHODS, Lesson, Prediction, Studio

THUMBNAILS = 240  # shown in all cards together; the others count without being shown
ON_A_CARD = 24
SUSPECTS = 5
CROWDED = 7  # classes from which the confusion matrix is set smaller
AT_ONCE = 9  # answers in sight; the others one click away

EXPLAINED = {
    "knn": "the k most similar examples vote, the nearer the more",
    "centroid": "each class is the mean of its examples, and the nearest mean wins",
    "ridge": "one weighing of all features per class, kept small so that few examples do not mislead it",
    "logistic": "one weighing of all features per class, fitted to probabilities; the slowest",
}


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
    items = "".join(_card(studio, i, label, own, most) for i, (label, own) in enumerate(members.items()))
    undo = f'<button type="button" class="msn-button" data-act="undo">Undo: {parts.text(studio.undo)}</button>'
    credit = next((known.credit for known in examples.starter_sets() if known.name == studio.starter), "")
    room = (
        f"{len(shown)} of at most {limits.MAX_EXAMPLES} pictures in {len(members)} of at most {limits.MAX_CLASSES} "
        f"classes; {limits.MAX_IMAGE_BYTES // limits.MIB} MB a picture. A click on a picture removes it."
    )
    return (
        f'<div class="msn-cards" data-version="{studio.version}">{items}</div>{undo if studio.undo else ""}'
        f"{parts.hint(room)}{parts.hint(f'Pictures: {credit}.') if credit else ''}"
    )


def _card(studio: Studio, index: int, label: str, members: list[Example], most: int) -> str:
    letter, name = draw.class_style(index)[1], parts.text(label)
    thumbnails = "".join(
        f'<li><button type="button" data-act="remove" data-id="{example.id}" title="Remove {parts.text(example.name)}">'
        f"{picture(studio, example, f'Remove {example.name} from {label}')}</button></li>"
        for example in members[-most:]
    )
    more = f"<li>and {len(members) - most} more</li>" if len(members) > most else ""
    return (
        f'<section class="msn-card" data-drop="{name}" aria-label="Class {letter}: {name}">'
        f'<header>{badge(index)}<input data-rename="{name}" value="{name}" maxlength="{limits.MAX_NAME_LENGTH}" '
        f'autocomplete="off" aria-label="Name of class {letter}"><span>{len(members)}</span>'
        f'<button type="button" class="msn-x" data-act="remove-class" data-id="{name}" title="Remove this class" '
        f'aria-label="Remove class {name}">×</button></header>'
        f"<ul>{thumbnails}{more}</ul><footer>{ways('Add pictures', f'Add pictures to {label}')}</footer>"
        '<p data-said role="status"></p></section>'
    )


def ways(words: str, title: str) -> str:
    """The ways to send pictures: a file chooser and the camera."""
    said = parts.text(title)
    return (
        f'<label class="msn-button">{words}<input type="file" accept="image/*" multiple aria-label="{said}"></label>'
        f'<button type="button" class="msn-button" data-camera="{said}" aria-label="{said} by camera">Camera</button>'
    )


# -------------------------------------------------------------------------------------------------------------- 2 trust


def verdict(lesson: Lesson) -> str:
    """How good it is on examples it had not seen, in one sentence; too few examples are no ground for one."""
    if lesson.few:
        names = ", ".join(lesson.few[:3]) + (f" and {len(lesson.few) - 3} more" if len(lesson.few) > 3 else "")
        return f"Fewer than {ENOUGH} examples per class ({names}): too few to judge."
    judged = lesson.judged
    low, high = judged.interval
    share = f"{percent(judged.accuracy)} right ({judged.right} of {judged.total})"
    return f"{share}, between {100 * low:.0f} and {percent(high)}."


def trust(studio: Studio, lesson: Lesson) -> str:
    """The verdict, what it rests on, who is taken for whom, and examples that look wrong."""
    smallest = min(lesson.counts.values())
    chosen = f"{METHODS[lesson.method]}: {EXPLAINED[lesson.method]}. {many(smallest, 'example')} in the smallest class."
    if lesson.few:
        rough = "are a guess, since no class has two examples" if max(lesson.counts.values()) < 2 else "are rough"
        said = f"Until then the confidences {rough}, and 'none of these' is not said."
        return parts.sentence(verdict(lesson)) + parts.hint(said) + parts.hint(chosen)
    how = (
        "Leave-one-out: each example was named by a classifier that had not seen it"
        f"{'' if lesson.judged.exact else ' (in ten folds)'}; on more pictures like these the figure lies between the "
        "two 95 times in 100. Confidences are set by the same examples."
    )
    return (
        f"{parts.sentence(verdict(lesson))}{parts.hint(how)}{confusion(studio, lesson)}{_suspects(studio, lesson)}"
        f"{parts.hint(chosen)}"
    )


def confusion(studio: Studio, lesson: Lesson) -> str:
    """A table: rows as labelled, columns as named when held out."""
    column = {label: i for i, label in enumerate(lesson.classes)}
    order = [(i, label) for i, label in enumerate(studio.gallery.classes) if label in column]
    head = "".join(f'<th scope="col" title="{parts.text(label)}">{badge(i)}</th>' for i, label in order)
    rows = ""
    for i, label in order:
        counts = lesson.judged.confusion[column[label]]
        cells = "".join(_cell(int(counts[column[other]]), int(counts.sum()), label, other) for _, other in order)
        rows += f'<tr><th scope="row">{badge(i)} <span>{parts.text(label)}</span></th>{cells}</tr>'
    return (
        '<div class="msn-scroll" role="region" tabindex="0" aria-label="Confusion matrix"><table '
        f'class="msn-confusion{" msn-many" if len(order) > CROWDED else ""}">'
        "<caption>Rows: what you said. Columns: what it said.</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(count: int, total: int, label: str, other: str) -> str:
    share = count / total if total else 0.0
    title = parts.text(f"{count} of {total} {label} named {other}")
    return f'<td class="{"" if count else "msn-none"}" style="--share:{100 * share:.0f}%" title="{title}">{count}</td>'


def _suspects(studio: Studio, lesson: Lesson) -> str:
    """Examples that the others contradict, with the one click that puts them right."""
    rows = []
    judged = lesson.judged
    for index in judged.suspects()[:SUSPECTS]:
        example, other = lesson.examples[index], str(judged.predictions[index])
        sure = percent(judged.probabilities[index].max())
        words = f"{example.name} is in {example.label}, yet looks like {other} ({sure})."
        rows.append(
            f"<li>{picture(studio, example, example.name)}<span>{parts.text(words)}</span>"
            f'<button type="button" class="msn-button" data-act="move" data-id="{example.id}" '
            f'data-text="{parts.text(other)}">Move to {parts.text(other, 24)}</button></li>'
        )
    title = f"{many(len(rows), 'example')} look{'s' if len(rows) == 1 else ''} wrong"
    return f'<h3>{title}</h3><ul class="msn-suspects">{"".join(rows)}</ul>' if rows else ""


# ---------------------------------------------------------------------------------------------------------------- 3 try


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
    for query, one in zip(queries, said, strict=True):
        near = "".join(_neighbour(studio, lesson.examples[i], value) for i, value in one.neighbours)
        seen = "<small>is among the examples</small>" if query.digest in held else ""
        rows.append(
            f"<tr><td>{picture(studio, query, query.name)}</td><td>{_said(one, numbers, studio.truth.get(query.id))}"
            f'{seen}</td><td><ul class="msn-near">{near}</ul></td></tr>'
        )
    more = f"<details><summary>Show all {len(rows)}</summary>{_table(rows[AT_ONCE:])}</details>"
    return (
        f"{parts.sentence(summary(studio, queries, said))}{_table(rows[:AT_ONCE])}"
        f"{more if len(rows) > AT_ONCE else ''}{_download(lesson, queries, said)}"
    )


def _table(rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Picture", "Answer", "Most similar examples"))
    return f'<table class="msn-answers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


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
