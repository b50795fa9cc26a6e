"""The workspace on the page: words with their numbers, and nothing a visitor typed as HTML."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.support.ui import pictures, workspace_with
from vitmsn.encoder import Encoder
from vitmsn.fewshot import NONE, NOT_SURE
from vitmsn.gallery import Gallery
from vitmsn.ui.fewshot import answers, cards, report
from vitmsn.ui.shared import html
from vitmsn.ui.shared.workspace import Workspace, learn

NASTY = ["<img src=x onerror=alert(1)>", "=1+1", "$x^2$ ${1+1} {{value}}", '"><script>alert(1)</script>']


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def read(html: str) -> Tags:
    parser = Tags()
    parser.feed(html)
    return parser


def named(encoder: Encoder, names: list[str], count: int) -> Workspace:
    made = Workspace(encoder)
    for color, name in zip(("red", "blue", "lime", "gold"), names, strict=True):
        made.add(encoder, name, pictures(color, count))
    return made


def test_names_are_text_everywhere(tiny: Encoder) -> None:
    shown = named(tiny, NASTY, 4)
    shown.ask(tiny, [*pictures("red", 2, seed=1), *pictures("gold", 2, seed=1)], 4)
    lesson = learn(shown.gallery, None)
    said = lesson.answer(shown.queries.X)
    page = (
        cards.cards(shown)
        + report.trust(shown, lesson, True)
        + answers.answers(shown, lesson, shown.queries.examples, said)
    )
    tags = read(page)
    assert "script" not in tags.tags and "onerror" not in tags.attributes
    assert "&lt;script&gt;" in page and "${1+1} {{value}}" in page
    sources = set(re.findall(r'<img src="([^"]*)"', page))
    assert sources and all(source.startswith("data:image/webp;base64,") for source in sources)


def test_every_picture_has_alt_text_and_every_button_a_name(tiny: Encoder) -> None:
    page = cards.cards(workspace_with(tiny, red=3, blue=3)) + answers.asking(workspace_with(tiny))
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) == page.count("<img") == 6
    for button in re.findall(r"<button[^>]*>(?:<img[^>]*>|[^<]*)</button>", page):
        assert re.search(r'aria-label="[^"]+"|alt="[^"]+"|>[A-Z]', button), button
    assert len(re.findall(r'<input type="file"[^>]*aria-label="[^"]+"', page)) == 3
    assert len(re.findall(r'<select [^>]*aria-label="[^"]+"', page)) == page.count("<select") == 3


def test_the_summary_of_the_answers_is_one_sentence(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=5, blue=5)
    shown.ask(tiny, [*pictures("red", 2, seed=1), *pictures("blue", 1, seed=1)], 3)
    lesson = dataclasses.replace(learn(shown.gallery, None), rejector=None)
    queries, said = shown.queries.examples, lesson.answer(shown.queries.X)
    assert answers.summary(shown, queries, said) == "3 pictures: 2 red, 1 blue."
    shown.truth = dict(zip([query.id for query in queries], ["red", "red", "red"], strict=True))
    assert answers.summary(shown, queries, said).startswith("2 of 3 new pictures named correctly")
    page = answers.answers(shown, lesson, queries, said)
    assert page.count("✓ right") == 2 and page.count("✗ it is red") == 1


def test_an_answer_says_why_it_names_no_class(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=5, blue=5)
    shown.ask(tiny, pictures("red", 3, seed=1), 3)
    lesson = learn(shown.gallery, None)
    first, second, third = lesson.answer(shown.queries.X)
    nothing = dataclasses.replace(first, label=None, reason=NONE, distance=0.851, limit=0.24, probability=0.95)
    unsure = dataclasses.replace(second, label=None, reason=NOT_SURE, probability=0.55)
    page = answers.answers(shown, lesson, shown.queries.examples, [nothing, unsure, third])
    assert "<strong>none of these</strong><small>distance 0.85 to the nearest example, limit 0.24</small>" in page
    assert "95" not in page.split("none of these</strong>")[1].split("</td>")[0]
    assert "<strong>not sure</strong><small>closest match: red (55\N{NO-BREAK SPACE}%)</small>" in page
    assert "3 pictures: 1 none of these, 1 not sure, 1 red." in page
    assert "Similarity: cosine around the mean of the classes; 1 is the same, 0 unrelated." in page
    shown.truth = dict.fromkeys((query.id for query in shown.queries.examples), "red")
    said = answers.summary(shown, shown.queries.examples, [nothing, unsure, third])
    assert said == "1 of 3 new pictures named correctly; none of these: 1; not sure: 1."


def test_a_query_that_is_an_example_is_reported(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=3, blue=3)
    shown.ask(tiny, pictures("red", 1), 1)
    lesson = learn(shown.gallery, None)
    assert "is among the examples" in answers.answers(
        shown, lesson, shown.queries.examples, lesson.answer(shown.queries.X)
    )


def test_the_csv_contains_no_formula(tiny: Encoder) -> None:
    shown = named(tiny, NASTY, 4)
    shown.ask(tiny, pictures("blue", 2, seed=1), 2)
    lesson = learn(shown.gallery, None)
    page = answers.answers(shown, lesson, shown.queries.examples, lesson.answer(shown.queries.X))
    data = re.search(r'href="data:text/csv;base64,([^"]+)"', page)
    assert data is not None
    head, *lines = csv.reader(io.StringIO(base64.b64decode(data[1]).decode("utf-8-sig")))
    assert head[:4] == ["file", "answer", "closest", "probability"] and len(lines) == 2
    assert lines[0][2] == "'=1+1"
    assert not [cell for line in [head, *lines] for cell in line if cell.startswith(("=", "+", "@"))]
    assert sum(float(value) for value in lines[0][8:]) == pytest.approx(1, abs=1e-3)


def test_many_answers_are_folded_and_many_pictures_counted(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "ON_A_CARD", 4)
    shown = workspace_with(tiny, red=9, blue=4)
    held = cards.cards(shown)
    assert "and 5 more" in held and held.count("<img") == 8
    shown.ask(tiny, pictures("red", answers.AT_ONCE + 3, seed=1), 3)
    lesson = learn(shown.gallery, None)
    page = answers.answers(shown, lesson, shown.queries.examples, lesson.answer(shown.queries.X))
    assert f"Show all {answers.AT_ONCE + 3}" in page and page.count("<details>") == 1


def test_a_badge_is_readable_on_every_color() -> None:
    def light(color: str) -> float:
        values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for index in range(8):
        tone = re.search(r"background:(#\w{6});color:(#\w{3})", html.badge(index))
        assert tone is not None
        ink = 0.0 if tone[2] == "#000" else 1.0
        low, high = sorted((light(tone[1]), ink))
        assert (high + 0.05) / (low + 0.05) >= 4.5, tone[0]


def test_limits_are_shown_before_they_are_reached(tiny: Encoder) -> None:
    assert "6 of at most 2000 pictures in 2 of at most 50 classes" in cards.cards(workspace_with(tiny, red=3, blue=3))


def test_an_empty_gallery_still_shows_its_classes(tiny: Encoder) -> None:
    shown = Workspace(tiny)
    shown.gallery = Gallery(tiny)
    shown.gallery.add_class("cats")
    page = cards.cards(shown)
    assert 'value="cats"' in page and "<img" not in page


def test_a_class_left_out_says_so_and_can_be_merged(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=3, blue=3)
    shown.gallery.enable_class("red", False)
    page = cards.cards(shown)
    assert (
        page.count("does not count") == 1
        and page.count("Count this class again") == page.count("Pause this class") == 1
    )
    assert '<select class="msn-select" data-merge="red"' in page and '<option value="blue">' in page


def test_answers_are_sorted_by_probability_and_can_be_corrected(tiny: Encoder) -> None:
    shown = workspace_with(tiny, red=5, blue=5)
    shown.ask(tiny, [*pictures("red", 2, seed=1), *pictures("purple", 2, seed=1)], 4)
    lesson = learn(shown.gallery, None)
    queries, said = shown.queries.examples, lesson.answer(shown.queries.X)
    ids = [query.id for query in queries]
    for order, expected in (("", ids), ("up", None), ("down", None)):
        shown.order = order
        page = answers.answers(shown, lesson, queries, said)
        found = re.findall(r'data-act="look" data-id="(e\d+)"', page)
        sure = [said[ids.index(id)].probability for id in found]
        assert found == expected or sure == sorted(sure, reverse=order == "down")
        assert ("aria-sort" in page) == bool(order)
    assert page.count("data-correct=") == 4
    shown.kept["look", ids[0]] = "data:image/webp;base64,AA"
    page = answers.answers(shown, lesson, queries, said)
    assert page.count("bright where the model looked") == 1 and page.count('aria-pressed="true"') == 1
