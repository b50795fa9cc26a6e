"""How far to trust what was learned, as HTML: the verdict, the confusion matrix, odd examples, the learning curve.

What can be clicked carries `data-act`; fewshot.js listens. Names of classes and files come from visitors: escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from vitmsn import fewshot
from vitmsn.gallery import Example
from vitmsn.ui.fewshot.cards import picture
from vitmsn.ui.locale import ENGLISH, current, later, tr, tr_count, tr_html, tr_said
from vitmsn.ui.shared import html
from vitmsn.ui.shared.charts import Axis, Line, chart
from vitmsn.ui.shared.html import badge
from vitmsn.ui.shared.workspace import METHODS, Workspace

if TYPE_CHECKING:
    from vitmsn.fewshot import LearningCurve, Lesson

ODD = 5  # odd examples shown at once
BEHIND = 24  # pictures of one cell of the confusion matrix shown at once
CROWDED = 6  # with more classes, the confusion matrix is set smaller, with names at its columns, and opens large

EXPLAINED = {
    "knn": later("k nearest examples, where the most similar examples vote, the nearer the more"),
    "centroid": later("centroid, where each class is the mean of its examples and the nearest mean wins"),
    "ridge": later("ridge, a simple linear classifier that suits few examples"),
    "logistic": later("logistic regression, a linear classifier fitted to probabilities; the slowest"),
    "pixels": later("raw pixels, where the most similar pictures vote, compared at 16 × 16 pixels without the model"),
}


def trust(workspace: Workspace, lesson: Lesson, asked: bool) -> Markup:
    """The verdict with its evidence, the confusion matrix, and examples that look wrong.

    asked: whether the method was chosen by hand rather than automatically.
    """
    chosen = tr("Method: {explained}.", explained=tr(EXPLAINED[lesson.method]))
    if not asked and lesson.reason and lesson.method != "pixels":
        chosen = tr("{chosen} Chosen because of this: {reason}.", chosen=chosen, reason=tr_said(lesson.reason))
    said = (
        html.sentence(tr_said(lesson.sentence()))
        + html.hint(tr_said(lesson.near_copies()))
        + html.hint(switched(workspace, lesson))
    )
    if lesson.few:
        rough = (
            tr("Until then the probabilities are a guess, since no class has two different examples{strangers}.")
            if max(lesson.different.values()) < 2
            else tr("Until then the probabilities are rough{strangers}.")
        )
        strangers = "" if lesson.rejector else tr(", and 'none of these' is not said")
        said += html.hint(baseline(lesson)) + html.hint(rough.format(strangers=strangers))
        return said + html.hint(chosen)
    copies = tr(" Near-copies were hidden together and count once.") if lesson.near_copies() else ""
    how = tr("Each example was hidden and named by the others.{copies} The range is a 95 % interval.", copies=copies)
    parts = [said, html.hint(how), html.hint(baseline(lesson)), confusion(workspace, lesson)]
    return Markup().join(
        [*parts, _behind(workspace, lesson), _odd(workspace, lesson), _more(workspace, lesson), html.hint(chosen)]
    )


def switched(workspace: Workspace, lesson: Lesson) -> str:
    """Note that "automatic" chose another method after the last change, and what similarities mean now; else ""."""
    if not workspace.switched:
        return ""
    return tr(
        "Automatic changed from {before} to {now}: {reason}. Similarities are now: {scale}.",
        before=_method(workspace.switched),
        now=_method(lesson.method),
        reason=tr_said(lesson.reason),
        scale=tr_said(lesson.scale),
    )


def _method(name: str) -> str:
    """A method inside a sentence; German nouns keep their capital letter."""
    words = tr(METHODS[name])
    return words.lower() if current() == ENGLISH else words


def baseline(lesson: Lesson) -> str:
    """The accuracy of raw pixels alone; if it is as high, that the model adds nothing."""
    if lesson.method == "pixels" and lesson.reason:
        return tr("Learned from raw pixels, without the model, because {reason}.", reason=tr_said(lesson.reason))
    if lesson.few or lesson.pixels is None or lesson.method == "pixels":  # too few for a verdict, too few for this
        return ""
    reached = html.percent(lesson.pixels.accuracy, whole=True)
    if lesson.pixels.right >= lesson.judged.right:
        return tr(
            "Raw pixels, without the model, do as well: {reached}. For these pictures the model adds nothing.",
            reached=reached,
        )
    return tr("Raw pixels, without the model, reach {reached}.", reached=reached)


# ------------------------------------------------------------------------------------------------ who is taken for whom


def confusion(workspace: Workspace, lesson: Lesson) -> Markup:
    """The confusion matrix: rows are true classes, columns predictions when held out; a number opens its pictures."""
    column = {label: i for i, label in enumerate(lesson.classes)}
    order = [(i, label) for i, label in enumerate(workspace.gallery.classes) if label in column]
    many = len(order) > CROWDED
    head = Markup().join(
        Markup('<th scope="col" title="{}">{}{}</th>').format(
            html.text(label), Markup("<span>{}</span>").format(html.text(label)) if many else "", badge(i)
        )
        for i, label in order
    )
    rows = ""
    for i, label in order:
        counts = lesson.judged.confusion[column[label]]
        cells = Markup().join(
            _cell(int(counts[column[other]]), int(counts.sum()), label, other, workspace.cell == (label, other))
            for _, other in order
        )
        rows += Markup('<tr><th scope="row" title="{}"><div>{} <span>{}</span></div></th>{}</tr>').format(
            html.text(label), badge(i), html.text(label), cells
        )
    matrix = tr_html(
        '<div class="msn-scroll" role="region" tabindex="0" aria-label="Confusion matrix"><table '
        'class="msn-confusion{}">'
        "<caption>Rows: what you said. Columns: what it said. A number opens its pictures.</caption>"
        "<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(" msn-many" if many else "", head, rows)
    if not many:
        return matrix
    large = tr_html(
        '<button type="button" class="msn-button" data-large aria-haspopup="dialog">Show the matrix large</button>'
        '<dialog class="msn-large" aria-label="Confusion matrix">'
        '<button type="button" class="msn-x" data-close aria-label="Close">×</button></dialog>'
    )
    return Markup('<div class="msn-matrix">{}{}</div>').format(matrix, large)


def _cell(count: int, total: int, label: str, other: str, opened: bool) -> Markup:
    share = count / total if total else 0.0
    title = html.text(
        tr("{count} of {total} {label} named {other}", count=count, total=total, label=label, other=other)
    )
    if not count:
        return Markup('<td class="msn-none" style="--share:0%" title="{}">0</td>').format(title)
    return tr_html(
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
        rows += _row(
            workspace,
            example,
            tr("{name}: named {other} ({sure}).", name=example.name, other=other, sure=sure),
            other if wrong else "",
        )
    more = html.hint(tr("The first {first} of {many}.", first=BEHIND, many=len(index))) if len(index) > BEHIND else ""
    title = html.text(
        tr(
            "{examples} of {label}, named {other} when held out",
            examples=html.examples(len(index)),
            label=label,
            other=other,
        )
    )
    close = tr_html(
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
        words = tr(
            "{name} is in {label}, yet looks like {other} ({sure}).",
            name=example.name,
            label=example.label,
            other=other,
            sure=sure,
        )
        rows.append(_row(workspace, example, words, other))
    for i in lesson.lonely().tolist():
        if i not in suspects:
            example = lesson.examples[i]
            words = tr(
                "{name} is less like its class, {label}, than the other examples are like theirs.",
                name=example.name,
                label=example.label,
            )
            rows.append(_row(workspace, example, words, ""))
    if not rows:
        return Markup()
    title = tr_count(len(rows), "{n} example looks mislabelled or odd", "{n} examples look mislabelled or odd")
    more = html.hint(tr("The first {first} of {many}.", first=ODD, many=len(rows))) if len(rows) > ODD else ""
    return Markup('<h3>{}</h3><ul class="msn-suspects">{}</ul>{}').format(title, Markup().join(rows[:ODD]), more)


def _row(workspace: Workspace, example: Example, words: str, move_to: str) -> Markup:
    move = tr_html(
        '<button type="button" class="msn-button" data-act="move" data-id="{}" data-text="{}">Move to {}</button>'
    ).format(example.id, html.text(move_to), html.text(move_to, 24))
    remove = tr_html(
        '<button type="button" class="msn-button" data-act="remove" data-id="{}" aria-label="Remove {}">Remove</button>'
    ).format(example.id, html.text(example.name))
    return Markup("<li>{}<span>{}</span><span>{}{}</span></li>").format(
        picture(workspace, example, example.name), html.text(words), move if move_to else "", remove
    )


# ----------------------------------------------------------------------------------------------------- would more help?


def _more(workspace: Workspace, lesson: Lesson) -> Markup:
    measured, curve = workspace.kept.get("curve", (None, None))
    if measured is lesson and isinstance(curve, fewshot.LearningCurve):
        return tr_html("<h3>Would more examples help?</h3>{}{}").format(
            html.hint(tr_said(curve.sentence())), _drawn(curve)
        )
    if measured is lesson and isinstance(curve, str):
        return html.hint(tr_said(curve))
    return tr_html(
        '<p><button type="button" class="msn-button" data-act="curve">Would more examples help?</button></p>'
    )


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
    said = "; ".join(
        tr("{share} from {shots}", share=html.percent(value, whole=True), shots=shots) for shots, value in points
    )
    return chart(
        [Line(points, dots=[(shots, value, "") for shots, value in points])],
        Axis(1, max(last, 2), named, logarithmic=True),
        Axis(0, 1, [(share, html.percent(share, whole=True)) for share in (0, 0.5, 1)]),
        alt=tr("Share right over examples of each class: {said}", said=said),
        caption=tr(
            "Share right over examples of each class: learned from so many, asked about the others, again and again."
        ),
    )
