"""Classifications as text and as plain JSON."""

from __future__ import annotations

import pytest

from vitmsn.classification import MULTI, REGRESSION, Classification, percent


def test_single_label_output() -> None:
    sure = Classification(["cat", "dog"], [0.8123456, 0.1], sure=True)
    assert sure.named() == "cat" and sure.sentence() == "This looks like: cat (81 %)."
    assert sure.to_dict() == {
        "labels": [{"label": "cat", "probability": 0.812346}, {"label": "dog", "probability": 0.1}],
        "label": "cat",
        "reason": "",
        "closest": "cat",
        "probability": 0.812346,
        "kind": None,
        "kind_probability": None,
        "problem_type": "single_label_classification",
        "sentence": "This looks like: cat (81 %).",
    }
    doubt = Classification(["tabby", "lynx"], [0.4, 0.3], sure=False, kind="cat", kind_probability=0.7)
    assert doubt.named() == "probably a cat (70 %)" and doubt.sentence().startswith(
        "Probably a cat (70 %). Closest match: "
    )
    assert Classification(["tabby"], [0.4], sure=False).named() == "not sure"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cat", "a cat"),
        ("insect", "an insect"),
        ("fruit or vegetable", "a fruit or vegetable"),
        ("octopus", "an octopus"),
        ("glass", "a glass"),
        ("clothes", "clothes"),
        ("food", "food"),
        ("Outdoor furniture", "Outdoor furniture"),
        ("musical instruments", "musical instruments"),
    ],
)
def test_a_kind_has_the_article_that_its_word_wants(kind: str, words: str) -> None:
    doubt = Classification(["tabby"], [0.4], sure=False, kind=kind, kind_probability=0.7)
    assert doubt.named() == f"probably {words} (70 %)"
    assert doubt.sentence() == f"Probably {words} (70 %). Closest match: tabby (40 %)."


def test_multi_label_output() -> None:
    both = Classification(["cat", "indoor", "dog"], [0.9, 0.87, 0.1], sure=True, problem_type=MULTI, right=2)
    assert both.named() == "cat, indoor" and both.sentence() == "This shows: cat 90 %, indoor 87 %."
    none = Classification(["cat", "indoor"], [0.3, 0.2], sure=False, problem_type=MULTI, right=0)
    assert none.named() == "not sure" and none.sentence() == "Not sure. Closest match: cat (30 %)."


def test_regression_output() -> None:
    numbers = Classification(["height", "age"], [171.23456, 4.391], sure=True, problem_type=REGRESSION)
    assert numbers.sentence() == "height: 171.2, age: 4.391."
    assert numbers.top() == [{"label": "height", "value": 171.23456}, {"label": "age", "value": 4.391}]


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0, "< 0.1 %"), (0.0004, "< 0.1 %"), (0.001, "0.1 %"), (0.084, "8.4 %"), (0.994, "99 %"), (0.999, "over 99 %")],
)
def test_a_probability_is_never_rounded_to_certainty(probability: float, words: str) -> None:
    assert percent(probability) == words
