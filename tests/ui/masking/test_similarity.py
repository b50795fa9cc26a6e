"""The similarity curve of a masked view: measured, bounded in cost, drawn to scale, and put in words."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from vitmsn import robustness
from vitmsn.encoder import Encoder
from vitmsn.ui.masking import similarity
from vitmsn.ui.shared import html
from vitmsn.ui.visits import Call


def sample(ratio: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(16)
    return np.sort(order[: max(1, round(16 * (1 - ratio / 100)))])


def test_cosine_values_and_range() -> None:
    one, many = np.array([[3.0, 4.0]]), np.array([[3.0, 4.0], [-6.0, -8.0], [4.0, -3.0], [0.0, 0.0]])
    assert robustness.cosine(one, many) == pytest.approx([1, -1, 0, 0])
    assert all(abs(value) <= 1 for value in robustness.cosine(np.float32([[0.1] * 7]), np.float32([[0.3] * 7])))


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.0, "1.00"), (0.871, "0.87"), (0.9971, "0.997"), (0.99962, "0.9996"), (0.999999, "1.00"), (-0.25, "−0.25")],
)
def test_a_similarity_near_one_has_enough_digits(value: float, said: str) -> None:
    assert html.similar(value) == said


def test_every_point_is_a_view_of_this_picture(tiny: Encoder, call: Callable[..., Call]) -> None:
    picture = call().picture
    found, centered = similarity.measure(tiny, picture, sample, cost=1)
    assert centered is None
    assert tuple(found) == similarity.RATIOS and all(len(values) == similarity.SEEDS for values in found.values())
    full = tiny.embed(picture)
    for ratio, seed in ((10, 0), (70, 3)):
        view = tiny.embed(picture, keep_indices=sample(ratio, seed))
        assert found[ratio][seed] == pytest.approx(robustness.cosine(full, view)[0], abs=1e-5)


def test_a_slow_model_gets_fewer_points(tiny: Encoder, call: Callable[..., Call]) -> None:
    slow, _ = similarity.measure(tiny, call().picture, sample, cost=10_000)
    assert tuple(slow) == similarity.RATIOS[::2] and all(len(values) == 1 for values in slow.values())
    some, _ = similarity.measure(tiny, call().picture, sample, cost=150)
    assert tuple(some) == similarity.RATIOS and all(len(values) == 2 for values in some.values())
    assert similarity.others(tiny, call().picture, cost=10_000) is None


def test_other_pictures_are_less_similar_than_the_picture_itself(tiny: Encoder, call: Callable[..., Call]) -> None:
    other = similarity.others(tiny, call().picture, cost=1)
    assert other is not None and -1 <= other < 1


def test_similarity_is_centered_on_the_feature_mean(tiny: Encoder, call: Callable[..., Call], mean: np.ndarray) -> None:
    picture = call().picture
    plain, centered = similarity.measure(tiny, picture, sample, cost=1)
    assert centered is not None and tuple(centered) == tuple(plain)
    full, view = tiny.embed(picture), tiny.embed(picture, keep_indices=sample(70, 3))
    assert centered[70][3] == pytest.approx(robustness.cosine(full - mean, view - mean)[0], abs=1e-5)
    known = robustness.others(tiny, full)
    assert known is not None and similarity.others(tiny, picture, cost=10_000) == known, "it costs nothing"


def test_the_centered_similarity_is_shown_where_there_is_one() -> None:
    assert similarity.alike(0.9969, None) == "similarity 0.997"
    assert similarity.alike(0.9969, 0.944) == "similarity 0.94"
    assert "1 = same, 0 = unrelated" in similarity.worth("tiny", 0.951, True)
    said = similarity.worth("tiny", 0.951, False)
    assert said == "tiny has no feature mean to subtract: unrelated pictures have a similarity of about 0.95."
    assert "may look similar" in similarity.worth("tiny", None, False)


def test_the_centered_curve_is_drawn_on_an_axis_down_to_zero() -> None:
    plain, around = {50: [0.98], 90: [0.96]}, {50: [0.8], 90: [0.4]}
    html = similarity.chart(plain, (70, 0.97), "random", 0.95, (around, 0.6))
    dots = [float(y) for y in re.findall(r'cy="([\d.]+)" r="3"', html)]
    rings = [float(y) for y in re.findall(r'cy="([\d.]+)" r="8"', html)]
    axis = {float(v): float(y) - 4 for y, v in re.findall(r'y="([\d.]+)" class="end">([\d.]+)<', html)}
    assert set(axis) == {0, 0.5, 1} and html.count('polyline class="main"') == 1

    def value(y: float) -> float:
        return (axis[0] - y) / (axis[0] - axis[1])

    assert [value(y) for y in dots] == pytest.approx([0.8, 0.4], abs=0.01)
    assert [value(y) for y in rings] == pytest.approx([0.6], abs=0.01)
    [named] = re.findall(r'y="([\d.]+)" class="word">unrelated<', html)
    assert value(float(named) - 4) == pytest.approx(0, abs=0.01), "the dashes have their name beside them"
    assert "1.00 at 0\xa0%; 0.80 at 50\xa0%; 0.40 at 90\xa0%; this mask 0.60 at 70\xa0%" in html


@pytest.mark.parametrize(("most", "end"), [(7.0, 8), (0.31, 0.4), (10, 10), (1.01, 2), (0, 1e-9), (98, 100)])
def test_an_axis_from_zero_ends_at_a_round_number_above_all_values(most: float, end: float) -> None:
    assert similarity.ceiling(most) == pytest.approx(end) and similarity.ceiling(most) >= most


@pytest.mark.parametrize("least", [1.0, 0.9999, 0.998, 0.97, 0.75, 0.3, 0.0, -0.4, -1.0])
def test_the_axis_holds_the_least_value(least: float) -> None:
    low, step = similarity.axis(least)
    assert low <= least + 1e-9 and low < 1
    marks = (1 - low) / step
    assert marks == pytest.approx(round(marks)) and 1 <= round(marks) <= 4


def test_the_drawing_is_to_scale() -> None:
    html = similarity.chart({50: [0.9, 0.7], 90: [0.5, 0.5]}, (70, 0.6), "random", other=0.55)
    circles = [tuple(map(float, pair)) for pair in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', html)]
    (x50, high), (_, low), (x90, floor), *_, (here_x, here_y) = circles
    assert x90 - x50 == pytest.approx((here_x - x50) * 2, abs=0.2)
    assert (low - high) / 0.2 == pytest.approx((floor - here_y) / 0.1, rel=0.02)
    assert "50\xa0%; 0.50 at 90\xa0%; this mask 0.60 at 70\xa0%" in html
    assert "random masks" in html and "unrelated pictures, 0.55" in html
    assert "dashes" not in similarity.chart({50: [0.9]}, (50, 0.9), "block", other=None)
