"""Random views of a batch of pictures, made on the training device in one pass each.

All chance is *keyed*: the numbers a picture gets depend on (seed, draw, its index in the data set) alone, not on its
place in a batch, so a resumed or a distributed run sees the very same views (:func:`keyed_uniform`).

Colors are in [0, 1] until :func:`normalize`. The recipe is the original's: random resized crop, flip, color jitter,
gray, blur; solarisation is not used. Probabilities are those of the arguments; the tests count them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViewRecipe:
    """How one kind of view is drawn.

    Attributes:
        size: side of the view in pixels.
        scale: share of the picture's area that a crop covers, (least, most).
        blur: probability of a Gaussian blur.
    """

    size: int
    scale: tuple[float, float]
    blur: float
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of a crop
    flip: float = 0.5
    jitter: float = 0.8  # probability of color jitter of the strengths below
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1  # of a full turn
    gray: float = 0.2


# numbers a view consumes, in this order; a name rather than an index where they are used
_CROP_DRAWS = ("area", "ratio", "top", "left", "flip")
_DRAWS = (*_CROP_DRAWS, "jitter", "brightness", "contrast", "saturation", "hue", "gray",
          "blur", "sigma")  # fmt: skip


def keyed_uniform(seed: int, draw: int, indices: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1), (len(indices), count), that depend on (seed, draw, index, column) only.

    A counter-based generator: SplitMix64's finaliser over a mix of the keys, on 64-bit integers that wrap.
    """
    column = torch.arange(count, device=indices.device)
    key = indices.to(torch.int64).unsqueeze(1) * 1_000_003 + column
    key = _scramble(key + _signed(seed * 0x9E3779B97F4A7C15))
    key = _scramble(key + _signed((draw + 1) * 0xD1B54A32D192ED03))
    return ((key >> 11) & ((1 << 53) - 1)).double().mul(2.0**-53).float().clamp_max(1 - 2.0**-24)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _scramble(x: Tensor) -> Tensor:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _shift_right(x, shift)) * _signed(factor)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch's own shift carries the sign


def draw_view(
    pictures: Tensor, indices: Tensor, recipe: ViewRecipe, seed: int, draw: int, crop: tuple[int, int] | None = None
) -> Tensor:
    """One random view of each picture, normalized for the model.

    Args:
        pictures: (B, 3, height, width) uint8.
        indices: (B,) int64, each picture's index in the data set.
        draw: which draw of this picture it is (another number for every step and view).
        crop: (seed, draw) of the crop and flip, when they are to be those of :func:`draw_crop`; None: this draw's own.

    Returns:
        (B, 3, size, size) float32.
    """
    u = _uniform(_DRAWS, seed, draw, indices)
    if crop is not None:
        u |= _uniform(_CROP_DRAWS, *crop, indices)
    view = _resized_crop(pictures.float().div_(255), recipe, u)
    view = _color_jitter(view, recipe, u)
    gray = _luma(view).expand_as(view)
    view = torch.where(_when(u["gray"], recipe.gray), gray, view)
    if recipe.blur:
        view = _blur(view, u["sigma"], u["blur"] < recipe.blur)
    return normalize(view)


def draw_crop(pictures: Tensor, indices: Tensor, recipe: ViewRecipe, seed: int, draw: int) -> Tensor:
    """The crop and flip of :func:`draw_view` alone, enlarged without loss of detail: what a teacher is shown.

    The arguments are those of :func:`draw_view`; ``recipe.size`` may be larger than the pictures.

    Returns:
        (B, 3, size, size) uint8.
    """
    u = _uniform(_CROP_DRAWS, seed, draw, indices)
    return _resized_crop(pictures.float(), recipe, u, "bicubic").round_().clamp_(0, 255).to(torch.uint8)


def _uniform(names: tuple[str, ...], seed: int, draw: int, indices: Tensor) -> dict[str, Tensor]:
    """A column of keyed numbers for each name; a name's column is its place in ``_DRAWS``."""
    return dict(zip(names, keyed_uniform(seed, draw, indices, len(names)).unbind(1), strict=True))


def cutmix(views: Tensor, patch: tuple[int, int], chance: np.random.Generator) -> tuple[Tensor, float]:
    """Give each view a rectangle of another one, the same for all of the batch (CutMix, Yun et al., arXiv 1905.04899).

    Args:
        views: (B, C, height, width), partners of one another from both ends: the first gets from the last.
        patch: height and width of a patch; the rectangle is made of whole ones, so that each belongs to one picture.
        chance: draws the share of the area, uniformly, and the place.

    Returns:
        (the mixed views, a copy; the share of each that is its own).
    """
    part = math.sqrt(1 - chance.random())
    mixed, area = views.clone(), 1.0
    window: list[slice] = []
    for side, step in zip(views.shape[2:], patch, strict=True):
        count = side // step
        cut = round(count * part)
        first = int(chance.integers(0, count - cut + 1))
        window.append(slice(first * step, (first + cut) * step))
        area *= cut / count
    mixed[:, :, window[0], window[1]] = views.flip(0)[:, :, window[0], window[1]]
    return mixed, 1 - area


