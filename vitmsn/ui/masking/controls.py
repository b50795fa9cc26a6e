"""Which patches to hide: the Masking tab's controls, and the mask they describe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitmsn import masking
from vitmsn.encoder import Encoder
from vitmsn.ui.locale import later
from vitmsn.ui.shared import patch_grid
from vitmsn.ui.shared.checks import choice, real, whole

KINDS = {"random": later("Random"), "focal": later("Focal"), "block": later("Block"), "painted": later("Painted")}
MOST_RATIO = 95  # percent
MOST_SEED = 2**31 - 1
FIRST_SEED = 1  # the first mask: it keeps the first example's answer, as most do; the next ones show when it does not


@dataclass(frozen=True)
class MaskingControls:
    """The values of the tab's controls."""

    kind: str = "random"
    ratio: float = 70  # percent hidden
    seed: int = FIRST_SEED
    paint: str = ""  # hidden patches of a painted mask, rows and columns from 1: "1.1-2.4, 7.8"


def kept_grid(ask: MaskingControls, grid: tuple[int, int]) -> np.ndarray:
    """The mask the controls describe: (rows, columns) bool, True where a patch stays."""
    if ask.kind == "painted":
        return masking.to_grid(masking.painted_mask(masking.read_painted(ask.paint, grid)), grid)[0].numpy()
    choice(ask.kind, "kind", KINDS)
    seed = whole(ask.seed, "seed", 0, MOST_SEED)
    return masking.to_grid(
        masking.draw_mask(ask.kind, grid, real(ask.ratio, "The mask ratio", 0, MOST_RATIO, " percent") / 100, seed),
        grid,
    )[0].numpy()


def series(kind: str) -> str:
    """The kind of masks for a series; random in place of painted, since nobody paints sixteen."""
    return "random" if kind == "painted" else kind


def draw(encoder: Encoder, kind: str, ratio: float, seed: int) -> np.ndarray:
    """The patches kept (K,) in one draw of a series; `ratio` in percent."""
    return np.flatnonzero(kept_grid(MaskingControls(series(kind), ratio, seed), patch_grid.grid(encoder)))
