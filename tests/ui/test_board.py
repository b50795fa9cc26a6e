"""What the studio says on the page: words with their numbers, and nothing a visitor typed as HTML."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.ui.test_studio import pictures
from vitmsn.encoder import Encoder
from vitmsn.gallery import Gallery
from vitmsn.ui import board
from vitmsn.ui.studio import Studio, learn

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


def studio(encoder: Encoder, **counts: int) -> Studio:
    made = Studio(encoder)
    for label, count in counts.items():
        made.add(encoder, label, pictures(label, count))
    return made


def named(encoder: Encoder, names: list[str], count: int) -> Studio:
    made = Studio(encoder)
    for colour, name in zip(("red", "blue", "lime", "gold"), names, strict=True):
        made.add(encoder, name, pictures(colour, count))
    return made


def test_names_are_text_everywhere(tiny: Encoder) -> None:
    shown = named(tiny, NASTY, 4)
    shown.ask(tiny, [*pictures("red", 2, seed=1), *pictures("gold", 2, seed=1)], 4)
    lesson = learn(shown.gallery, None)
    said = lesson.answer(shown.queries.X)
    page = board.cards(shown) + board.trust(shown, lesson) + board.answers(shown, lesson, shown.queries.examples, said)
    tags = read(page)
    assert "script" not in tags.tags and "onerror" not in tags.attributes
    assert "&lt;script&gt;" in page and "${1+1} {{value}}" in page
    sources = set(re.findall(r'<img src="([^"]*)"', page))
    assert sources and all(source.startswith("data:image/webp;base64,") for source in sources)


def test_every_picture_has_words_and_every_button_a_name(tiny: Encoder) -> None:
    page = board.cards(studio(tiny, red=3, blue=3)) + board.asking(studio(tiny))
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) == page.count("<img") == 6
    for button in re.findall(r"<button[^>]*>(?:<img[^>]*>|[^<]*)</button>", page):
        assert re.search(r'aria-label="[^"]+"|alt="[^"]+"|>[A-Z]', button), button
    assert len(re.findall(r'<input type="file"[^>]*aria-label="[^"]+"', page)) == 3


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"red": 1, "blue": 4}, "Fewer than 3 examples per class (red): too few to judge."),
        ({"red": 2, "blue": 2}, "Fewer than 3 examples per class (red, blue): too few to judge."),
        ({"red": 4, "blue": 4}, "100 % right (8 of 8), between 68 and 100 %."),
    ],
)
def test_the_verdict(tiny: Encoder, counts: dict[str, int], expected: str) -> None:
    shown = studio(tiny, **counts)
    lesson = learn(shown.gallery, None)
    assert board.verdict(lesson) == expected
    assert expected in board.trust(shown, lesson)


def test_too_few_examples_show_no_matrix_and_say_what_the_confidence_is_worth(tiny: Encoder) -> None:
    for counts, words in (({"red": 1, "blue": 1}, "are a guess"), ({"red": 2, "blue": 2}, "are rough")):
        shown = studio(tiny, **counts)
        said = board.trust(shown, learn(shown.gallery, None))
        assert "<table" not in said and words in said


def test_the_matrix_keeps_the_order_of_the_page(tiny: Encoder) -> None:
    shown = studio(tiny, red=4, blue=4)  # scikit-learn sorts: blue, red
    shown.gallery.move([shown.gallery.examples[0].id], "blue")  # one red picture mislabelled
    lesson = learn(shown.gallery, None)
    table = board.confusion(shown, lesson)
    rows = [[int(cell) for cell in re.findall(r"<td[^>]*>(\d+)</td>", row)] for row in table.split("<tr>")[2:]]
    column = {label: i for i, label in enumerate(lesson.classes)}
    order = [column["red"], column["blue"]]
    assert rows == lesson.judged.confusion[np.ix_(order, order)].tolist() == [[3, 0], [1, 4]]
    assert table.index(">A<") < table.index(">B<")


def test_an_example_that_looks_wrong_comes_with_the_click_that_mends_it(tiny: Encoder) -> None:
    shown = studio(tiny, red=8, blue=8)
    wrong = shown.gallery.examples[0]
    shown.gallery.move([wrong.id], "blue")
    said = board.trust(shown, learn(shown.gallery, None))
    assert "1 example looks wrong" in said
    assert f'data-act="move" data-id="{wrong.id}" data-text="red"' in said
    assert "red-0.png is in blue, yet looks like red" in said


def test_the_answers_in_one_sentence(tiny: Encoder) -> None:
    shown = studio(tiny, red=5, blue=5)
    shown.ask(tiny, [*pictures("red", 2, seed=1), *pictures("blue", 1, seed=1)], 3)
    lesson = dataclasses.replace(learn(shown.gallery, None), rejector=None)
    queries, said = shown.queries.examples, lesson.answer(shown.queries.X)
    assert board.summary(shown, queries, said) == "3 pictures: 2 red, 1 blue."
    shown.truth = dict(zip([query.id for query in queries], ["red", "red", "red"], strict=True))
    assert board.summary(shown, queries, said).startswith("2 of 3 pictures it had never seen")
    page = board.answers(shown, lesson, queries, said)
    assert page.count("✓ right") == 2 and page.count("✗ it is red") == 1


def test_a_query_that_is_an_example_is_told(tiny: Encoder) -> None:
    shown = studio(tiny, red=3, blue=3)
    shown.ask(tiny, pictures("red", 1), 1)
    lesson = learn(shown.gallery, None)
    assert "is among the examples" in board.answers(
        shown, lesson, shown.queries.examples, lesson.answer(shown.queries.X)
    )


def test_the_table_as_csv_holds_no_formula(tiny: Encoder) -> None:
    shown = named(tiny, NASTY, 4)
    shown.ask(tiny, pictures("blue", 2, seed=1), 2)
    lesson = learn(shown.gallery, None)
    page = board.answers(shown, lesson, shown.queries.examples, lesson.answer(shown.queries.X))
    data = re.search(r'href="data:text/csv;base64,([^"]+)"', page)
    assert data is not None
    head, *lines = csv.reader(io.StringIO(base64.b64decode(data[1]).decode("utf-8-sig")))
    assert head[:4] == ["file", "answer", "closest", "confidence"] and len(lines) == 2
    assert lines[0][2] == "'=1+1"
    assert not [cell for line in [head, *lines] for cell in line if cell.startswith(("=", "+", "@"))]
    assert sum(float(value) for value in lines[0][7:]) == pytest.approx(1, abs=1e-3)


def test_many_answers_are_folded_and_many_pictures_counted(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "ON_A_CARD", 4)
    shown = studio(tiny, red=9, blue=4)
    cards = board.cards(shown)
    assert "and 5 more" in cards and cards.count("<img") == 8
    shown.ask(tiny, pictures("red", board.AT_ONCE + 3, seed=1), 3)
    lesson = learn(shown.gallery, None)
    page = board.answers(shown, lesson, shown.queries.examples, lesson.answer(shown.queries.X))
    assert f"Show all {board.AT_ONCE + 3}" in page and page.count("<details>") == 1


def test_a_badge_can_be_read_on_every_colour() -> None:
    def light(colour: str) -> float:
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for index in range(8):
        tone = re.search(r"background:(#\w{6});color:(#\w{3})", board.badge(index))
        assert tone is not None
        ink = 0.0 if tone[2] == "#000" else 1.0
        low, high = sorted((light(tone[1]), ink))
        assert (high + 0.05) / (low + 0.05) >= 4.5, tone[0]


def test_what_is_kept_is_said_before_it_bites(tiny: Encoder) -> None:
    assert "6 of at most 2000 pictures in 2 of at most 50 classes" in board.cards(studio(tiny, red=3, blue=3))


def test_an_empty_gallery_still_shows_its_classes(tiny: Encoder) -> None:
    shown = Studio(tiny)
    shown.gallery = Gallery(tiny)
    shown.gallery.add_class("cats")
    page = board.cards(shown)
    assert 'value="cats"' in page and "<img" not in page
