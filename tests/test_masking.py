"""Masks: how many patches stay, which, and that the same seed gives the same mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vitmsn import masking
from vitmsn.errors import InputError

GRIDS = [(1, 1), (3, 5), (8, 8), (14, 14)]
RATIOS = [0.0, 0.15, 0.5, 0.7, 0.99]
Draw = Callable[..., Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("draw", masking.MASKS.values(), ids=masking.MASKS)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("grid", GRIDS)
def test_indices_are_sorted_unique_and_on_the_grid(draw: Draw, grid: tuple[int, int], ratio: float) -> None:
    kept = draw(grid, ratio, seeded(), batch=6)
    assert kept.dtype == torch.int64 and kept.ndim == 2 and len(kept) == 6 and kept.shape[1] >= 1
    assert (kept.diff(dim=1) > 0).all()
    assert kept.min() >= 0 and kept.max() < grid[0] * grid[1]


@pytest.mark.parametrize("kind", ["random", "block"])
@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 64), (0.5, 32), (0.7, 19), (0.75, 16), (0.999, 1)])
def test_the_mask_ratio_decides_how_many_patches_stay(kind: str, ratio: float, kept: int) -> None:
    assert masking.MASKS[kind]((8, 8), ratio, seeded(), batch=3).shape == (3, kept)
    assert masking.kept_count(64, ratio) == kept


@pytest.mark.parametrize("draw", masking.MASKS.values(), ids=masking.MASKS)
def test_same_seed_same_mask(draw: Draw) -> None:
    assert torch.equal(draw((8, 8), 0.6, seeded(3), batch=2), draw((8, 8), 0.6, seeded(3), batch=2))
    several = {tuple(draw((8, 8), 0.6, seeded(seed))[0].tolist()) for seed in range(12)}
    assert len(several) > 4


@pytest.mark.parametrize("kind", ["random", "block"])
def test_the_pictures_of_a_batch_differ(kind: str) -> None:
    assert len(masking.MASKS[kind]((8, 8), 0.6, seeded(), batch=8).unique(dim=0)) > 1


@pytest.mark.parametrize("draw", masking.MASKS.values(), ids=masking.MASKS)
@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_a_ratio_outside_its_range_is_refused(draw: Draw, ratio: float) -> None:
    with pytest.raises(InputError, match=r"at least 0 \(hide nothing\) and below 1"):
        draw((4, 4), ratio, seeded())


@pytest.mark.parametrize("draw", masking.MASKS.values(), ids=masking.MASKS)
def test_a_grid_without_patches_is_refused(draw: Draw) -> None:
    with pytest.raises(InputError, match="0 x 4"):
        draw((0, 4), 0.5, seeded())


def test_random_masks_keep_every_patch_equally_often() -> None:
    kept = masking.random_mask((4, 4), 0.75, seeded(), batch=4000)
    often = torch.bincount(kept.flatten(), minlength=16) / 4000
    assert (often - 0.25).abs().max() < 0.03


@pytest.mark.parametrize("grid", [(8, 8), (14, 14), (6, 9)])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.9])
def test_focal_masks_keep_one_rectangle_of_about_that_area(grid: tuple[int, int], ratio: float) -> None:
    wanted = masking.kept_count(grid[0] * grid[1], ratio)
    for kept in masking.to_grid(masking.focal_mask(grid, ratio, seeded(), batch=20), grid):
        rows, columns = kept.any(1).nonzero().flatten(), kept.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert height * width == kept.sum(), "all patches between its corners"
        assert abs(height * width - wanted) <= max(2, 0.1 * wanted)


def test_focal_masks_reach_every_corner() -> None:
    kept = masking.to_grid(masking.focal_mask((8, 8), 0.8, seeded(), batch=400), (8, 8))
    assert kept[:, [0, 0, -1, -1], [0, -1, 0, -1]].any(0).all()


def test_block_masks_hide_neighbors() -> None:
    def joined(kept: Tensor) -> float:
        hidden = ~masking.to_grid(kept, (14, 14))
        return float((hidden[:, 1:] & hidden[:, :-1]).sum() + (hidden[..., 1:] & hidden[..., :-1]).sum())

    block = joined(masking.block_mask((14, 14), 0.4, seeded(), batch=20))
    assert block > 1.4 * joined(masking.random_mask((14, 14), 0.4, seeded(), batch=20))


# Painted


def test_painted_masks_keep_what_was_not_painted() -> None:
    hidden = np.zeros((2, 3), dtype=bool)
    hidden[0, 1] = hidden[1, 2] = True
    assert masking.painted_mask(hidden).tolist() == [[0, 2, 3, 4]]
    assert masking.painted_mask(torch.from_numpy(hidden)).dtype == torch.int64


def test_a_mask_that_hides_everything_is_refused() -> None:
    with pytest.raises(InputError, match="leave at least one"):
        masking.painted_mask(np.ones((2, 2), dtype=bool))
    with pytest.raises(InputError, match="3 axes"):
        masking.painted_mask(np.zeros((1, 2, 2), dtype=bool))


def test_to_grid_and_back() -> None:
    kept = masking.random_mask((3, 5), 0.6, seeded(), batch=4)
    grid = masking.to_grid(kept, (3, 5))
    assert grid.dtype == torch.bool and grid.shape == (4, 3, 5)
    for row, places in zip(grid, kept, strict=True):
        assert masking.painted_mask(~row)[0].tolist() == places.tolist()


# Painted, in words


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        ("", []),
        ("2.3", [(1, 2)]),
        (" 1.1 , 1.2;3.4\n", [(0, 0), (0, 1), (2, 3)]),
        ("2.2-3.3", [(1, 1), (1, 2), (2, 1), (2, 2)]),
        ("3.3 – 2.2", [(1, 1), (1, 2), (2, 1), (2, 2)]),
    ],
)
def test_parse_patches_from_text(words: str, hidden: list[tuple[int, int]]) -> None:
    found = masking.read_painted(words, (3, 4))
    assert [(int(row), int(column)) for row, column in np.argwhere(found)] == hidden


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("2", "'2' names no patch"),
        ("a.b", "names no patch"),
        ("1.1-2", "names no patch"),
        ("-1.2", "names no patch"),
        ("0.1", "0.1 is outside the grid of 3 rows and 4 columns"),
        ("1.1-4.4", "outside the grid"),
        ("99999.1", "names no patch"),
        ("1.1," * 2000, "8000 characters"),
    ],
)
def test_text_that_names_no_patch_is_refused(words: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        masking.read_painted(words, (3, 4))


def test_patch_text_is_short_and_round_trips() -> None:
    hidden = np.zeros((4, 5), dtype=bool)
    hidden[1:3, 0:2] = hidden[3, 4] = True
    assert masking.write_painted(hidden) == "2.1-3.2, 4.5"
    assert masking.write_painted(np.ones((4, 5), dtype=bool)) == "1.1-4.5"
    for seed in range(30):
        drawn = np.random.default_rng(seed).random((6, 7)) < 0.5
        np.testing.assert_array_equal(masking.read_painted(masking.write_painted(drawn), (6, 7)), drawn)


@pytest.mark.parametrize("kind", masking.MASKS)
def test_a_mask_by_its_kind_and_seed(kind: str) -> None:
    drawn = masking.draw_mask(kind, (4, 6), 0.6, 5, batch=2)
    assert torch.equal(drawn, masking.MASKS[kind]((4, 6), 0.6, seeded(5), batch=2))
    assert torch.equal(drawn, masking.draw_mask(kind, (4, 6), 0.6, 5, batch=2))


def test_an_unknown_kind_of_mask_is_refused() -> None:
    with pytest.raises(InputError, match="'stripes'; choose one of random, focal, block"):
        masking.draw_mask("stripes", (4, 4), 0.5, 0)
