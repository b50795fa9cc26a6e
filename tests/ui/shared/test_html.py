"""Pieces of page: what comes from outside is text, whatever it contains."""

from __future__ import annotations

import base64
import io

import pytest
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
        html.about([(EVIL, EVIL)], [], EVIL),
        html.img(Image.new("RGB", (2, 2)), EVIL),
    ],
)
def test_everything_is_escaped(made: str) -> None:
    assert "<img src=x" not in made and "onerror=alert(1)>" not in made
    assert "&lt;img src=x" in made


def test_control_and_direction_characters_go_and_long_text_ends() -> None:
    assert html.text("a\x00b\u202ec\u2066d\x85") == "abcd"
    assert html.text("x" * 300, 10) == "x" * 9 + "…"
    assert html.text("Grüße, 猫 ☃") == "Grüße, 猫 ☃"


@pytest.mark.parametrize("piece", [html.notice, html.sentence, html.hint])
def test_nothing_to_say_is_nothing(piece: object) -> None:
    assert callable(piece) and piece("") == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "over 99 %"),
        (0.996, "over 99 %"),
        (0.614, "61 %"),
        (0.084, "8.4 %"),
        (0.0042, "0.42 %"),
        (0, "&lt; 0.1 %"),
    ],
)
def test_percent_has_two_digits_and_is_never_certain(value: float, words: str) -> None:
    assert html.percent(value) == words


def test_bars_are_as_long_as_they_are_probable() -> None:
    made = html.bars([("tabby", 0.5), ("odd", 7.0), ("less", -1.0)])
    assert [made.count(f"width:{width}%") for width in ("50.00", "100.00", "0.00")] == [1, 1, 1]
    assert "msn-quiet" not in made and "msn-quiet" in html.bars([("tabby", 0.1)], quiet=True)


def test_pictures_travel_in_the_page() -> None:
    head, _, data = html.data_url(Image.new("RGBA", (5, 3), "red")).partition(",")
    assert head == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (5, 3)


@pytest.mark.parametrize(
    ("value", "words"), [(3.14159, "3.1 ms"), (84.2, "84 ms"), (0.123, "0.12 ms"), (1234, "1200 ms"), (12345, "12 s")]
)
def test_durations_have_two_digits_and_a_unit(value: float, words: str) -> None:
    assert html.milliseconds(value) == words
