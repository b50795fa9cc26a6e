"""Which patches stay: random, focal, block and painted masks.

A mask is ``keep_indices`` (batch, K) int64: row-major positions of the patches that stay, sorted. The model drops the
others. The functions are pure: all chance comes from the ``torch.Generator`` given. Same seed, same mask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vitmsn import limits
from vitmsn.errors import InputError

Grid = tuple[int, int]  # (rows, columns)
Keep = Tensor | np.ndarray | Sequence[int] | None  # patches to keep, of one picture or of each; None is all


def kept_count(patches: int, ratio: float) -> int:
    """Patches that stay of ``patches`` when ``ratio`` of them is hidden: never none.

    Raises:
        InputError: a ratio outside [0, 1).
    """
    if not 0 <= ratio < 1:
        raise InputError(f"The mask ratio is {ratio}; it must be at least 0 (hide nothing) and below 1.")
    return max(1, round(patches * (1 - ratio)))


def keep_rows(keep: Keep, pictures: int, patches: int) -> list[np.ndarray] | None:
    """A mask as people give it, (K,) or (1, K) for all pictures or (pictures, K), checked.

    Returns:
        for each picture its patches (K,) int64, sorted; None for None.

    Raises:
        InputError: another shape, numbers that are not whole, patches twice, or that the grid does not have.
    """
    if keep is None:
        return None
    try:
        rows = np.atleast_2d(np.asarray(keep.cpu() if isinstance(keep, Tensor) else keep))
    except ValueError:  # rows of different lengths
        rows = np.full((1, 1), np.nan)
    if rows.size and rows.dtype.kind not in "iu":  # a bool mask would be read as patches 0 and 1
        raise InputError(
            "keep_indices must be rows of equally many whole numbers, the places of the patches to keep "
            "(masking.painted_mask makes them of a bool grid)."
        )
    rows = rows.astype(np.int64)
    if rows.ndim != 2 or len(rows) not in (1, pictures) or rows.shape[1] < 1:
        raise InputError(
            f"keep_indices has the shape {rows.shape}; (patches kept,) or ({pictures}, patches kept) is needed."
        )
    rows = np.sort(rows, axis=1)
    if rows.min() < 0 or rows.max() >= patches or (np.diff(rows, axis=1) == 0).any():
        raise InputError(
            f"keep_indices runs from {rows.min()} to {rows.max()} and must name different patches from 0 to "
            f"{patches - 1}."
        )
    return [rows[0]] * pictures if len(rows) == 1 else list(rows)


def random_mask(grid: Grid, ratio: float, generator: torch.Generator, batch: int = 1) -> Tensor:
    """Keep patches drawn uniformly, another draw for each picture (the paper's random masking, section 3).

    Example:
        >>> random_mask((4, 4), ratio=0.75, generator=torch.Generator().manual_seed(0), batch=2).shape
        torch.Size([2, 4])

    Returns:
        (batch, K) with K = max(1, round(rows * columns * (1 - ratio))).
    """
    return keep_lowest(torch.rand(batch, _patches(grid), generator=generator), ratio)


def keep_lowest(scores: Tensor, ratio: float) -> Tensor:
    """Keep the patches of lowest score: (batch, N) numbers -> (batch, K), K as for :func:`random_mask`."""
    kept = scores.argsort(dim=1)[:, : kept_count(scores.shape[1], ratio)]
    return kept.sort(dim=1).values


def focal_mask(grid: Grid, ratio: float, generator: torch.Generator, batch: int = 1) -> Tensor:
    """Keep one random rectangle and drop all around it (the paper's focal masking, seen on the grid).

    The rectangle is the one whose area comes closest to that of a random mask of the same ratio, with the grid's own
    aspect; its place is drawn for each picture.

    Returns:
        (batch, height * width of the rectangle).
    """
    rows, columns = grid
    height, width = _rectangle(grid, kept_count(_patches(grid), ratio))
    top = torch.randint(0, rows - height + 1, (batch, 1, 1), generator=generator)
    left = torch.randint(0, columns - width + 1, (batch, 1, 1), generator=generator)
    row = top + torch.arange(height).view(1, height, 1)
    column = left + torch.arange(width).view(1, 1, width)
    return (row * columns + column).flatten(1)  # (batch, height, width) -> (batch, K)


def block_mask(grid: Grid, ratio: float, generator: torch.Generator, batch: int = 1) -> Tensor:
    """Drop random rectangles until exactly ``ratio`` of the patches is hidden; the last one is cut short.

    Returns:
        (batch, K), K as for :func:`random_mask`.
    """
    patches = _patches(grid)
    to_hide = patches - kept_count(patches, ratio)
    kept = [_without_blocks(grid, to_hide, generator) for _ in range(batch)]
    return torch.stack(kept)


MASKS: dict[str, Callable[..., Tensor]] = {"random": random_mask, "focal": focal_mask, "block": block_mask}


def draw_mask(kind: str, grid: Grid, ratio: float, seed: int, batch: int = 1) -> Tensor:
    """A mask of a kind of :data:`MASKS`: same seed, same mask.

    Returns:
        (batch, K).

    Raises:
        InputError: no such kind, or a ratio outside [0, 1).
    """
    if kind not in MASKS:
        raise InputError(f"There is no kind of mask {str(kind)[:32]!r}; choose one of {', '.join(MASKS)}.")
    return MASKS[kind](grid, ratio, torch.Generator().manual_seed(seed), batch)


def painted_mask(hidden: np.ndarray | Tensor) -> Tensor:
    """Keep the patches that were not painted over.

    Args:
        hidden: (rows, columns) bool, True where a patch was painted out.

    Returns:
        (1, K).

    Raises:
        InputError: everything is painted out, or the array is no grid.
    """
    painted = torch.as_tensor(hidden, dtype=torch.bool)
    if painted.ndim != 2:
        raise InputError(f"The painted mask has {painted.ndim} axes; (rows, columns) is needed.")
    kept = (~painted).flatten().nonzero().T
    if not kept.numel():
        raise InputError("Every patch is painted out; leave at least one for the model to see.")
    return kept


def read_painted(text: str, grid: Grid) -> np.ndarray:
    """Hidden patches in words, "2.3, 4.1-5.8" -> (rows, columns) bool, True where one is hidden.

    Row and column count from 1: "2.3" is row 2, column 3, and "4.1-5.8" the rectangle with these corners.

    Raises:
        InputError: a piece that names no patch of the grid.
    """
    hidden = np.zeros(grid, dtype=bool)
    if len(text) > limits.MAX_PAINT_LENGTH:
        raise InputError(
            f"The list of hidden patches has {len(text)} characters; {limits.MAX_PAINT_LENGTH} are the most."
        )
    for piece in filter(None, re.split(r"[,;\s]+", re.sub(r"\s*[-–]\s*", "-", text.strip()))):
        match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})(?:-(\d{1,4})\.(\d{1,4}))?", piece)
        if match is None:
            raise InputError(
                f"{piece[:20]!r} names no patch; write row.column, like 2.3, or a rectangle, like 4.1-5.8."
            )
        rows = sorted((int(match[1]), int(match[3] or match[1])))
        columns = sorted((int(match[2]), int(match[4] or match[2])))
        if rows[0] < 1 or columns[0] < 1 or rows[1] > grid[0] or columns[1] > grid[1]:
            raise InputError(f"{piece} is outside the grid of {grid[0]} rows and {grid[1]} columns.")
        hidden[rows[0] - 1 : rows[1], columns[0] - 1 : columns[1]] = True
    return hidden


def write_painted(hidden: np.ndarray) -> str:
    """(rows, columns) bool -> the words of :func:`read_painted`, in few rectangles."""
    runs: dict[tuple[int, int], list[int]] = {}  # open rectangles: columns -> [first row, last row]
    done: list[tuple[int, int, int, int]] = []
    for row in range(hidden.shape[0] + 1):
        line = hidden[row] if row < hidden.shape[0] else np.zeros(hidden.shape[1], dtype=bool)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], line, [False])).astype(int)))
        now = {(int(left), int(right) - 1) for left, right in edges.reshape(-1, 2)}
        for columns in [key for key in runs if key not in now]:
            first, last = runs.pop(columns)
            done.append((first, columns[0], last, columns[1]))
        for columns in now:
            runs.setdefault(columns, [row, row])[1] = row
    words = []
    for top, left, bottom, right in sorted(done):
        start, end = f"{top + 1}.{left + 1}", f"{bottom + 1}.{right + 1}"
        words.append(start if start == end else f"{start}-{end}")
    return ", ".join(words)


def to_grid(keep_indices: Tensor, grid: Grid) -> Tensor:
    """(batch, K) -> (batch, rows, columns) bool, True where a patch stays."""
    kept = torch.zeros(len(keep_indices), _patches(grid), dtype=torch.bool)
    return kept.scatter(1, keep_indices.cpu(), True).view(-1, *grid)


def _patches(grid: Grid) -> int:
    rows, columns = grid
    if rows < 1 or columns < 1:
        raise InputError(f"The grid is {rows} x {columns}; it needs at least one row and one column.")
    return rows * columns


def _rectangle(grid: Grid, area: int) -> tuple[int, int]:
    """Height and width of the rectangle in the grid nearest to ``area``, and then to the grid's aspect."""
    rows, columns = grid
    shapes = [(height, width) for height in range(1, rows + 1) for width in range(1, columns + 1)]

    def distance(shape: tuple[int, int]) -> tuple[int, float]:
        height, width = shape
        return abs(height * width - area), abs(math.log(height * columns / (width * rows)))

    # MSN takes no crops beyond 2:1, so aspect comes before area there
    near = [shape for shape in shapes if distance(shape)[1] <= math.log(2)] or shapes
    return min(near, key=distance)


def _without_blocks(grid: Grid, to_hide: int, generator: torch.Generator) -> Tensor:
    rows, columns = grid
    hidden = torch.zeros(rows, columns, dtype=torch.bool)
    while (missing := to_hide - int(hidden.sum())) > 0:
        height = int(torch.randint(1, max(1, rows // 2) + 1, (1,), generator=generator))
        width = int(torch.randint(1, max(1, columns // 2) + 1, (1,), generator=generator))
        top = int(torch.randint(0, rows - height + 1, (1,), generator=generator))
        left = int(torch.randint(0, columns - width + 1, (1,), generator=generator))
        block = torch.zeros_like(hidden)
        block[top : top + height, left : left + width] = True
        new = (block & ~hidden).flatten().nonzero().flatten()[:missing]
        hidden.view(-1)[new] = True
    return (~hidden).flatten().nonzero().flatten()
