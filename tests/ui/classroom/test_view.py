"""What class mode shows, escaped and in words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.support.classroom import CHALLENGE, look
from vitmsn.ui.classroom import view
from vitmsn.ui.classroom.address import NONE_FOUND, Place
from vitmsn.ui.classroom.room import Best, BoardRow, Judged, Seat

ROWS = [BoardRow(2, "<script>x</script>", 2, frozenset({1, 2, 4, 5})), BoardRow(1, "Phone 1", 4, frozenset({0, 3}))]


def test_names_and_answers_are_escaped() -> None:
    for page in (
        view.board(ROWS, CHALLENGE, True),
        view.board(ROWS, CHALLENGE, False),
        view.phone(Seat(1, False, name='"><script>')),
        view.game(CHALLENGE),
        view.screen(CHALLENGE),
    ):
        assert "<script>" not in page and "<i>espresso" not in page


def test_the_board_has_every_phone_and_chance_in_its_place() -> None:
    board = view.board(ROWS, CHALLENGE, False)
    names = re.findall(r"<span>([^<]+)</span><b>(\d+)</b>", board)
    assert names == [("&lt;script&gt;x&lt;/script&gt;", "2"), ("A random choice", "4"), ("Phone 1", "4")]
    assert 'd="M1 0h1v1h-1z M2 0h1v1h-1z M1 1h1v1h-1z M2 1h1v1h-1z"' in board and 'viewBox="0 0 3 2"' in board
    assert "needs 2 patches, a random choice 4" in board and "data-take" not in board
    assert 'data-take="2"' in view.board(ROWS, CHALLENGE, True)
    assert "who finds the patches that matter?" in view.board(ROWS[1:], CHALLENGE, False)
    assert "No result yet" in view.board([], CHALLENGE, False) and view.board(ROWS, None, False) == ""


def test_a_phone_has_a_button_for_every_square() -> None:
    game = view.game(CHALLENGE)
    assert re.findall(r'data-cell="(\d)"', game) == list("012345")
    assert game.count('tabindex="0"') == 1 and 'aria-label="Row 2, column 3"' in game
    assert "6 of 6 left: &lt;i&gt;espresso&lt;/i&gt;, 88\xa0%." in game and "Each square" not in game
    assert "Each square is 2\xa0×\xa02 patches." in view.game(replace(CHALLENGE, patches=2))
    assert "a random choice needs 4 patches." in view.screen(CHALLENGE)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([0], "1 of 6 left: still <i>espresso</i>, 75\xa0%."),
        ([1], "1 of 6 left: now teapot, 50\xa0%; <i>espresso</i> has 12\xa0%. Bring one back."),
    ],
)
def test_the_answer_is_a_sentence(kept: list[int], said: str) -> None:
    [answer] = look([kept])
    assert view.sentence(Judged(CHALLENGE, answer, 1, CHALLENGE.same(answer), False)) == said


def test_ones_own_best_is_said() -> None:
    assert view.best(Seat(1, False)) == ""
    assert view.best(Seat(1, False, best=Best(1, frozenset(), 0.0))) == "Your best: 1 patch."


def test_the_projector_shows_every_address_and_the_first_one_large() -> None:
    places = [Place("http://192.168.1.5:7860/class", "wlan0"), Place("http://10.0.0.2:7860/class", "eth0")]
    page = view.projector(places, own_picture=False)
    assert page.count("<svg") == 2 and page.count('<div data-place="1" hidden>') == 1
    assert ">192.168.1.5:7860<wbr>/class</a>" in page and "10.0.0.2:7860/class (eth0)" in page
    assert "data-own" not in page and "data-own" in view.projector(places, own_picture=True)
    assert "<details>" not in view.projector(places[:1], False)
    assert NONE_FOUND.replace("'", "&#39;") in view.projector([], False)
