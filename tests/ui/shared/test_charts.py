"""Line charts: where points land, and words that do not cover each other."""

from __future__ import annotations

import itertools
import re

import pytest

from vitmsn.ui.shared import charts
from vitmsn.ui.shared.charts import Line, chart, spread


def drawn(*shown: Line) -> str:
    return chart(
        shown, across=(0, 10), along="steps", up=(0, 2), marks=(0, 1, 2), caption="A <caption>", alt='It "shows"'
    )


def test_points_stand_where_their_numbers_say() -> None:
    page = drawn(Line("up", [(0, 0), (5, 1), (10, 2), (20, 9)]))
    found = re.search('points="([^"]*)"', page)
    assert found is not None
    at = [tuple(map(float, point.split(","))) for point in found[1].split()]
    middle = (charts.LEFT + charts.RIGHT) / 2, (charts.TOP + charts.BOTTOM) / 2
    corner = (charts.RIGHT, charts.TOP)
    assert at == [(charts.LEFT, charts.BOTTOM), middle, corner, corner]  # beyond the axes: at their edge


def test_a_level_goes_all_across_and_no_points_draw_nothing() -> None:
    page = drawn(Line("level", [(0, 1)], quiet=True), Line("nothing", []))
    assert f"M{charts.LEFT} 76.0H{charts.RIGHT}" in page and "nothing" not in page and "polyline" not in page


def test_what_comes_from_outside_is_text() -> None:
    page = drawn(Line("<b>", [(0, 1)]))
    assert "&lt;b&gt;" in page and "A &lt;caption&gt;" in page and 'aria-label="It &#34;shows&#34;"' in page


@pytest.mark.parametrize("heights", [[50.0], [50.0, 52.0, 51.0], [140.0, 140.0, 139.0], [12.0, 12.0, 12.0]])
def test_words_keep_their_distance_their_order_and_the_frame(heights: list[float]) -> None:
    placed = spread(heights)
    assert sorted(range(len(placed)), key=placed.__getitem__) == sorted(range(len(heights)), key=heights.__getitem__)
    ordered = sorted(placed)
    assert all(b - a >= charts.APART - 1e-9 for a, b in itertools.pairwise(ordered))
    assert ordered[0] >= charts.TOP - 1e-9 and ordered[-1] <= charts.BOTTOM + 1e-9
