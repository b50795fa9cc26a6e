"""One challenge: a picture in squares, the answer to keep, and how many squares a random choice needs for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vitmsn import image, robustness
from vitmsn.encoder import Encoder
from vitmsn.encodings import Progress
from vitmsn.errors import InputError
from vitmsn.ui.locale import tr

MOST_SIDE = 8  # squares in a row, so that each is 44 px wide on a phone; several patches make one in a finer grid
ORDERS = 15  # random orders; odd, so that their median is one of them


@dataclass(frozen=True)
class Said:
    """The model's answer to a masked picture: its number, name and probability, and that of the answer to keep."""

    index: int
    name: str
    probability: float
    wanted: float


Look = Callable[[Sequence[Iterable[int]]], list[Said]]  # squares kept, as many in each -> the answers


@dataclass(frozen=True, eq=False)
class Challenge:
    """What everyone plays.

    Attributes:
        title: what the picture shows, in words.
        picture: what the model sees, as a data: URL.
        squares: (rows, columns) of what can be dropped; numbered by rows from 0.
        patches: patches of the model in a square's side.
        answer: of the whole picture.
        look: the model, asked.
        chance: squares that a random choice needs, see :func:`need_by_chance`.
        number: of the round, given by the room.
    """

    title: str
    picture: str
    squares: tuple[int, int]
    patches: int
    answer: Said
    look: Look
    chance: int
    number: int = 0

    @property
    def count(self) -> int:
        return self.squares[0] * self.squares[1]

    def same(self, said: Said) -> bool:
        return said.index == self.answer.index

    def checked(self, dropped: object) -> frozenset[int]:
        """The squares that a phone says it has dropped, checked; at least one stays."""
        if (
            not isinstance(dropped, (list, tuple))
            or len(dropped) > self.count
            or not all(type(one) is int and 0 <= one < self.count for one in dropped)
        ):
            raise InputError(tr("The dropped patches must be a list of numbers from 0 to {most}.", most=self.count - 1))
        if len(found := frozenset(dropped)) == self.count:
            raise InputError(tr("Nothing is left of the picture; bring at least one patch back."))
        return found

    def ask(self, dropped: frozenset[int]) -> Said:
        """What the model says without these squares: one forward."""
        [said] = self.look([[one for one in range(self.count) if one not in dropped]])
        return said


def divided(grid: tuple[int, int]) -> tuple[tuple[int, int], int, np.ndarray]:
    """(rows, columns) of patches -> (rows, columns) of squares, a square's side in patches, each patch's square."""
    side = -(-max(grid) // MOST_SIDE)
    rows, columns = (-(-count // side) for count in grid)
    row, column = np.indices(grid) // side
    return (rows, columns), side, (row * columns + column).ravel()


def make(
    encoder: Encoder,
    picture: image.Picture,
    title: str,
    shown: str,
    progress: Progress | None = None,
    seed: int = 0,
) -> Challenge:
    """The challenge of a picture; takes some hundred forwards, for the random choice.

    Args:
        shown: what the model sees of it, as a data: URL.
        progress: called with (squares dropped, the most there can be).

    Raises:
        MissingHeadError: the model gives no answer.
    """
    picture = image.decode(picture)
    full = robustness.predict(encoder, encoder.embed(picture))
    first = int(full.index[0])
    squares, side, square = divided(encoder.grid())

    def look(choices: Sequence[Iterable[int]]) -> list[Said]:
        kept = [np.flatnonzero(np.isin(square, list(choice))) for choice in choices]
        if len({len(one) for one in kept}) == 1:
            rows = encoder.embed([picture] * len(kept), keep_indices=np.stack(kept))
        else:  # squares at the edge may have fewer patches
            rows = np.concatenate([encoder.embed(picture, keep_indices=one) for one in kept])
        told = robustness.predict(encoder, rows)
        return [
            Said(int(index), told.name(place), float(told.probability[place]), float(told.probabilities[place, first]))
            for place, index in enumerate(told.index)
        ]

    answer = Said(first, full.name(0), float(full.probability[0]), float(full.probability[0]))
    count = squares[0] * squares[1]
    chance = need_by_chance(lambda choices: [said.index == first for said in look(choices)], count, progress, seed)
    return Challenge(title, shown, squares, side, answer, look, chance)


def need_by_chance(
    same: Callable[[Sequence[Sequence[int]]], list[bool]],
    count: int,
    progress: Progress | None = None,
    seed: int = 0,
) -> int:
    """How many squares a random choice needs, the median over ``ORDERS`` random orders.

    Squares are dropped one by one, without looking; what an order needs is left just before the answer first changes.

    Args:
        same: whether the answer stays, for choices of equally many squares kept.
        count: squares in all.
    """
    generator = np.random.default_rng(seed)
    going = [generator.permutation(count).tolist() for _ in range(ORDERS)]
    needs: list[int] = []
    for kept in range(count - 1, 0, -1):
        stays = same([order[:kept] for order in going])
        needs += [kept + 1] * stays.count(False)
        going = [order for order, stay in zip(going, stays, strict=True) if stay]
        if progress is not None:
            progress(count - kept, count - 1)
        if not going:
            break
    return int(np.median([*needs, *[1] * len(going)]))
