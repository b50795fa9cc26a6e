"""Pieces of HTML: values from outside are escaped, whatever they contain."""

from __future__ import annotations

import ast
import base64
import io
import re
from pathlib import Path

import pytest
from markupsafe import Markup
from PIL import Image

from vitmsn.ui.shared import html

EVIL = "<img src=x onerror=alert(1)>\"'\u202eexe.gpj\x00\x1b"


@pytest.mark.parametrize(
    "made",
    [
        html.text(EVIL),
        html.notice(EVIL),
        html.sentence(EVIL),
        html.hint(EVIL),
        html.status([EVIL]),
        html.in_python(EVIL),
        html.bars([(EVIL, 0.5)]),
        html.about([(EVIL, EVIL)], [], EVIL, EVIL),
        html.img(Image.new("RGB", (2, 2)), EVIL),
    ],
)
def test_everything_is_escaped(made: str) -> None:
    assert "<img src=x" not in made and "onerror=alert(1)>" not in made
    assert "&lt;img src=x" in made


def test_control_and_direction_characters_are_removed_and_long_text_is_cut() -> None:
    assert html.text("a\x00b\u202ec\u2066d\x85") == "abcd"
    assert html.text("x" * 300, 10) == "x" * 9 + "…"
    assert html.text("Grüße, 猫 ☃") == "Grüße, 猫 ☃"


@pytest.mark.parametrize("piece", [html.notice, html.sentence, html.hint])
def test_empty_text_gives_no_html(piece: object) -> None:
    assert callable(piece) and piece("") == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "over 99\xa0%"),
        (0.996, "over 99\xa0%"),
        (0.614, "61\xa0%"),
        (0.084, "8.4\xa0%"),
        (0.0042, "0.42\xa0%"),
        (0, "< 0.1\xa0%"),
    ],
)
def test_percent_has_two_digits_and_never_says_100(value: float, words: str) -> None:
    assert html.percent(value) == words


def test_bar_widths_follow_probabilities() -> None:
    made = html.bars([("tabby", 0.5), ("odd", 7.0), ("less", -1.0)])
    assert [made.count(f"width:{width}%") for width in ("50.00", "100.00", "0.00")] == [1, 1, 1]
    assert "msn-quiet" not in made and "msn-quiet" in html.bars([("tabby", 0.1)], quiet=True)


def test_pictures_are_data_urls() -> None:
    head, _, data = html.data_url(Image.new("RGBA", (5, 3), "red")).partition(",")
    assert head == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (5, 3)


@pytest.mark.parametrize(
    ("value", "words"), [(3.14159, "3.1 ms"), (84.2, "84 ms"), (0.123, "0.12 ms"), (1234, "1200 ms"), (12345, "12 s")]
)
def test_durations_have_two_digits_and_a_unit(value: float, words: str) -> None:
    assert html.milliseconds(value) == words


def test_html_is_built_with_markup_alone() -> None:
    """No plain string contains a tag: values put into it would not be escaped."""
    ui = Path(html.__file__).parents[1]
    for path in sorted(ui.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Markup", "tr_html")
            for argument in node.args
            for part in ast.walk(argument)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                known.add(id(node.body[0].value))  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known:
                found = re.search(r"</?[a-z][a-z0-9]*[ >]", node.value)
                assert not found, f"{path.relative_to(ui)}:{node.lineno} has {found} outside of Markup"


def test_markup_escapes_its_arguments() -> None:
    assert Markup("<b>{}</b>").format(html.percent(0)) == "<b>&lt; 0.1\xa0%</b>"
    assert Markup().join([html.hint("a"), "<i>"]).endswith("&lt;i&gt;")
    assert html.percent(0.634, whole=True) == "63\xa0%" and html.percent(1, whole=True) == "100\xa0%"


def test_a_csv_link_contains_the_file_without_formulas() -> None:
    link = html.csv_link("a.csv", ["x"], [["=1"], ["é"]])
    found = re.fullmatch(r'<a class="msn-button" download="a.csv" href="data:text/csv;base64,([\w+/=]+)">.*</a>', link)
    assert found and base64.b64decode(found[1]).decode("utf-8-sig").splitlines() == ["x", "'=1", "é"]


def test_a_notice_lists_the_first_details_and_folds_the_others() -> None:
    shown = html.notice("Two files were left out.", ["a.txt: <b>no picture</b>", ".DS_Store: no picture"])
    assert "<p>Two files were left out.</p><ul><li>a.txt: &lt;b&gt;no picture&lt;/b&gt;</li><li>.DS_Store" in shown
    many = html.notice("", [f"{number}.txt: no picture" for number in range(5)])
    assert many.startswith('<div class="msn-notice" role="alert"><ul><li>0.txt')
    assert "</ul><details><summary>2 more</summary><ul><li>3.txt" in many
    assert "<details>" not in html.notice("Fine.") and html.notice("") == ""


def test_the_time_left_is_rough() -> None:
    words = {0.2: "1 s", 7.4: "7 s", 21.7: "20 s", 58: "60 s", 101: "2 min", 190: "3 min"}
    for seconds, rough in words.items():
        assert html.time_left(seconds) == f"about {rough} left"
