"""The computation of the walk through MSN: one picture from views to loss, with the visitor's chosen model.

The views follow the recipe of the embedded model (section 4 of arXiv 2204.07141). Here Pillow cuts them one by one, so
that each can be shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from vitmsn import image, masking, robustness
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.robustness import Assignment
from vitmsn.ui.shared import examples
from vitmsn.ui.shared.checks import choice, real, whole

WHOLE, FOCAL = (0.3, 1.0), (0.05, 0.3)  # share of the picture's area that a crop covers
FOCAL_VIEWS = 4
RATIO = (3 / 4, 4 / 3)  # width / height of a crop
JITTER = {"Brightness": 0.4, "Contrast": 0.4, "Color": 0.2}
MOST_RATIO, MOST_DRAW = 90, 99
SIZES = ("half", "own", "double")  # of the input
WORK = 10e9  # weights times tokens per forward pass; above this the example pictures are not encoded too


@dataclass(frozen=True)
class LearnControls:
    """The values of the eight controls, one per step."""

    size: str = "own"  # input size at which step 1 shows the picture: half, own, double
    draw: int = 4  # random seed of the views
    ratio: float = 30  # percent of the patches dropped
    layer: int = 9  # layer whose tokens are shown; 0 is the input to the first
    other: str = "coffee"  # the example that the views are compared with
    temperature: float = 0.1  # tau
    sharpening: float = 0.25  # T
    weight: float = 1.0  # lambda, of me-max

    def checked(self, encoder: Encoder) -> LearnControls:
        """With every value in its range; a layer that this model does not have is its last.

        Raises:
            InputError: names the value that no control of the page can have.
        """
        return LearnControls(
            choice(self.size, "size", SIZES),
            whole(self.draw, "draw", 1, MOST_DRAW),
            real(self.ratio, "The share dropped", 0, MOST_RATIO),
            min(whole(self.layer, "layer", 0, 1000), encoder.config.num_hidden_layers),
            examples.by_name(str(self.other)).name,
            real(self.temperature, "The temperature", 0.02, 1),
            real(self.sharpening, "The sharpening", 0.05, 1),
            real(self.weight, "The weight of me-max", 0, 5),
        )


# ---------------------------------------------------------------------------------------------------------------- views


@dataclass(frozen=True)
class View:
    """One view: where it was cut (left, top, right, bottom in shares of the picture), and what it looks like."""

    name: str
    picture: Picture
    box: tuple[float, float, float, float]
    size: tuple[int, int]  # (height, width) in pixels, as the network gets it

    @property
    def share(self) -> float:
        """Of the picture's area."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def views(picture: Picture, draw: int, size: tuple[int, int], small: tuple[int, int]) -> list[View]:
    """The target view, the random anchor and the focal anchors of one picture; `draw` is the random seed."""
    rng = np.random.default_rng(draw)
    kinds = [("target", WHOLE, size), ("random anchor", WHOLE, size)]
    kinds += [(f"focal anchor {number + 1}", FOCAL, small) for number in range(FOCAL_VIEWS)]
    return [_view(picture, name, scale, side, rng) for name, scale, side in kinds]


def _view(
    picture: Picture, name: str, scale: tuple[float, float], size: tuple[int, int], rng: np.random.Generator
) -> View:
    area, aspect = rng.uniform(*scale), math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
    whole_width, whole_height = picture.rgb.size
    aspect *= whole_height / whole_width  # in shares, not pixels
    width, height = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    box = (left, top, left + width, top + height)
    pixels = [value * side for value, side in zip(box, (whole_width, whole_height) * 2, strict=True)]
    rows, columns = size
    cut = picture.rgb.resize((columns, rows), Image.Resampling.BICUBIC, tuple(pixels))  # type: ignore[arg-type]
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    factors = [1 + strength * rng.uniform(-1, 1) for strength in JITTER.values()]
    if rng.random() < 0.8:
        for kind, factor in zip(JITTER, factors, strict=True):
            cut = getattr(ImageEnhance, kind)(cut).enhance(factor)
    return View(name, image.decode(cut, name=f"{name}.png"), box, size)


# --------------------------------------------------------------------------------------------------------------- lesson


