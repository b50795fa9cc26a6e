"""Line charts: positions of points, and labels that do not overlap."""

from __future__ import annotations

import itertools
import re

import pytest

from vitmsn.ui.shared import charts
from vitmsn.ui.shared.charts import Axis, Line, chart, spread

RIGHT, TOP = charts.WIDTH - 24, 12  # of a chart without labels and title
NUMBERS = Axis(0, 2, [(0, "0"), (2, "2")])


def drawn(*shown: Line, across: Axis = Axis(0, 10, []), **more: str) -> str:  # noqa: B008 (frozen)
    return chart(shown, across, NUMBERS, caption="A <caption>", alt='It "shows"', **more)  # type: ignore[arg-type]


def points(page: str) -> list[tuple[float, ...]]:
    found = re.search('points="([^"]*)"', page)
    assert found is not None
    return [tuple(map(float, point.split(","))) for point in found[1].split()]


def test_points_are_placed_to_scale() -> None:
    page = drawn(Line([(0, 0), (5, 1), (10, 2), (20, 9)]))
    middle = (charts.LEFT + RIGHT) / 2, (TOP + charts.BOTTOM) / 2
    corner = (RIGHT, TOP)
    assert points(page) == [(charts.LEFT, charts.BOTTOM), middle, corner, corner]  # outside the axes: at the edge


def test_a_logarithmic_axis() -> None:
    xs = [x for x, _ in points(drawn(Line([(1, 1), (10, 1), (100, 1)]), across=Axis(1, 100, [], logarithmic=True)))]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)


def test_one_point_draws_a_level_line_and_no_points_draw_nothing() -> None:
    page = drawn(Line([(0, 1)]), Line([]))
    assert f"M{charts.LEFT} 90.0H{RIGHT}" in page and "polyline" not in page
    assert "nothing" not in drawn(Line([], "nothing"))


def test_labels_at_line_ends_and_a_title_have_room() -> None:
    page = drawn(Line([(0, 0), (10, 1)], "quite some words"), title="Title")
    right = charts.WIDTH - 16 - charts.LETTER * len("quite some words")
    assert points(page)[-1][0] == right and f'x="{right + 8}"' in page and ">Title</text>" in page


def test_dots_ring_and_end_point_of_a_line() -> None:
    page = drawn(Line([(0, 0), (10, 1)], dots=[(5, 1, "<half>"), (5, 2, "")], ring=(10, 1), now=True))
    assert page.count('r="3"') == 2 and "<title>&lt;half&gt;</title>" in page
    assert 'class="here"' in page and 'class="now"' in page


def test_text_is_escaped() -> None:
    page = drawn(Line([(0, 1)], "<b>"))
    assert "&lt;b&gt;" in page and "A &lt;caption&gt;" in page and 'aria-label="It &#34;shows&#34;"' in page


@pytest.mark.parametrize("heights", [[50.0], [50.0, 52.0, 51.0], [140.0, 140.0, 139.0], [12.0, 12.0, 12.0]])
def test_labels_keep_distance_and_order_inside_the_frame(heights: list[float]) -> None:
    placed = spread(heights, 12, 140)
    assert sorted(range(len(placed)), key=placed.__getitem__) == sorted(range(len(heights)), key=heights.__getitem__)
    ordered = sorted(placed)
    assert all(b - a >= charts.APART - 1e-9 for a, b in itertools.pairwise(ordered))
    assert ordered[0] >= 12 - 1e-9 and ordered[-1] <= 140 + 1e-9
