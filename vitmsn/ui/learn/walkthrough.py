"""The computation of the walk through MSN: one picture from views to loss, with the visitor's chosen model.

The views follow the recipe of the embedded model (section 4 of arXiv 2204.07141). Here Pillow cuts them one by one, so
that each can be shown. The batch that Sinkhorn and me-max need is the page's gallery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageEnhance

from vitmsn import attention, image, masking, robustness
from vitmsn.encoder import Encoder
from vitmsn.encodings import Progress
from vitmsn.image import Picture
from vitmsn.nearest import NearPicture, PictureIndex
from vitmsn.outputs import ViTMSNOutput
from vitmsn.robustness import Assignment
from vitmsn.training.loss import sharpen, sinkhorn
from vitmsn.ui.locale import later, tr
from vitmsn.ui.shared import examples, picture_gallery
from vitmsn.ui.shared.checks import choice, real, whole

CLOSE_UP = "close-up "  # with a number behind it: the name of a view
WHOLE, FOCAL = (0.3, 1.0), (0.05, 0.3)  # share of the picture's area that a crop covers
FOCAL_VIEWS = 4
RATIO = (3 / 4, 4 / 3)  # width / height of a crop
JITTER = {"Brightness": 0.4, "Contrast": 0.4, "Color": 0.2}
MOST_RATIO, MOST_DRAW = 90, 99
SIZES = {"half": later("half"), "own": later("own"), "double": later("double")}  # of the input
NEAR = 5  # gallery pictures beside a view
LOOKING = 9  # patches whose attention is shown beside CLS's


@dataclass(frozen=True)
class LearnControls:
    """The values of the eight controls, one per step."""

    size: str = "own"  # input size at which step 1 shows the picture: half, own, double
    draw: int = 4  # random seed of the views
    ratio: float = 30  # percent of the patches dropped
    layer: int = 9  # layer in which the tokens look at each other, from 1
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
            min(whole(self.layer, "layer", 1, 1000), encoder.config.num_hidden_layers),
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
    def title(self) -> str:
        """The name on the page."""
        if self.name.startswith(CLOSE_UP):
            return tr("close-up {number}", number=self.name.removeprefix(CLOSE_UP))
        return tr(self.name)

    @property
    def share(self) -> float:
        """Of the picture's area."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def views(picture: Picture, draw: int, size: tuple[int, int], small: tuple[int, int]) -> list[View]:
    """The full view, the masked view and the close-ups of one picture; `draw` is the random seed.

    The paper calls them target, random anchor and focal anchors.
    """
    rng = np.random.default_rng(draw)
    kinds = [(later("full view"), WHOLE, size), (later("masked view"), WHOLE, size)]
    kinds += [(f"{CLOSE_UP}{number + 1}", FOCAL, small) for number in range(FOCAL_VIEWS)]
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
class TokenAttention:
    """What one token of the masked view attends to in a layer, mean of heads.

    Attributes:
        patch: its place on the grid; None for CLS.
        values: (rows, columns) shares of its attention, NaN where a patch was dropped.
    """

    patch: int | None
    values: np.ndarray


@dataclass(frozen=True)
class Assigned:
    """The views' probabilities over the P prototypes, at the chosen temperature.

    Attributes:
        views: (1 + V, P) of the full view, then of the anchors.
        sharp: (P,) of the full view, sharpened.
        balanced: (P,) the same after Sinkhorn over the batch.
        mean: (P,) mean of the anchors and of the gallery's pictures.
        batch: (2, P) mean over the batch of targets (full view and gallery): sharpened, and after Sinkhorn.
        pictures: pictures in that batch.
    """

    views: np.ndarray
    sharp: np.ndarray
    balanced: np.ndarray
    mean: np.ndarray
    batch: np.ndarray
    pictures: int

    @property
    def cross_entropies(self) -> np.ndarray:
        """(V,) nats: how surprised the sharpened full view is by each anchor (equation 2)."""
        return np.array([Assignment(self.sharp, anchor).cross_entropy for anchor in self.views[1:]])


