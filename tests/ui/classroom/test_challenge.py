"""A challenge: a picture in squares, the model's answers, and what a random choice needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.ui import CONFIG
from vitmsn.encoder import Encoder
from vitmsn.errors import MissingHeadError
from vitmsn.image import Picture
from vitmsn.ui.classroom import challenge


@pytest.mark.parametrize(
    ("grid", "squares", "side"),
    [((8, 8), (8, 8), 1), ((4, 4), (4, 4), 1), ((14, 14), (7, 7), 2), ((56, 56), (8, 8), 7), ((9, 5), (5, 3), 2)],
)
def test_a_fine_grid_is_played_in_larger_squares(grid: tuple[int, int], squares: tuple[int, int], side: int) -> None:
    found, patches, square = challenge.divided(grid)
    assert (found, patches) == (squares, side) and max(found) <= challenge.MOST_SIDE
    assert sorted(set(square)) == list(range(squares[0] * squares[1]))
    assert square.reshape(grid)[-1, -1] == squares[0] * squares[1] - 1
    assert (np.bincount(square) <= side * side).all()


def test_the_model_is_asked_about_the_squares_that_are_left(tiny: Encoder, picture: Picture) -> None:
    made = challenge.make(tiny, picture, "A gradient", "data:,")
    assert made.squares == (4, 4) and made.count == 16
    whole = tiny.class_probabilities(tiny.embed(picture))[0]
    assert made.answer.index == whole.argmax() and made.answer.name == tiny.labels[made.answer.index]
    said = made.ask(frozenset({0, 5, 7}))
    kept = np.setdiff1d(np.arange(16), [0, 5, 7])
    direct = tiny.class_probabilities(tiny.embed(picture, keep_indices=kept))[0]
    assert said.index == direct.argmax()
    assert said.probability == pytest.approx(float(direct.max()), abs=1e-4)
    assert said.wanted == pytest.approx(float(direct[made.answer.index]), abs=1e-4)
    assert 1 <= made.chance <= 16


def test_squares_of_unequal_size_are_looked_at_one_by_one(
    tiny: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "divided", lambda grid: ((2, 1), 3, np.repeat([0, 1], [12, 4])))
    made = challenge.make(tiny, picture, "A gradient", "data:,")
    one, other = made.look([[0], [1]])
    for said, alone in ((one, made.ask(frozenset({1}))), (other, made.ask(frozenset({0})))):
        assert said.name == alone.name and said.probability == pytest.approx(alone.probability, abs=1e-4)
    assert one.probability != other.probability


def test_a_model_without_answers_cannot_be_played(picture: Picture) -> None:
    with pytest.raises(MissingHeadError):
        challenge.make(Encoder.random(CONFIG, device="cpu"), picture, "A gradient", "data:,")


def test_what_chance_needs_is_left_just_before_the_answer_changes() -> None:
    """The answer stays as long as squares 0 to 2 do: a random order loses one of them early."""
    asked: list[int] = []

    def same(choices: Sequence[Sequence[int]]) -> list[bool]:
        assert len({len(one) for one in choices}) == 1
        asked.append(len(choices[0]))
        return [{0, 1, 2} <= set(one) for one in choices]

    generator = np.random.default_rng(0)
    needs = []
    for _ in range(challenge.ORDERS):
        order = generator.permutation(20).tolist()
        needs.append(1 + max(order.index(one) for one in (0, 1, 2)))
    steps: list[tuple[int, int]] = []
    assert challenge.need_by_chance(same, 20, lambda *step: steps.append(step)) == np.median(needs) == sorted(needs)[7]
    assert asked == list(range(19, 19 - len(asked), -1)) and steps[0] == (1, 19) and len(steps) == len(asked)


def test_an_answer_that_always_stays_needs_one_patch() -> None:
    assert challenge.need_by_chance(lambda choices: [True] * len(choices), 5) == 1
    assert challenge.need_by_chance(lambda choices: [False] * len(choices), 5) == 5
