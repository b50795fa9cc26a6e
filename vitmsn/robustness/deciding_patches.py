"""The fewest patches that decide the answer: hide patch by patch until it changes, or as long as it stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitmsn import attention, image
from vitmsn.encoder import Encoder
from vitmsn.encodings import Progress
from vitmsn.errors import InputError
from vitmsn.image import ImageSource
from vitmsn.robustness.prediction import Predictions, predict

ORDERS = 3  # random orders, to compare a search with
STEPS = 64  # mask sizes that a search tries before it goes patch by patch


@dataclass(frozen=True)
class SearchStep:
    """One mask on the way: patches hidden, the answer then, its probability, that of the first answer, whether the
    answer is the ``same``, and whether the model is ``sure`` of it."""

    hidden: np.ndarray
    answer: str
    probability: float
    first: float
    same: bool
    sure: bool


@dataclass(frozen=True)
class Search:
    """Which patches decide the answer.

    Attributes:
        answer, kind: of the full view.
        grid: (rows, columns) of the patches.
        flip: patches whose hiding changes the answer, the fewest found; None when hiding all but one does not.
        keep: patches that alone keep the answer, the fewest found.
        flip_steps, keep_steps: the way there, patch by patch; the last step is the set found.
        flip_random, keep_random: how many patches the same took in random orders.
    """

    answer: str
    kind: str
    grid: tuple[int, int]
    flip: np.ndarray | None
    keep: np.ndarray
    flip_steps: list[SearchStep]
    keep_steps: list[SearchStep]
    flip_random: list[int | None]
    keep_random: list[int]

    @property
    def patches(self) -> int:
        return math.prod(self.grid)

    @property
    def changes_to(self) -> str | None:
        """The answer once ``flip`` is hidden."""
        return None if self.flip is None else self.flip_steps[-1].answer

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; patches as [row, column], from 1."""

        def places(indices: np.ndarray) -> list[list[int]]:
            return (np.stack(np.unravel_index(indices, self.grid), axis=1) + 1).tolist()

        return {
            "answer": self.answer,
            "kind": self.kind,
            "patches": self.patches,
            "changes": None if self.flip is None else places(self.flip),
            "changes_to": self.changes_to,
            "changes_to_sure": None if self.flip is None else self.flip_steps[-1].sure,
            "keeps": places(self.keep),
            "keeps_sure": self.keep_steps[-1].sure,
            "changes_random": self.flip_random,
            "keeps_random": self.keep_random,
        }


def search(
    encoder: Encoder,
    picture: ImageSource,
    scores: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Search:
    """Hide patches until the answer changes: greedily by score, then show again every patch that is not needed.

    The patches with the highest score are hidden first (or kept longest). From the first mask that works, every patch
    that can be removed alone is removed, weakest first. The result is minimal in that sense, not proven the smallest.

    Args:
        scores: (N,) the order to hide them in; CLS's attention in the last layer, mean of heads, by default.
        seed: of the random orders that this is measured against.
        progress: called with (masks tried, the most there can be).

    Raises:
        MissingHeadError: the model gives no answer.
    """
    full = predict(encoder, encoder.embed(picture))
    if scores is None:
        scores = attention.cls_attention(encoder.model, encoder.tokens(picture))[0, -1].mean(0).numpy()
    look = _Look(encoder, image.decode(picture), full)
    order = np.argsort(-np.asarray(scores), kind="stable")
    patches = len(order)
    if patches != len(look.all):
        raise InputError(f"There are {patches} scores and {len(look.all)} patches; they must be as many.")
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(patches) for _ in range(ORDERS)]
    counts = sorted({round(number) for number in np.linspace(0, patches - 1, min(patches, STEPS))})
    flips: list[SearchStep] = []
    keeps: list[SearchStep] = []
    chance: list[list[bool]] = []
    for number, count in enumerate(counts):
        hidden = [order[:count], order[patches - count :], *(other[:count] for other in orders)]
        first, second, *others = look(hidden)
        flips.append(first)
        keeps.append(second)
        chance.append([step.same for step in others])
        if progress is not None:
            progress(number + 1, 2 * len(counts))
    flip = _first(look, flips, lambda count: order[:count], same=False)
    keep = _first(look, keeps[::-1], lambda count: order[patches - count :], same=True)
    assert keep is not None  # with nothing hidden the answer stays
    flipped = None if flip is None else _without(look, flip.hidden, flip.hidden[::-1], back=True)
    kept = _without(look, keep.hidden, order[: patches - len(keep.hidden)][::-1], back=False)
    if progress is not None:
        progress(2 * len(counts), 2 * len(counts))
    until = patches if flip is None else len(flip.hidden)
    return Search(
        full.name(0),
        full.kind,
        encoder.grid(),
        None if flipped is None else np.sort(flipped.hidden),
        np.setdiff1d(look.all, kept.hidden),
        [step for step in flips if len(step.hidden) < until] + ([flip, flipped] if flip and flipped else []),
        [step for step in keeps if len(step.hidden) < len(keep.hidden)] + [keep, kept],
        [
            next((c for c, same in zip(counts, line, strict=True) if not same), None)
            for line in zip(*chance, strict=True)
        ],
        [patches - max(c for c, same in zip(counts, line, strict=True) if same) for line in zip(*chance, strict=True)],
    )


class _Look:
    """Masks of one picture, with equally many patches hidden -> steps, in one forward."""

    def __init__(self, encoder: Encoder, picture: image.Picture, full: Predictions) -> None:
        self._encoder, self._picture = encoder, picture
        self._first = int(full.index[0])
        self.all = np.arange(math.prod(encoder.grid()))

    def __call__(self, hidden: Sequence[np.ndarray]) -> list[SearchStep]:
        kept = np.stack([np.setdiff1d(self.all, one) for one in hidden])
        told = predict(self._encoder, self._encoder.embed([self._picture] * len(kept), keep_indices=kept))
        return [
            SearchStep(
                hidden=one,
                answer=told.name(n),
                probability=float(told.probability[n]),
                first=float(told.probabilities[n, self._first]),
                same=bool(told.index[n] == self._first),
                sure=bool(told.probability[n] >= told.threshold),
            )
            for n, one in enumerate(hidden)
        ]


def _first(look: _Look, steps: list[SearchStep], mask: Callable[[int], np.ndarray], same: bool) -> SearchStep | None:
    """The first step that is (not) the same, and between it and the one before, the first that was skipped."""
    place = next((n for n, step in enumerate(steps) if step.same == same), None)
    if place is None or place == 0:
        return None if place is None else steps[0]
    start, end = len(steps[place - 1].hidden), len(steps[place].hidden)
    for count in range(start + 1, end) if start < end else range(start - 1, end, -1):
        [step] = look([mask(count)])
        if step.same == same:
            return step
    return steps[place]


def _without(look: _Look, hidden: np.ndarray, candidates: np.ndarray, back: bool) -> SearchStep:
    """Patches one by one shown again (`back`) or hidden too, wherever the answer stays on the same side."""
    [best] = look([hidden])
    wanted, before = best.same, -1
    while before != len(best.hidden):  # removing one may make another removable
        before = len(best.hidden)
        for patch in candidates[:STEPS].tolist():
            if (patch in best.hidden) != back or (not back and len(best.hidden) + 1 == len(look.all)):
                continue  # already removed, or the last patch
            [step] = look([best.hidden[best.hidden != patch] if back else np.append(best.hidden, patch)])
            best = step if step.same == wanted else best
    return best