@dataclass(frozen=True)
class Walk:
    """Everything that the eight steps show about one picture.

    Attributes:
        views: the full view (target) first, then the anchors (V of them): the masked view and the close-ups.
        kept: (K,) patches kept of the masked view.
        looks: what CLS, then some of its patches, attend to in the chosen layer.
        similarity: (V,) cosine of each anchor's embedding to the full view's, centered if the model has a feature mean.
        other: cosine of the other picture's embedding to the full view's.
        index: the gallery; None for a model too large for it.
        near: the nearest gallery pictures of each view, then of the other picture; empty without a gallery.
        assigned: probabilities over the prototypes; None for a model without them.
    """

    ask: LearnControls
    picture: Picture
    views: list[View]
    grid: tuple[int, int]
    kept: np.ndarray
    looks: list[TokenAttention]
    similarity: np.ndarray
    other: float
    index: PictureIndex | None = None
    near: list[tuple[NearPicture, ...]] = field(default_factory=list)
    assigned: Assigned | None = None

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def loss(self) -> float:
        """Mean cross-entropy minus the weighted entropy of the mean (equation 3)."""
        assert self.assigned is not None
        return float(self.assigned.cross_entropies.mean()) - self.ask.weight * entropy(self.assigned.mean)


def entropy(shares: np.ndarray) -> float:
    """Entropy of probabilities (P,), in nats: 0 if one prototype is certain, log P if all are equal."""
    return Assignment(shares, shares).least


def focal_side(encoder: Encoder) -> int:
    """Side of a close-up in pixels: half the input, in whole patches."""
    patch = max(encoder.patch_size)
    return max(1, round(min(encoder.input_size) / 2 / patch)) * patch


def study(encoder: Encoder, picture: Picture, ask: LearnControls, progress: Progress | None = None) -> Walk:
    """Run all steps: views, masks, tokens, embeddings, and, with prototypes, assignments.

    progress: for embedding the gallery, the first time that a model is used.
    """
    ask = ask.checked(encoder)
    small = focal_side(encoder)
    cut = views(picture, ask.draw, encoder.input_size, (small, small))
    grid = encoder.grid()
    kept = masking.draw_mask("random", grid, ask.ratio / 100, ask.draw)[0].numpy()
    target, masked, *close = cut
    tokens = encoder.tokens(masked.picture, keep_indices=kept)
    embedded = np.concatenate(
        [
            encoder.embed(target.picture),
            encoder.embed(masked.picture, keep_indices=kept),
            encoder.embed([view.picture for view in close], size=small),
            encoder.embed(examples.by_name(ask.other).picture),
        ]
    )
    around = embedded if encoder.feature_mean is None else embedded - encoder.feature_mean
    cosines = robustness.cosine(around[:1], around[1:])
    index = picture_gallery.index(encoder, progress)
    return Walk(
        ask,
        picture,
        cut,
        grid,
        kept,
        attentions(encoder, tokens, kept, ask.layer - 1),
        cosines[:-1],
        float(cosines[-1]),
        index,
        index.nearest(embedded, NEAR) if index is not None else [],
        assign(encoder, embedded[:-1], index, ask) if encoder.has_msn_head else None,
    )


def attentions(encoder: Encoder, tokens: ViTMSNOutput, kept: np.ndarray, layer: int) -> list[TokenAttention]:
    """What CLS and some patches attend to in one layer (from 0): the patch that CLS looks at most, then patches as far
    as possible from those before."""
    rows = attention.combine(attention.cls_attention(encoder.model, tokens)[:, layer])
    looks = [TokenAttention(None, attention.to_grid(rows, tokens)[0].numpy())]
    places = np.stack(np.divmod(kept, tokens.grid[1]), axis=1)
    chosen = [int(rows[0].argmax())]
    while len(chosen) < min(LOOKING, len(kept)):
        away = np.linalg.norm(places[:, None] - places[chosen][None], axis=2).min(1)
        chosen.append(int(away.argmax()))
    for place in chosen:
        row = attention.combine(attention.patch_attention(encoder.model, tokens, place, layer))
        looks.append(TokenAttention(int(kept[place]), attention.to_grid(row, tokens)[0].numpy()))
    return looks


def assign(encoder: Encoder, embedded: np.ndarray, index: PictureIndex | None, ask: LearnControls) -> Assigned:
    """Probabilities over the prototypes of the views (1 + V, D), with the gallery as the rest of the batch.

    Sharpening and Sinkhorn are the trainer's own functions.
    """
    gallery = index.embeddings if index is not None else embedded[:0]
    shares = encoder.assign_embeddings(np.concatenate([embedded, gallery]), temperature=ask.temperature)
    many = len(embedded)
    targets = np.concatenate([shares[:1], shares[many:]])  # the full view, and the gallery's pictures
    sharp = sharpen(torch.from_numpy(targets).clamp_min(torch.finfo(torch.float32).tiny).log(), ask.sharpening)
    balanced = sinkhorn(sharp)
    return Assigned(
        shares[:many],
        sharp[0].numpy(),
        balanced[0].numpy(),
        shares[1:].mean(0),
        torch.stack([sharp.mean(0), balanced.mean(0)]).numpy(),
        len(targets),
    )
