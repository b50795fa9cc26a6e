"""What hiding patches does: to the embedding, to the answer, to the prototypes; and how few patches decide it.

An answer is the most probable class, or, without a classifier, the prototype that the picture is assigned to. A model
that is not sure still has one; whether it is sure is another question. Patches count from 0, row by row.

Letters: S masked views of one picture, N patches, K kept, D width, P prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vitmsn import attention, image
from vitmsn.encoder import Encoder, Progress
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import ImageSource

RATIOS = tuple(round(0.05 * step, 2) for step in range(20))  # 0 to 0.95
ORDERS = 3  # random orders that a search is measured against
QUICK = 50  # milliseconds of a full view that is measured again and again
STEPS = 64  # sizes of mask that a search looks at before it goes on one by one

Sampler = Callable[[float, int], np.ndarray]  # share hidden, seed -> patches kept (K,)


# ------------------------------------------------------------------------------------------------------------ answers


@dataclass(frozen=True)
class Answers:
    """What a model says of N embeddings: ``kind`` is class or prototype, ``index`` (N,) the most probable of
    ``names``, ``probabilities`` (N, names)."""

    kind: str
    names: Sequence[str]
    probabilities: np.ndarray

    @property
    def index(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def probability(self) -> np.ndarray:
        """(N,) of the most probable."""
        return self.probabilities.max(1)

    def name(self, place: int) -> str:
        """The answer to embedding ``place``, in words."""
        return self.names[int(self.index[place])]


def answers(encoder: Encoder, embeddings: np.ndarray) -> Answers:
    """The most probable class of each embedding (N, D), or the nearest prototype where there is no classifier.

    Raises:
        MissingHeadError: the model has neither, so there is no answer that could change.
    """
    if encoder.has_classifier:
        return Answers("class", encoder.labels, encoder.class_probabilities(embeddings))
    if encoder.has_msn_head:
        shares = encoder.assign_embeddings(embeddings)
        return Answers("prototype", [f"prototype {number + 1}" for number in range(shares.shape[1])], shares)
    raise MissingHeadError(
        f"{encoder.name} has neither a classifier nor prototypes, so it gives no answer that could change; choose a "
        "model that has, like the embedded one."
    )


@dataclass(frozen=True)
class Assignment:
    """The loss as MSN computes it for one masked view (arXiv 2204.07141, equation 2), in nats.

    Attributes:
        target: (P,) of the full view, sharpened; what the masked view should have said.
        anchor: (P,) of the masked view.
    """

    target: np.ndarray
    anchor: np.ndarray

    @property
    def cross_entropy(self) -> float:
        """How surprised the target is by the anchor: ``least`` at best, ``even`` for an anchor that knows nothing."""
        return float(_cross_entropy(self.target[None], self.anchor[None])[0])

    @property
    def least(self) -> float:
        """The target's own entropy: no anchor's cross-entropy is below it."""
        return float(_cross_entropy(self.target[None], self.target[None])[0])

    @property
    def even(self) -> float:
        """log P: the cross-entropy of an anchor that gives every prototype the same share."""
        return math.log(len(self.target))


def assignment(encoder: Encoder, full: np.ndarray, masked: np.ndarray) -> Assignment:
    """Embeddings of the full view and of a masked view, (1, D) each -> the loss between them.

    Raises:
        MissingHeadError: no prototypes.
    """
    return Assignment(encoder.assign_embeddings(full, sharpen=True)[0], encoder.assign_embeddings(masked)[0])


def _cross_entropy(targets: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(N, P) and (N, P) -> (N,), in nats."""
    return -(targets * np.log(np.maximum(anchors, np.finfo(np.float32).tiny))).sum(1)


# -------------------------------------------------------------------------------------------------------------- views


@dataclass(frozen=True)
class Views:
    """S masked views of a picture beside the full one. ``answers``: of [full, *views], None without any head;
    ``cross_entropy``: (S,) nats, None without prototypes."""

    similarity: np.ndarray  # (S,) cosine to the full view
    answers: Answers | None
    cross_entropy: np.ndarray | None
    centred: np.ndarray | None = None  # (S,) the same around the model's feature mean; None where it has none
    others: float | None = None  # what `similarity` is worth: other pictures have so much, see `others`

    @property
    def same(self) -> np.ndarray | None:
        """(S,) bool: the answer is that of the full view."""
        return None if self.answers is None else self.answers.index[1:] == self.answers.index[0]


