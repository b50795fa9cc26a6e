"""The report on the page: the verdict, the confusion matrix, odd examples, and whether more examples would help."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from tests.support.ui import pictures, workspace_with
from vitmsn import image
from vitmsn.encoder import Encoder
from vitmsn.ui.fewshot import actions, report
from vitmsn.ui.shared.workspace import Workspace, learn


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"red": 1, "blue": 4}, "Fewer than 3 different examples per class (red): too few to judge."),
        ({"red": 2, "blue": 2}, "Fewer than 3 different examples per class (red, blue): too few to judge."),
        (
            {"red": 4, "blue": 4},
            "8 of 8 right (100\xa0%). On new pictures expect 68\N{EN DASH}100\xa0%; guessing gets 50\xa0%.",
        ),
    ],
)
def test_the_verdict(tiny: Encoder, counts: dict[str, int], expected: str) -> None:
    shown = workspace_with(tiny, **counts)
    lesson = learn(shown.gallery, None)
    assert lesson.sentence() == expected.replace("\xa0", " ")
    assert expected in report.trust(shown, lesson, False)


def test_too_few_examples_show_no_matrix_and_explain_the_probability(tiny: Encoder) -> None:
    for counts, words in (({"red": 1, "blue": 1}, "are a guess"), ({"red": 2, "blue": 2}, "are rough")):
        shown = workspace_with(tiny, **counts)
        said = report.trust(shown, learn(shown.gallery, None), False)
        assert "<table" not in said and words in said


def test_the_matrix_keeps_the_order_of_the_page(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=4, blue=4)  # scikit-learn sorts: blue, red
    shown.gallery.move([shown.gallery.examples[0].id], "blue")  # one red picture mislabeled
    lesson = learn(shown.gallery, None)
    table = report.confusion(shown, lesson)
    rows = [[int(cell) for cell in re.findall(r">(\d+)<", row)] for row in table.split("<tr>")[2:]]
    column = {label: i for i, label in enumerate(lesson.classes)}
    order = [column["red"], column["blue"]]
    assert rows == lesson.judged.confusion[np.ix_(order, order)].tolist() == [[3, 0], [1, 4]]
    assert table.index(">A<") < table.index(">B<")


def test_many_classes_have_their_names_at_both_edges_and_open_large(tiny: Encoder) -> None:
    colors = ["red", "blue", "green", "white", "black", "yellow", "purple"]
    names = [f"{color} {'x' * 50}" for color in colors]
    shown = Workspace(tiny)
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        if number == report.CROWDED:
            few = report.confusion(shown, learn(shown.gallery, None))
            assert "msn-many" not in few and "data-large" not in few
        shown.add(tiny, name, pictures(color, 3))
    table = report.confusion(shown, learn(shown.gallery, None))
    for name in names:
        assert f'<th scope="col" title="{name}"><span>{name}</span>' in table
        assert f'<th scope="row" title="{name}">' in table and f"<span>{name}</span></div>" in table
    assert "data-large" in table and "<dialog" in table


def test_an_odd_example_has_a_button_that_fixes_it(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=8, blue=8)
    wrong = shown.gallery.examples[0]
    shown.gallery.move([wrong.id], "blue")
    said = report.trust(shown, learn(shown.gallery, None), False)
    assert "1 example looks mislabelled or odd" in said
    assert f'data-act="move" data-id="{wrong.id}" data-text="red"' in said
    assert "red-0.png is in blue, yet looks like red" in said


def test_a_cell_opens_the_pictures_behind_it(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=5, blue=5)
    wrong = shown.gallery.examples[0]
    shown.gallery.move([wrong.id], "blue")
    lesson = learn(shown.gallery, None)
    assert "when held out" not in report.trust(shown, lesson, False)
    shown.cell = ("blue", "red")
    page = report.trust(shown, lesson, False)
    assert "1 example of blue, named red when held out" in page and page.count('aria-pressed="true"') == 1
    assert re.search(rf'data-act="move" data-id="{wrong.id}"\s+data-text="red"', page)
    shown.cell = ("blue", "blue")
    assert "5 examples of blue, named blue" in report.trust(shown, lesson, False)
    shown.cell = ("gone", "red")
    assert "when held out" not in report.trust(shown, lesson, False)


def test_raw_pixels_are_the_baseline(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=4, blue=4)
    lesson = learn(shown.gallery, None)
    assert lesson.pixels is not None and lesson.pixels.right == lesson.judged.right == 8
    assert report.baseline(lesson).startswith("Raw pixels, without the model, do as well: 100\xa0%.")
    assert report.baseline(learn(shown.gallery, None, "pixels")) == ""
    chosen = dataclasses.replace(lesson, method="pixels", reason="the model finds all examples alike")
    assert report.baseline(chosen).endswith("without the model, because the model finds all examples alike.")
    asked = report.trust(shown, learn(shown.gallery, None, "pixels"), True)
    assert "compared at 16" in asked and "Chosen because" not in asked
    assert "Chosen because of this: 4 examples in the smallest class." in report.trust(shown, lesson, False)


def test_whether_more_examples_would_help_is_measured_on_request(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=6, blue=6)
    lesson = learn(shown.gallery, None)
    assert 'data-act="curve"' in report.trust(shown, lesson, False)
    actions.curve(shown, lesson)
    page = report.trust(shown, lesson, False)
    assert "there is little left to gain" in page and "Share right over examples of each class: " in page
    assert page.count("<circle") == 4
    other = learn(shown.gallery, None, "centroid")
    assert 'data-act="curve"' in report.trust(shown, other, False)  # measured for another classifier


def test_near_copies_are_reported_and_count_once(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=4, blue=4)
    [still] = pictures("red", 1, seed=5)
    frames = np.asarray(still.rgb)[None] + np.random.default_rng(0).normal(0, 1, (6, *np.shape(still.rgb)))
    burst = [image.decode(Image.fromarray(frame.clip(0, 255).astype(np.uint8)), name="frame.png") for frame in frames]
    shown.add(tiny, "red", burst)
    page = report.trust(shown, learn(shown.gallery, None), False)
    assert "6 of the 10 pictures of red are near-copies of one another and count as 1" in page
    assert "9 right (100\xa0%)" in page and "Near-copies were hidden together and count once." in page


def test_when_automatic_takes_another_method_it_says_so_once(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=2, blue=4)
    first = shown.lesson(tiny, "auto", 5, 0.05)
    assert first.method == "centroid" and "Automatic changed" not in report.trust(shown, first, False)
    shown.add(tiny, "red", pictures("red", 2, seed=1))
    lesson = shown.lesson(tiny, "auto", 5, 0.05)
    page = report.trust(shown, lesson, False)
    assert "Automatic changed from centroid to ridge: 4 examples in the smallest class." in page
    assert "Similarities are now: cosine around the mean of the classes" in page
    shown.add(tiny, "red", pictures("red", 1, seed=2))
    assert "Automatic changed" not in report.trust(shown, shown.lesson(tiny, "auto", 5, 0.05), False)
