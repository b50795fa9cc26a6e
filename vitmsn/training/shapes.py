"""Small colored shapes with textures, drawn here, for the live lesson: what changes from picture to picture is not what
they are.

Every kind of thing has a shape, a texture and two colors, and each pair of colors belongs to two kinds. Place, size,
angle and light of a thing, and everything behind it, are drawn anew for each picture, so that pixels side by side say
little. What is behind it also changes from place to place within a picture: views of one picture share the thing alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn.errors import InputError

NAME = "drawn shapes"
KINDS = (
    "striped disk",
    "checked disk",
    "dotted square",
    "ringed square",
    "striped triangle",
    "checked triangle",
    "dotted ring",
    "ringed star",
)
PICTURES, HELD_OUT = 1440, 360
COLORS = (  # of Okabe and Ito, two for each pair of kinds
    ((0.90, 0.62, 0.00), (0.35, 0.16, 0.02)),
    ((0.34, 0.71, 0.91), (0.02, 0.20, 0.42)),
    ((0.00, 0.62, 0.45), (0.94, 0.89, 0.26)),
    ((0.84, 0.37, 0.00), (0.95, 0.75, 0.85)),
)
# where a thing is, from its own coordinates, which reach from about -1 to 1
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disk": lambda x, y: np.hypot(x, y) < 0.9,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.8,
    "triangle": lambda x, y: np.maximum(y, 0.866 * abs(x) - 0.5 * y) < 0.6,
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.675) < 0.325,
    "star": lambda x, y: np.hypot(x, y) < 0.7 + 0.28 * np.cos(5 * np.arctan2(y, x)),
}
# where the first of its two colors is; a turn of u or v is one period
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "striped": lambda u, v: np.sin(u) > 0,
    "checked": lambda u, v: np.sin(u) * np.sin(v) > 0,
    "dotted": lambda u, v: np.cos(u) + np.cos(v) > 0.6,
    "ringed": lambda u, v: np.sin(np.hypot(u, v)) > 0,
}
SIZES = (0.65, 0.9)  # of a thing, from its middle, where 1 is half the picture
BEHIND = (0.0, 1.0)  # range of the colors behind it
PARTS = 5  # colors behind a thing, in each direction
PLACE = 0.6  # how far from the middle of the picture a thing may be, in each direction


def load(side: int = 32) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pictures (N, 3, side, side) uint8 and labels (N,) int64: to train on, and held out; always the same.

    Raises:
        InputError: a side below 16, at which textures cannot be told apart.
    """
    if side < 16:
        raise InputError(f"The shapes would be {side} pixels wide, too few for their textures; give at least 16.")
    labels = np.arange(PICTURES + HELD_OUT) % len(KINDS)
    pictures = draw(labels, side, np.random.default_rng(0))
    known = torch.from_numpy(labels)
    return (pictures[:PICTURES], known[:PICTURES]), (pictures[PICTURES:], known[PICTURES:])


def draw(
    kinds: np.ndarray,
    side: int,
    rng: np.random.Generator,
    behind: tuple[float, float] = BEHIND,
    place: float = PLACE,
) -> Tensor:
    """Pictures (N, 3, side, side) uint8 of these kinds (N,), numbers of KINDS.

    Args:
        behind: range of the colors behind a thing, 0 to 1; a narrow one is calm.
        place: how far from the middle a thing may be, in each direction.
    """
    twice = torch.from_numpy(_draw(kinds, 2 * side, rng, behind, place))  # smooth edges
    return F.avg_pool2d(twice, 2).mul(255).round().byte()


def _draw(
    kinds: np.ndarray, side: int, rng: np.random.Generator, ground: tuple[float, float], place: float
) -> np.ndarray:
    """Pictures (N, 3, side, side) float32, 0 to 1."""
    many = len(kinds)

    def random(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (many, *shape)).astype(np.float32)

    steps = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    down, across = np.meshgrid(steps, steps, indexing="ij")
    x, y = (axis - random(-place, place, 1, 1) for axis in (across, down))
    angle, size = random(-0.5, 0.5, 1, 1), random(*SIZES, 1, 1)
    x, y = ((x * np.cos(angle) + y * np.sin(angle)) / size, (y * np.cos(angle) - x * np.sin(angle)) / size)
    phase, pitch = random(0, 2 * math.pi, 2, 1, 1), random(7.5, 9.5, 1, 1)
    inside, first = np.zeros((2, many, side, side), bool)
    for number, kind in enumerate(KINDS):
        of = kinds == number
        texture, shape = kind.split()
        inside[of] = SHAPES[shape](x[of], y[of])
        first[of] = TEXTURES[texture](pitch[of] * x[of] + phase[of, 0], pitch[of] * y[of] + phase[of, 1])
    colors = np.array(COLORS, np.float32)[kinds // 2 % len(COLORS)][..., None, None]  # (N, 2, 3, 1, 1)
    thing = np.where(first[:, None], colors[:, 0], colors[:, 1])
    parts = torch.from_numpy(rng.uniform(*ground, (many, 3, PARTS, PARTS)).astype(np.float32))
    behind = F.interpolate(parts, size=(side, side), mode="bicubic", align_corners=False).numpy()
    picture = np.where(inside[:, None], thing, behind)
    turn = random(0, 2 * math.pi, 1, 1)
    shade = 1 + random(0.1, 0.4, 1, 1) * (across * np.cos(turn) + down * np.sin(turn))
    light = random(0.55, 1.15, 1, 1, 1) * random(0.8, 1.2, 3, 1, 1)
    lit: np.ndarray = (picture * shade[:, None] * light).clip(0, 1).astype(np.float32)
    return lit
