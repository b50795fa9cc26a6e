"""A line chart as inline SVG in the page's own colors: readable in light mode, dark mode and print.

Lines differ by stroke and by the words at their ends, never by color alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from vitmsn.ui.shared import html

WIDTH, NARROW, HEIGHT = 400, 328, 196
LEFT, BOTTOM = 48, 168
APART = 14  # least pixels between two labels at the right
LETTER = 7  # width of one letter of a label in pixels


@dataclass(frozen=True)
class Axis:
    """The range of an axis, from `low` to `high`, and its tick labels."""

    low: float
    high: float
    marks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """The position of a value, 0..1; values outside are placed at the edge."""
        low, high, here = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / ((high - low) or 1.0)))


@dataclass(frozen=True)
class Line:
    """Points (x, y) in order; a single point is a level: a dashed line across the whole chart."""

    points: Sequence[tuple[float, float]]
    words: str = ""  # label at its end
    kind: Literal["main", "quiet", "other"] = "main"  # other: dashed, to compare with
    dots: Sequence[tuple[float, float, str]] = ()  # the values that the line averages: x, y and a tooltip
    ring: tuple[float, float] | None = None  # around the point that the text is about
    now: bool = False  # dot at its end


def chart(
    lines: Sequence[Line],
    across: Axis,
    up: Axis,
    *,
    alt: str,
    title: str = "",
    caption: str = "",
    narrow: bool = False,
) -> Markup:
    """The lines over one pair of axes, as a figure.

    Args:
        alt: what the chart shows, for screen readers.
        title, caption: text above the lines and below the chart.
        narrow: half width, for two charts side by side.
    """
    width, top = NARROW if narrow else WIDTH, 28 if title else 12
    longest = max((len(line.words) for line in lines), default=0)
    right = width - (16 + LETTER * longest if longest else 24)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (right - LEFT) * across.share(x), BOTTOM - (BOTTOM - top) * up.share(y)

    shapes = [Markup('<text x="{}" y="16">{}</text>').format(LEFT, title)] if title else []
    for value, words in up.marks:
        y = place(across.low, value)[1]
        shapes.append(Markup('<path d="M{} {:.1f}H{}"/>').format(LEFT, y, right))
        shapes.append(Markup('<text x="{}" y="{:.1f}" class="end">{}</text>').format(LEFT - 6, y + 4, words))
    for value, words in across.marks:
        x = place(value, up.low)[0]
        shapes.append(Markup('<text x="{:.1f}" y="{}" class="middle">{}</text>').format(x, BOTTOM + 18, words))
    drawn = [line for line in lines if line.points]
    for line in drawn:
        shapes += _line(line, [place(*point) for point in line.points], right)
        for x, y, words in line.dots:
            at = place(x, y)
            shapes.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3">{}</circle>').format(*at, _title(words)))
        if line.ring is not None:
            shapes.append(Markup('<circle class="here" cx="{:.1f}" cy="{:.1f}" r="8"/>').format(*place(*line.ring)))
    named = [line for line in drawn if line.words]
    heights = spread([place(*line.points[-1])[1] for line in named], top, BOTTOM)
    for line, y in zip(named, heights, strict=True):
        shapes.append(Markup('<text x="{}" y="{:.1f}" class="word">{}</text>').format(right + 8, y + 4, line.words))
    said = Markup("<figcaption>{}</figcaption>").format(html.text(caption, 600)) if caption else ""
    return Markup(
        '<figure class="msn-chart"><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>{}</figure>'
    ).format(width, HEIGHT, html.text(alt, 2000), Markup().join(shapes), said)


def _line(line: Line, places: Sequence[tuple[float, float]], right: float) -> list[Markup]:
    if len(places) == 1:
        return [Markup('<path class="level" d="M{} {:.1f}H{}"/>').format(LEFT, places[0][1], right)]
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = [Markup('<polyline class="{}" points="{}"/>').format(line.kind, at)]
    if line.now:
        drawn.append(Markup('<circle class="now" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(*places[-1]))
    return drawn


def _title(words: str) -> Markup:
    return Markup("<title>{}</title>").format(words) if words else Markup()


def spread(heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Label heights moved apart as little as needed, in the same order, so that labels do not overlap."""
    placed = [0.0] * len(heights)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    floor = top
    for index in order:
        placed[index] = floor = max(floor, heights[index])
        floor += APART
    ceiling = bottom + APART
    for index in reversed(order):
        placed[index] = ceiling = min(placed[index], ceiling - APART if index != order[-1] else bottom)
    return placed