def views(encoder: Encoder, picture: ImageSource, kept: np.ndarray) -> Views:
    """Look at S masked views (S, K) of a picture; what each model can say of them."""
    full = encoder.embed(picture)
    masked = encoder.embed([as_seen(encoder, picture)] * len(kept), keep_indices=kept)
    told = answers(encoder, np.concatenate([full, masked])) if encoder.has_classifier or encoder.has_msn_head else None
    surprise = None
    if encoder.has_msn_head:
        surprise = _cross_entropy(encoder.assign_embeddings(full, sharpen=True), encoder.assign_embeddings(masked))
    around, elsewhere = centred(encoder, full, masked), others(encoder, full)
    return Views(cosine(full, masked), told, surprise, around, elsewhere)


def as_seen(encoder: Encoder, picture: ImageSource) -> image.Picture:
    """The picture resized once for many views of it; unchanged where the preprocessing also crops."""
    picture = image.decode(picture)
    if encoder.processor.crop is not None:
        return picture
    return image.decode(encoder.processor.view(picture), name=picture.name)


def cosine(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Cosine similarity of a row (1, D) to each of (N, D): (N,)."""
    norms = np.maximum(np.linalg.norm(one) * np.linalg.norm(many, axis=1), np.finfo(np.float32).tiny)
    return ((many @ one[0]) / norms).clip(-1, 1).astype(float)


def centred(encoder: Encoder, one: np.ndarray, many: np.ndarray) -> np.ndarray | None:
    """:func:`cosine` of what is left of embeddings (1, D) and (N, D) without the model's feature mean: (N,).

    All embeddings of a model have their mean in common, and where it is long any two pictures have a plain cosine near
    1. Around the mean two different pictures have 0 on average. None where the model has no feature mean.
    """
    mean = encoder.feature_mean
    return None if mean is None else cosine(one - mean, many - mean)


def others(encoder: Encoder, one: np.ndarray) -> float | None:
    """The plain cosine that other pictures have to this embedding (1, D) on average: what a similarity compares with.

    From the feature mean alone: the mean of ``x @ y`` over all y is ``x @ mean``, and embeddings of one model are about
    equally long (on Tiny ImageNet it is within 0.012 of the mean over 299 pictures, for each of 300). None without one.
    """
    mean = encoder.feature_mean
    if mean is None:
        return None
    return float((one[0] @ mean / max(float(one[0] @ one[0]), np.finfo(np.float32).tiny)).clip(-1, 1))


@dataclass(frozen=True)
class Point:
    """What hiding ``ratio`` of the patches does, over some draws.

    Attributes:
        kept: patches left, K.
        views: of every draw.
        milliseconds: of one such view, measured; ideal: of the full view, times the share of tokens left. Where it is
            quick both are measured in turns, so that other work on the machine hits both.
    """

    ratio: float
    kept: int
    views: Views
    milliseconds: float
    ideal: float


def curve(
    encoder: Encoder,
    picture: ImageSource,
    sample: Sampler,
    ratios: Iterable[float] = RATIOS,
    seeds: Sequence[int] = (0, 1, 2, 3),
) -> Iterator[Point]:
    """One point for each ratio, as soon as it is measured.

    Args:
        sample: draws the patches kept for a ratio and a seed.
    """
    seen = as_seen(encoder, picture)
    full = encoder.time(seen, repeats=2)
    quick = full < QUICK
    patches = math.prod(encoder.grid())
    for ratio in ratios:
        kept = np.stack([sample(ratio, seed) for seed in seeds])
        taken = encoder.time(seen, keep_indices=kept[0], repeats=3 if quick else 1)
        full = encoder.time(seen, repeats=3) if quick else full
        ideal = full * (1 + kept.shape[1]) / (1 + patches)
        yield Point(ratio, kept.shape[1], views(encoder, seen, kept), taken, ideal)


# ------------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True)
class Step:
    """One mask on the way: patches hidden, the answer then, its probability, and what is left of the first answer's."""

    hidden: np.ndarray
    answer: str
    probability: float
    first: float
    same: bool


@dataclass(frozen=True)
class Search:
    """Which patches decide the answer.

    Attributes:
        answer, kind: of the full view.
        flip: patches whose hiding changes the answer, the fewest found; None when hiding all but one does not.
        keep: patches that alone keep the answer, the fewest found.
        flip_steps, keep_steps: the way there, patch by patch; the last step is the set found.
        flip_random, keep_random: how many patches the same took in random orders.
    """

    answer: str
    kind: str
    patches: int
    flip: np.ndarray | None
    keep: np.ndarray
    flip_steps: list[Step]
    keep_steps: list[Step]
    flip_random: list[int | None]
    keep_random: list[int]


def search(
    encoder: Encoder,
    picture: ImageSource,
    scores: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Search:
    """Hide until it changes its mind: greedy by attention, then patch by patch whatever turns out not to be needed.

    The patches with the highest score go first (or stay longest); from the first mask that works, every patch that can
    be taken out of it alone is, weakest first. What is left is minimal in that sense, not proven the smallest.

    Args:
        scores: (N,) what to go by; CLS's attention in the last layer, mean of heads, by default.
        seed: of the random orders that this is measured against.
        progress: called with (masks tried, at most).

    Raises:
        MissingHeadError: the model gives no answer.
    """
    full = answers(encoder, encoder.embed(picture))
    if scores is None:
        scores = attention.cls_attention(encoder.model, encoder.tokens(picture))[0, -1].mean(0).numpy()
    look = _Look(encoder, as_seen(encoder, picture), full)
    order = np.argsort(-np.asarray(scores), kind="stable")
    patches = len(order)
    if patches != len(look.all):
        raise InputError(f"There are {patches} scores and {len(look.all)} patches; they must be as many.")
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(patches) for _ in range(ORDERS)]
    counts = sorted({round(number) for number in np.linspace(0, patches - 1, min(patches, STEPS))})
    flips: list[Step] = []
    keeps: list[Step] = []
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
    assert keep is not None  # nothing hidden keeps the answer
    flipped = None if flip is None else _without(look, flip.hidden, flip.hidden[::-1], back=True)
    kept = _without(look, keep.hidden, order[: patches - len(keep.hidden)][::-1], back=False)
    if progress is not None:
        progress(2 * len(counts), 2 * len(counts))
    until = patches if flip is None else len(flip.hidden)
    return Search(
        full.name(0),
        full.kind,
        patches,
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
    """Masks of one picture -> steps: equally many patches hidden in each, one forward."""

    def __init__(self, encoder: Encoder, picture: image.Picture, full: Answers) -> None:
        self._encoder, self._picture = encoder, picture
        self._first = int(full.index[0])
        self.all = np.arange(math.prod(encoder.grid()))

    def __call__(self, hidden: Sequence[np.ndarray]) -> list[Step]:
        kept = np.stack([np.setdiff1d(self.all, one) for one in hidden])
        told = answers(self._encoder, self._encoder.embed([self._picture] * len(kept), keep_indices=kept))
        return [
            Step(one, told.name(n), float(told.probability[n]), float(told.probabilities[n, self._first]), same)
            for n, (one, same) in enumerate(zip(hidden, (told.index == self._first).tolist(), strict=True))
        ]


def _first(look: _Look, steps: list[Step], mask: Callable[[int], np.ndarray], same: bool) -> Step | None:
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


def _without(look: _Look, hidden: np.ndarray, candidates: np.ndarray, back: bool) -> Step:
    """Patches one by one shown again (`back`) or hidden too, wherever the answer stays on the same side."""
    [best] = look([hidden])
    wanted, before = best.same, -1
    while before != len(best.hidden):  # taking one out may free another
        before = len(best.hidden)
        for patch in candidates[:STEPS].tolist():
            if (patch in best.hidden) != back or (not back and len(best.hidden) + 1 == len(look.all)):
                continue  # it is out already, or one patch has to stay
            [step] = look([best.hidden[best.hidden != patch] if back else np.append(best.hidden, patch)])
            best = step if step.same == wanted else best
    return best