def normalize(colors: Tensor) -> Tensor:
    """[0, 1] colors (B, 3, height, width) -> ImageNet-normalized."""
    mean = torch.tensor(IMAGENET_MEAN, device=colors.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=colors.device).view(1, 3, 1, 1)
    return (colors - mean) / std


def resize(pictures: Tensor, size: int) -> Tensor:
    """The plain view used for evaluation: uint8 (B, 3, height, width) -> normalized (B, 3, size, size), antialiased."""
    colors = pictures.float().div(255)
    if colors.shape[-2:] != (size, size):
        colors = F.interpolate(colors, size=(size, size), mode="bilinear", antialias=True)
    return normalize(colors)


def _when(uniform: Tensor, probability: float) -> Tensor:
    return (uniform < probability).view(-1, 1, 1, 1)


def _resized_crop(colors: Tensor, recipe: ViewRecipe, u: dict[str, Tensor], mode: str = "bilinear") -> Tensor:
    """Crop a random rectangle and flip it, sampled at twice the size and averaged, against aliasing."""
    height, width = colors.shape[-2:]
    least, most = recipe.scale
    area = (least + (most - least) * u["area"]) * height * width
    low, high = (math.log(bound) for bound in recipe.ratio)
    aspect = torch.exp(low + (high - low) * u["ratio"])
    crop_width = (area * aspect).sqrt().clamp(max=width)
    crop_height = (area / aspect).sqrt().clamp(max=height)
    left = u["left"] * (width - crop_width)
    top = u["top"] * (height - crop_height)
    sign = torch.where(u["flip"] < recipe.flip, -1.0, 1.0)
    # affine map from the view's [-1, 1] to the picture's: scale and center, x before y
    theta = torch.zeros(len(colors), 2, 3, device=colors.device)
    theta[:, 0, 0] = sign * crop_width / width
    theta[:, 1, 1] = crop_height / height
    theta[:, 0, 2] = (2 * left + crop_width) / width - 1
    theta[:, 1, 2] = (2 * top + crop_height) / height - 1
    # sample as densely as the largest crop needs, then average: 1, 2, 3 ... samples a pixel each way
    dense = max(1, math.ceil(math.sqrt(most) * max(height, width) / recipe.size - 1e-6))
    side = recipe.size * dense
    grid = F.affine_grid(theta, [len(colors), 3, side, side], align_corners=False)
    view = F.grid_sample(colors, grid, mode=mode, padding_mode="border", align_corners=False)
    return F.avg_pool2d(view, dense) if dense > 1 else view


def _luma(colors: Tensor) -> Tensor:
    """(B, 3, h, w) -> (B, 1, h, w), ITU-R 601."""
    red, green, blue = colors.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def _color_jitter(colors: Tensor, recipe: ViewRecipe, u: dict[str, Tensor]) -> Tensor:
    """Brightness, contrast, saturation, hue, in that order, each by a factor drawn for the picture."""

    def factor(name: str, strength: float) -> Tensor:
        return (1 + strength * (2 * u[name] - 1)).view(-1, 1, 1, 1)

    view = (colors * factor("brightness", recipe.brightness)).clamp(0, 1)
    contrast = factor("contrast", recipe.contrast)
    view = (contrast * view + (1 - contrast) * _luma(view).mean((2, 3), keepdim=True)).clamp(0, 1)
    saturation = factor("saturation", recipe.saturation)
    view = (saturation * view + (1 - saturation) * _luma(view)).clamp(0, 1)
    view = _turn_hue(view, recipe.hue * (2 * u["hue"] - 1)).clamp(0, 1)
    return torch.where(_when(u["jitter"], recipe.jitter), view, colors)


def _turn_hue(colors: Tensor, turns: Tensor) -> Tensor:
    """Rotate colors about the gray axis by ``turns`` of a circle: the linear (YIQ) form of a hue change."""
    angle = 2 * math.pi * turns
    cos, sin = angle.cos(), angle.sin()
    to_yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], device=colors.device
    )
    rotation = torch.zeros(len(colors), 3, 3, device=colors.device)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1], rotation[:, 1, 2] = cos, -sin
    rotation[:, 2, 1], rotation[:, 2, 2] = sin, cos
    matrix = torch.linalg.inv(to_yiq) @ rotation @ to_yiq  # (B, 3, 3)
    return (matrix @ colors.flatten(2)).view_as(colors)


def _blur(colors: Tensor, sigma_draw: Tensor, chosen: Tensor) -> Tensor:
    """Gaussian blur of the chosen pictures, sigma 0.1 to 2 pixels at 224, scaled to the view's size."""
    rows = chosen.nonzero().flatten()
    if not len(rows):
        return colors
    size = colors.shape[-1]
    sigma = (0.1 + 1.9 * sigma_draw[rows]) * max(size / 224, 0.25)
    radius = max(1, math.ceil(2 * 2.0 * max(size / 224, 0.25)))
    offsets = torch.arange(-radius, radius + 1, device=colors.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.unsqueeze(1)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)  # (b, 2 r + 1), another for each picture
    part = colors[rows]
    for axis in (2, 3):
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        windows = F.pad(part, pad, mode="replicate").unfold(axis, 2 * radius + 1, 1)  # (b, 3, h, w, 2 r + 1)
        part = torch.einsum("bchwk,bk->bchw", windows, kernel)
    return colors.index_copy(0, rows, part)