@dataclass(frozen=True)
class Walk:
    """Everything that the eight steps show about one picture.

    Attributes:
        views: target first, then the anchors (V of them).
        kept: (K,) patches kept of the random anchor.
        states: (1 + K, D) tokens of the random anchor at the chosen layer, CLS first.
        similarity: (V,) cosine of each anchor's embedding to the target's, centered if the model has a feature mean.
        other: cosine of the other picture's embedding to the target's.
        assigned: (1 + V, P) assignments of target and anchors at the chosen temperature; None without a head.
        sharp: (P,) the target's assignment, sharpened.
        mean: (P,) mean assignment of the anchors and of the example pictures.
        pictures: number of rows in that mean.
    """

    ask: LearnControls
    picture: Picture
    views: list[View]
    grid: tuple[int, int]
    kept: np.ndarray
    states: np.ndarray
    similarity: np.ndarray
    other: float
    assigned: np.ndarray | None = None
    sharp: np.ndarray | None = None
    mean: np.ndarray | None = None
    pictures: int = 0

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def cross_entropies(self) -> np.ndarray:
        """(V,) nats: how surprised the sharpened target is by each anchor (equation 2)."""
        assert self.assigned is not None and self.sharp is not None
        return np.array([Assignment(self.sharp, anchor).cross_entropy for anchor in self.assigned[1:]])

    @property
    def loss(self) -> float:
        """Mean cross-entropy minus the weighted entropy of the mean (equation 3)."""
        assert self.mean is not None
        return float(self.cross_entropies.mean()) - self.ask.weight * entropy(self.mean)


def entropy(shares: np.ndarray) -> float:
    """Entropy of probabilities (P,), in nats: 0 if one prototype is certain, log P if all are equal."""
    return Assignment(shares, shares).least


def focal_side(encoder: Encoder) -> int:
    """Side of a focal view in pixels: half the input, in whole patches."""
    patch = max(encoder.patch_size)
    return max(1, round(min(encoder.input_size) / 2 / patch)) * patch


def study(encoder: Encoder, picture: Picture, ask: LearnControls) -> Walk:
    """Run all steps: views, masks, tokens, embeddings, and, with a head, assignments."""
    ask = ask.checked(encoder)
    size = encoder.input_size
    small = focal_side(encoder)
    cut = views(picture, ask.draw, size, (small, small))
    grid = encoder.grid()
    kept = masking.draw_mask("random", grid, ask.ratio / 100, ask.draw)[0].numpy()
    target, random, *focal = cut
    tokens = encoder.tokens(random.picture, keep_indices=kept)
    assert tokens.hidden_states is not None
    embedded = np.concatenate(
        [
            encoder.embed(target.picture),
            encoder.embed(random.picture, keep_indices=kept),
            encoder.embed([view.picture for view in focal], size=small),
        ]
    )
    other = encoder.embed(examples.by_name(ask.other).picture)
    around = embedded - encoder.feature_mean if encoder.feature_mean is not None else embedded
    beside = other - encoder.feature_mean if encoder.feature_mean is not None else other
    cosines = robustness.cosine(around[:1], np.concatenate([around[1:], beside]))
    lesson: dict[str, Any] = {}
    if encoder.msn_head is not None:
        rows = _examples(encoder, picture)
        shares = encoder.assign_embeddings(np.concatenate([embedded, *rows]), temperature=ask.temperature)
        lesson = {
            "assigned": shares[: len(cut)],
            "sharp": encoder.assign_embeddings(embedded[:1], temperature=ask.temperature * ask.sharpening)[0],
            "mean": shares[1:].mean(0),
            "pictures": len(shares) - 1,
        }
    states = tokens.hidden_states[ask.layer][0].numpy()
    return Walk(ask, picture, cut, grid, kept, states, cosines[:-1], float(cosines[-1]), **lesson)


def _examples(encoder: Encoder, picture: Picture) -> list[np.ndarray]:
    """Embeddings of the example pictures, for a mean over more than one picture; empty if the model is large."""
    weights = sum(parameter.numel() for parameter in encoder.model.parameters())
    if weights * (1 + math.prod(encoder.grid())) > WORK:
        return []
    return [encoder.embed(known.picture) for known in examples.photographs() if known.picture.digest != picture.digest]
