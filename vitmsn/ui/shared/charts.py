"""A small line chart as inline SVG, in the page's own colours: readable in light, in dark and on paper.

Lines are told apart by their strokes and by words at their ends, never by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitmsn.ui.shared import html

WIDTH, HEIGHT = 400, 172
LEFT, RIGHT, TOP, BOTTOM = 44, 268, 12, 140
APART = 14  # pixels between two words at the right


@dataclass(frozen=True)
class Line:
    """Points (x, y) in order and the words at their end; one point alone is a level, drawn all across, dashed."""

    words: str
    points: Sequence[tuple[float, float]]
    quiet: bool = False  # a line to compare with


def chart(
    lines: Sequence[Line], *, across: tuple[float, float], along: str, up: tuple[float, float], marks: Sequence[float],
    caption: str, alt: str, unit: str = "",
) -> str:  # fmt: skip
    """The lines over one pair of axes.

    Args:
        across, up: what the two axes hold, from and to; values outside are drawn at the edge.
        along: what is across, in words.
        marks: values of the upright axis that get a line and a number.
        unit: of those numbers.
        caption: below the chart, in words.
        alt: what the chart shows, for who cannot see it.
    """

    def place(x: float, y: float) -> tuple[float, float]:
        shares = [min(1.0, max(0.0, (v - low) / max(high - low, 1e-9))) for v, (low, high) in ((x, across), (y, up))]
        return LEFT + (RIGHT - LEFT) * shares[0], BOTTOM - (BOTTOM - TOP) * shares[1]

    shapes = []
    for mark in marks:
        y = place(0, mark)[1]
        shapes.append(Markup('<path d="M{} {:.1f}H{}"/>').format(LEFT, y, RIGHT))
        shapes.append(
            Markup('<text x="{}" y="{:.1f}" class="end">{:g}{}</text>').format(LEFT - 6, y + 4, mark, html.text(unit))
        )
    shapes += [
        Markup('<text x="{}" y="{}">{:g}</text>').format(LEFT, BOTTOM + 18, across[0]),
        Markup('<text x="{}" y="{}" class="end">{:g} {}</text>').format(
            RIGHT, BOTTOM + 18, across[1], html.text(along)
        ),
    ]
    drawn = [line for line in lines if line.points]
    for line in drawn:
        css = "quiet" if line.quiet else "main"
        if len(line.points) == 1:
            y = place(*line.points[0])[1]
            shapes.append(Markup('<path class="level" d="M{} {:.1f}H{}"/>').format(LEFT, y, RIGHT))
        else:
            at = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line.points)
            shapes.append(Markup('<polyline class="{}" points="{}"/>').format(css, at))
        if not line.quiet:
            shapes.append(
                Markup('<circle class="now" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(*place(*line.points[-1]))
            )
    ends = spread([place(*line.points[-1])[1] for line in drawn])
    for line, y in zip(drawn, ends, strict=True):
        shapes.append(
            Markup('<text x="{}" y="{:.1f}" class="word">{}</text>').format(RIGHT + 8, y + 4, html.text(line.words))
        )
    return Markup(
        '<figure class="msn-chart msn-lines"><svg viewBox="0 0 {} {}" role="img" '
        'aria-label="{}">{}</svg>'
        "<figcaption>{}</figcaption></figure>"
    ).format(WIDTH, HEIGHT, html.text(alt, 600), Markup().join(shapes), html.text(caption, 400))


def spread(heights: Sequence[float]) -> list[float]:
    """Heights moved apart, as little as it takes, in the same order, for words to stand beside lines that meet."""
    placed = [0.0] * len(heights)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    floor = float(TOP)
    for index in order:
        placed[index] = floor = max(floor, heights[index])
        floor += APART
    ceiling = float(BOTTOM + APART)
    for index in reversed(order):
        placed[index] = ceiling = min(placed[index], ceiling - APART if index != order[-1] else float(BOTTOM))
    return placed
