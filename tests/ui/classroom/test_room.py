"""The room: who plays, whose result is best, what is refused, and what closing forgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.support.classroom import CHALLENGE, look
from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui.classroom.challenge import Said
from vitmsn.ui.classroom.room import Room, Seat


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(clock: Clock) -> Room:
    made = Room(clock)
    made.enter(True)  # the projector
    made.begin(CHALLENGE)
    return made


def play(room: Room, seat: Seat, *dropped: int) -> Any:
    assert room.challenge is not None
    return room.judge(seat, room.challenge.number, list(dropped))


def board(room: Room) -> list[tuple[str, int]]:
    return [(row.title, row.kept) for row in room.board()]


def test_fewest_patches_win_and_the_first_of_equals(room: Room, clock: Clock) -> None:
    first, second, third = (room.enter(False) for _ in range(3))
    for seat, dropped in ((first, [1]), (second, [1, 2, 3]), (third, [3, 4, 5])):
        clock.now += 1
        assert play(room, seat, *dropped).better
    assert board(room) == [("Phone 2", 3), ("Phone 3", 3), ("Phone 1", 5)]
    clock.now += 1
    assert play(room, first, 1, 2, 3, 4, 5).better
    assert board(room)[0] == ("Phone 1", 1)


def test_only_the_best_of_a_phone_is_kept(room: Room) -> None:
    seat = room.enter(False)
    play(room, seat, 1, 2, 3)
    version = room.version
    assert not play(room, seat, 1).better and not play(room, seat, 4, 2, 1).better
    assert seat.best is not None and seat.best.dropped == {1, 2, 3}
    assert len(room.board()) == 1 and room.version == version


def test_a_choice_with_another_answer_is_no_result(room: Room) -> None:
    seat = room.enter(False)
    judged = play(room, seat, 0, 1, 2, 3, 4)
    assert (judged.said.name, judged.same, judged.better) == ("teapot", False, False)
    assert room.board() == []


def test_the_whole_picture_is_no_result(room: Room) -> None:
    seat = room.enter(False)
    assert play(room, seat).same and room.board() == []


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ([0, 1, 2, 3, 4, 5], "Nothing is left"),
        ([6], "numbers from 0 to 5"),
        ([-1], "numbers from 0 to 5"),
        ([True], "numbers from 0 to 5"),
        ([1.0], "numbers from 0 to 5"),
        (["1"], "numbers from 0 to 5"),
        ([1] * 7, "numbers from 0 to 5"),
        (None, "numbers from 0 to 5"),
        ({"kept": 1}, "numbers from 0 to 5"),
        ("12345", "numbers from 0 to 5"),
    ],
)
def test_forged_choices_are_refused(room: Room, dropped: object, said: str) -> None:
    seat = room.enter(False)
    with pytest.raises(InputError, match=said):
        room.judge(seat, 1, dropped)
    assert room.board() == []


def test_a_patch_named_twice_counts_once(room: Room) -> None:
    assert play(room, room.enter(False), 1, 1, 1, 1).kept == 5


def test_results_of_another_round_a_stranger_or_the_projector_are_refused(room: Room) -> None:
    seat = room.enter(False)
    room.begin(CHALLENGE)
    for number in (1, 3, None, "2"):
        with pytest.raises(InputError, match="Another round has begun"):
            room.judge(seat, number, [1])
    with pytest.raises(InputError, match="not in the class"):
        room.judge(Seat(9, False), 2, [1])
    with pytest.raises(InputError, match="projector"):
        room.judge(room.enter(True), 2, [1])
    assert room.board() == []
    room.close()
    with pytest.raises(InputError, match="not in the class"):
        room.judge(seat, 2, [1])
    with pytest.raises(InputError, match="No round is running"):
        room.judge(room.enter(False), 2, [1])


def test_an_answer_that_comes_after_the_round_is_not_counted(room: Room) -> None:
    def slow(choices: Sequence[Iterable[int]]) -> list[Said]:
        room.begin(CHALLENGE)
        return look(choices)

    number = room.begin(replace(CHALLENGE, look=slow)).number
    seat = room.enter(False)
    with pytest.raises(InputError, match="Another round has begun"):
        room.judge(seat, number, [1, 2])
    assert seat.best is None


def test_changes_in_a_minute_are_bounded(room: Room, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLASS_MOVES", 3)
    seat, other = room.enter(False), room.enter(False)
    for _ in range(3):
        play(room, seat, 1)
    with pytest.raises(InputError, match="3 changes in a minute"):
        play(room, seat, 1)
    play(room, other, 1)
    clock.now += 61
    play(room, seat, 1)
    assert len(seat.moves) == 1


def test_a_full_class_takes_a_new_phone_only_for_one_that_is_away(
    room: Room, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLASS_PHONES", 2)
    first, second = room.enter(False), room.enter(False)
    play(room, first, 1)
    with pytest.raises(InputError, match="2 phones are in this class and no more can join"):
        room.enter(False)
    room.enter(True)  # the projector needs no phone's place
    clock.now += limits.CLASS_AWAY_SECONDS + 1
    assert room.find(second.secret) is second
    third = room.enter(False)
    assert third.number == 3 and room.find(first.secret) is None and room.board() == []


def test_projectors_are_bounded_too(room: Room) -> None:
    seats = [room.enter(True) for _ in range(limits.CLASS_TEACHERS + 1)]
    assert [room.find(seat.secret) for seat in seats] == [None, *seats[1:]]


def test_a_page_that_comes_back_has_its_seat_unless_its_role_changed(room: Room) -> None:
    seat = room.enter(False)
    assert room.enter(False, seat) is seat
    teacher = room.enter(True, seat)
    assert teacher.teacher and room.find(seat.secret) is None
    room.close()
    assert room.enter(True, teacher) is not teacher


def test_phones_are_connected_while_they_ask(room: Room, clock: Clock) -> None:
    first, _ = room.enter(False), room.enter(False)
    room.enter(True)
    assert room.connected() == 2
    clock.now += limits.CLASS_CONNECTED_SECONDS + 1
    room.find(first.secret)
    assert room.connected() == 1
    assert room.find("") is None and room.find("x" * 10_000) is None


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("Ada", "Ada"),
        ("  Ada \n Lovelace ", "Ada Lovelace"),
        ("<b>x</b>", "<b>x</b>"),  # escaped where it becomes HTML
        ("a" * 500, "a" * 20),
        ("\u202eadA\u200b", "adA"),
        ("", "Phone 1"),
        ("\u200b\u3164", "Phone 1"),
        (None, "None"),
    ],
)
def test_nicknames_are_cleaned_and_cut(room: Room, typed: object, title: str) -> None:
    seat = room.enter(False)
    assert room.rename(seat, typed) == title == seat.title


def test_a_teacher_takes_a_nickname_away(room: Room) -> None:
    seat = room.enter(False)
    room.rename(seat, "rude")
    play(room, seat, 1)
    version = room.version
    room.take_name(1)
    assert board(room) == [("Phone 1", 5)] and room.version > version
    for number in (0, None, "1"):
        room.take_name(number)


def test_a_new_round_empties_the_board_and_keeps_the_phones(room: Room) -> None:
    seat = room.enter(False)
    room.rename(seat, "Ada")
    play(room, seat, 1)
    assert room.begin(CHALLENGE).number == 2
    assert room.board() == [] and room.find(seat.secret) is seat and seat.title == "Ada"


def test_closing_forgets_everything(room: Room) -> None:
    seat = room.enter(False)
    room.rename(seat, "Ada")
    play(room, seat, 1)
    version = room.version
    room.close()
    assert room.challenge is None and room.board() == [] and room.find(seat.secret) is None
    assert room.version > version and room.enter(False).title == "Phone 1"
    with pytest.raises(InputError, match="not in the class"):
        room.rename(seat, "Ada")


def test_what_a_deleted_visit_had_is_forgotten_and_the_picture_with_the_last_of_them() -> None:
    room = Room()
    here = {"first": True, "second": True}
    first = room.enter(False, present=lambda: here["first"])
    room.enter(True, present=lambda: here["second"])
    room.begin(CHALLENGE)
    play(room, first, 1)
    here["first"] = False
    room.sweep()
    assert room.board() == [] and room.challenge is not None
    here["second"] = False
    room.sweep()
    assert room.challenge is None


def test_the_code_is_known_however_it_is_typed(room: Room) -> None:
    assert len(room.code) == 9 and Room().code != Room().code
    assert room.is_code(room.code) and room.is_code(f" {room.code.lower().replace('-', ' ')} ")
    for wrong in ("", room.code[:-1], room.code + "A", "é" * 8, "0" * 10_000):
        assert not room.is_code(wrong)
