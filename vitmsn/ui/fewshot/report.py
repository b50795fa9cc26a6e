"""How far to trust what was learned, as HTML: the verdict, the confusion matrix, odd examples, the learning curve.

What can be clicked carries `data-act`; fewshot.js listens. Names of classes and files come from visitors: escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from vitmsn import fewshot
from vitmsn.gallery import Example
from vitmsn.ui.fewshot.cards import picture
from vitmsn.ui.shared import html
from vitmsn.ui.shared.charts import Axis, Line, chart
from vitmsn.ui.shared.html import badge, many
from vitmsn.ui.shared.workspace import METHODS, Workspace

if TYPE_CHECKING:
    from vitmsn.fewshot import LearningCurve, Lesson

ODD = 5  # odd examples shown at once
BEHIND = 24  # pictures of one cell of the confusion matrix shown at once
CROWDED = 7  # from this many classes on, the confusion matrix is set smaller

EXPLAINED = {
    "knn": "k nearest examples, where the most similar examples vote, the nearer the more",
    "centroid": "centroid, where each class is the mean of its examples and the nearest mean wins",
    "ridge": "ridge, a simple linear classifier that suits few examples",
    "logistic": "logistic regression, a linear classifier fitted to probabilities; the slowest",
    "pixels": "raw pixels, where the most similar pictures vote, compared at 16 × 16 pixels without the model",
}


def trust(workspace: Workspace, lesson: Lesson, asked: bool) -> Markup:
    """The verdict with its evidence, the confusion matrix, and examples that look wrong.

    asked: whether the method was chosen by hand rather than automatically.
    """
    chosen = f"Method: {EXPLAINED[lesson.method]}."
    if not asked and lesson.reason and lesson.method != "pixels":
        chosen = f"{chosen} Chosen because of this: {lesson.reason}."
    said = html.sentence(lesson.sentence()) + html.hint(lesson.near_copies()) + html.hint(switched(workspace, lesson))
    if lesson.few:
        rough = "are a guess, since no class has two different examples"
        rough = rough if max(lesson.different.values()) < 2 else "are rough"
        strangers = "." if lesson.rejector else ", and 'none of these' is not said."
        said += html.hint(baseline(lesson)) + html.hint(f"Until then the probabilities {rough}{strangers}")
        return said + html.hint(chosen)
    copies = " Near-copies were hidden together and count once." if lesson.near_copies() else ""
    how = f"Each example was hidden and named by the others.{copies} The range is a 95 % interval."
    parts = [said, html.hint(how), html.hint(baseline(lesson)), confusion(workspace, lesson)]
    return Markup().join(
        [*parts, _behind(workspace, lesson), _odd(workspace, lesson), _more(workspace, lesson), html.hint(chosen)]
    )


def switched(workspace: Workspace, lesson: Lesson) -> str:
    """Note that "automatic" chose another method after the last change, and what similarities mean now; else ""."""
    if not workspace.switched:
        return ""
    now = METHODS[lesson.method].lower()
    return (
        f"Automatic changed from {METHODS[workspace.switched].lower()} to {now}: {lesson.reason}. "
        f"Similarities are now: {lesson.scale}."
    )


def baseline(lesson: Lesson) -> str:
    """The accuracy of raw pixels alone; if it is as high, that the model adds nothing."""
    if lesson.method == "pixels" and lesson.reason:
        return f"Learned from raw pixels, without the model, because {lesson.reason}."
    if lesson.few or lesson.pixels is None or lesson.method == "pixels":  # too few for a verdict, too few for this
        return ""
    reached = html.percent(lesson.pixels.accuracy, whole=True)
    if lesson.pixels.right >= lesson.judged.right:
        return f"Raw pixels, without the model, do as well: {reached}. For these pictures the model adds nothing."
    return f"Raw pixels, without the model, reach {reached}."


# ------------------------------------------------------------------------------------------------ who is taken for whom


def confusion(workspace: Workspace, lesson: Lesson) -> Markup:
    """The confusion matrix: rows are true classes, columns predictions when held out; a number opens its pictures."""
    column = {label: i for i, label in enumerate(lesson.classes)}
    order = [(i, label) for i, label in enumerate(workspace.gallery.classes) if label in column]
    head = Markup().join(
        Markup('<th scope="col" title="{}">{}</th>').format(html.text(label), badge(i)) for i, label in order
    )
    rows = ""
    for i, label in order:
        counts = lesson.judged.confusion[column[label]]
        cells = Markup().join(
            _cell(int(counts[column[other]]), int(counts.sum()), label, other, workspace.cell == (label, other))
            for _, other in order
        )
        rows += Markup('<tr><th scope="row">{} <span>{}</span></th>{}</tr>').format(badge(i), html.text(label), cells)
    return Markup(
        '<div class="msn-scroll" role="region" tabindex="0" aria-label="Confusion matrix"><table '
        'class="msn-confusion{}">'
        "<caption>Rows: what you said. Columns: what it said. A number opens its pictures.</caption>"
        "<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(" msn-many" if len(order) > CROWDED else "", head, rows)


def _cell(count: int, total: int, label: str, other: str, opened: bool) -> Markup:
    share = count / total if total else 0.0
    title = html.text(f"{count} of {total} {label} named {other}")
    if not count:
        return Markup('<td class="msn-none" style="--share:0%" title="{}">0</td>').format(title)
    return Markup(
        '<td style="--share:{:.0f}%"><button type="button" data-act="cell" data-id="{}" '
        'data-text="{}" aria-pressed="{}" title="{}" '
        'aria-label="{}, show them">{}</button></td>'
    ).format(100 * share, html.text(label), html.text(other), "true" if opened else "false", title, title, count)


def _behind(workspace: Workspace, lesson: Lesson) -> Markup:
    """The pictures of the opened cell, each with its actions."""
    if workspace.cell is None:
        return Markup()
    label, other = workspace.cell
    judged = lesson.judged
    index = [
        i
        for i, example in enumerate(lesson.examples)
        if judged.judged[i] and example.label == label and judged.predictions[i] == other
    ]
    if not index:
        return Markup()
    wrong = label != other
    rows = ""
    for i in index[:BEHIND]:
        example, sure = lesson.examples[i], html.percent(judged.probabilities[i].max(), whole=True)
        rows += _row(workspace, example, f"{example.name}: named {other} ({sure}).", other if wrong else "")
    more = html.hint(f"The first {BEHIND} of {len(index)}.") if len(index) > BEHIND else ""
    title = html.text(f"{many(len(index), 'example')} of {label}, named {other} when held out")
    close = Markup(
        '<button type="button" class="msn-button" data-act="cell" data-id="{}" data-text="{}">Close</button>'
    ).format(html.text(label), html.text(other))
    return Markup('<h3>{}</h3><ul class="msn-suspects msn-behind">{}</ul>{}{}').format(title, rows, more, close)


# --------------------------------------------------------------------------------------------------------- odd examples


def _odd(workspace: Workspace, lesson: Lesson) -> Markup:
    """Examples that contradict the others or are far from them, each with a button that fixes it."""
    judged = lesson.judged
    suspects = judged.suspects().tolist()
    rows = []
    for i in suspects:
        example, other = lesson.examples[i], str(judged.predictions[i])
        sure = html.percent(judged.probabilities[i].max(), whole=True)
        words = f"{example.name} is in {example.label}, yet looks like {other} ({sure})."
        rows.append(_row(workspace, example, words, other))
    for i in lesson.lonely().tolist():
        if i not in suspects:
            example = lesson.examples[i]
            words = f"{example.name} is less like its class, {example.label}, than the other examples are like theirs."
            rows.append(_row(workspace, example, words, ""))
    if not rows:
        return Markup()
    title = f"{many(len(rows), 'example')} look{'s' if len(rows) == 1 else ''} mislabelled or odd"
    more = html.hint(f"The first {ODD} of {len(rows)}.") if len(rows) > ODD else ""
    return Markup('<h3>{}</h3><ul class="msn-suspects">{}</ul>{}').format(title, Markup().join(rows[:ODD]), more)


def _row(workspace: Workspace, example: Example, words: str, move_to: str) -> Markup:
    move = Markup(
        '<button type="button" class="msn-button" data-act="move" data-id="{}" data-text="{}">Move to {}</button>'
    ).format(example.id, html.text(move_to), html.text(move_to, 24))
    remove = Markup(
        '<button type="button" class="msn-button" data-act="remove" data-id="{}" aria-label="Remove {}">Remove</button>'
    ).format(example.id, html.text(example.name))
    return Markup("<li>{}<span>{}</span><span>{}{}</span></li>").format(
        picture(workspace, example, example.name), html.text(words), move if move_to else "", remove
    )


# ----------------------------------------------------------------------------------------------------- would more help?


def _more(workspace: Workspace, lesson: Lesson) -> Markup:
    measured, curve = workspace.kept.get("curve", (None, None))
    if measured is lesson and isinstance(curve, fewshot.LearningCurve):
        return Markup("<h3>Would more examples help?</h3>{}{}").format(html.hint(curve.sentence()), _drawn(curve))
    if measured is lesson and isinstance(curve, str):
        return html.hint(curve)
    return Markup('<p><button type="button" class="msn-button" data-act="curve">Would more examples help?</button></p>')


def _drawn(curve: LearningCurve) -> Markup:
    """Accuracy over examples per class, as inline SVG in the page's own colors."""
    points = list(zip(curve.shots, curve.accuracy.tolist(), strict=True))
    last = curve.shots[-1]
    named: list[tuple[float, str]] = []
    edge = 0.0
    for shots in curve.shots:
        if not named or shots >= edge:
            named.append((float(shots), str(shots)))
            edge = shots * max(last, 2) ** 0.075  # a little more than the width of the text
    said = "; ".join(f"{html.percent(value, whole=True)} from {shots}" for shots, value in points)
    return chart(
        [Line(points, dots=[(shots, value, "") for shots, value in points])],
        Axis(1, max(last, 2), named, logarithmic=True),
        Axis(0, 1, [(share, html.percent(share, whole=True)) for share in (0, 0.5, 1)]),
        alt=f"Share right over examples of each class: {said}",
        caption="Share right over examples of each class: learned from so many, asked about the others, again and "
        "again.",
    )
