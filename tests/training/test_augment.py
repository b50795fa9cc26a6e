"""Views: what is drawn depends on the picture alone, the chances are those asked for, colors stay colors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitmsn.training import augment
from vitmsn.training.augment import ViewRecipe, draw_view, keyed_uniform, resize

PLAIN = ViewRecipe(size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0), blur=0.0, flip=0.0, jitter=0.0, gray=0.0)


def pictures(count: int, side: int = 16, seed: int = 0) -> torch.Tensor:
    """Smooth colored pictures, so that resampling changes little."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8)


def colors(view: torch.Tensor) -> torch.Tensor:
    """Undo the normalization."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (augment.IMAGENET_MEAN, augment.IMAGENET_STD))
    return view * std + mean


def test_keyed_numbers_are_uniform_and_independent() -> None:
    u = keyed_uniform(0, 3, torch.arange(20_000), 4)
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.allclose(u.mean(0), torch.full((4,), 0.5), atol=0.01)
    assert torch.allclose(u.var(0), torch.full((4,), 1 / 12), atol=0.003)
    correlation = torch.corrcoef(torch.cat([u, keyed_uniform(0, 4, torch.arange(20_000), 4), u.roll(1, 0)], 1).T)
    assert (correlation - torch.eye(12)).abs().max() < 0.03


def test_keyed_numbers_depend_on_seed_draw_and_index_only() -> None:
    indices = torch.tensor([7, 100_000, 3])
    together = keyed_uniform(1, 2, indices, 5)
    assert torch.equal(keyed_uniform(1, 2, indices[1:2], 5), together[1:2])
    assert torch.equal(keyed_uniform(1, 2, indices.flip(0), 5), together.flip(0))
    assert not torch.equal(keyed_uniform(2, 2, indices, 5), together)
    assert not torch.equal(keyed_uniform(1, 3, indices, 5), together)


def test_a_view_does_not_depend_on_the_batch_around_it() -> None:
    recipe = ViewRecipe(size=8, scale=(0.2, 0.9), blur=0.5)
    data, indices = pictures(12), torch.arange(40, 52)
    together = draw_view(data, indices, recipe, seed=5, draw=9)
    alone = torch.cat([draw_view(data[i : i + 1], indices[i : i + 1], recipe, 5, 9) for i in range(12)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_whole_picture_comes_through_unchanged() -> None:
    data = pictures(3)
    view = draw_view(data, torch.arange(3), PLAIN, 0, 0)
    assert torch.allclose(view, resize(data, 16), atol=1e-5)


def test_a_smaller_view_is_averaged_not_skipped() -> None:
    checks = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    checks[..., ::2] = 255  # the finest stripes there are
    view = colors(draw_view(checks, torch.arange(1), replace(PLAIN, size=8), 0, 0))
    assert torch.allclose(view, torch.full_like(view, 0.5), atol=0.01)


def test_flips_and_grays_have_the_set_probability() -> None:
    count = 3000
    slope = torch.linspace(0, 255, 16).to(torch.uint8).expand(count, 3, 16, 16).clone()
    slope[:, 1:] //= 2  # colored, darker to the left
    recipe = replace(PLAIN, flip=0.5, gray=0.2)
    view = colors(draw_view(slope, torch.arange(count), recipe, 0, 0))
    flipped = view[:, 0, 0, 0] > view[:, 0, 0, -1]
    gray = (view[:, 0] - view[:, 1]).abs().amax((1, 2)) < 1e-4
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert gray.float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_jitter_has_the_set_probability() -> None:
    data = pictures(1).expand(2000, 3, 16, 16)
    still = draw_view(data[:1], torch.arange(1), PLAIN, 0, 0)
    view = draw_view(data, torch.arange(2000), replace(PLAIN, jitter=0.8), 0, 0)
    changed = (view - still).abs().amax((1, 2, 3)) > 1e-6
    assert changed.float().mean().item() == pytest.approx(0.8, abs=0.03)


def test_blur_has_the_set_probability_and_smooths(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.Tensor] = []
    blur = augment._blur

    def spy(view: torch.Tensor, sigma: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        chosen.append(rows)
        return blur(view, sigma, rows)

    monkeypatch.setattr(augment, "_blur", spy)
    noise = torch.randint(0, 256, (2000, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    sharp = draw_view(noise, torch.arange(2000), PLAIN, 0, 0)
    view = draw_view(noise, torch.arange(2000), replace(PLAIN, blur=0.3), 0, 0)
    (rows,) = chosen
    assert rows.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(view[~rows], sharp[~rows])
    assert view[rows].var() < 0.9 * sharp[rows].var()


def test_crops_cover_the_share_asked_for() -> None:
    # a picture whose red counts columns and whose green counts rows tells where a crop lay
    side, count = 64, 2000
    ramp = torch.arange(side, dtype=torch.float32) * 4
    data = torch.stack([ramp.expand(side, side), ramp.unsqueeze(1).expand(side, side), torch.zeros(side, side)])
    data = data.to(torch.uint8).expand(count, 3, side, side)
    recipe = replace(PLAIN, size=16, scale=(0.05, 0.3), ratio=(3 / 4, 4 / 3))
    view = colors(draw_view(data, torch.arange(count), recipe, 0, 0)) * 255 / 4
    width = (view[:, 0, 0, -1] - view[:, 0, 0, 0]) * 16 / 15
    height = (view[:, 1, -1, 0] - view[:, 1, 0, 0]) * 16 / 15
    area = width * height / side**2
    assert area.min().item() == pytest.approx(0.05, abs=0.01)
    assert area.max().item() == pytest.approx(0.3, abs=0.02)
    assert area.mean().item() == pytest.approx(0.175, abs=0.01)
    assert (width / height).min().item() == pytest.approx(3 / 4, abs=0.06)
    assert (width / height).max().item() == pytest.approx(4 / 3, abs=0.1)


def test_views_are_colors_and_finite() -> None:
    recipe = ViewRecipe(size=8, scale=(0.05, 1.0), blur=0.5)
    view = colors(draw_view(pictures(200), torch.arange(200), recipe, 0, 0))
    assert torch.isfinite(view).all()
    assert view.min() >= -1e-4
    assert view.max() <= 1 + 1e-4


def test_turning_the_hue_by_a_whole_circle_changes_nothing_and_keeps_brightness() -> None:
    data = pictures(4).float() / 255
    assert torch.allclose(augment._turn_hue(data, torch.ones(4)), data, atol=1e-5)
    third = augment._turn_hue(data, torch.full((4,), 1 / 3))
    assert torch.allclose(augment._luma(third), augment._luma(data), atol=1e-4)
    assert (third - data).abs().max() > 0.05


def test_cutmix_takes_whole_patches_from_the_other_end_of_the_batch() -> None:
    views = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 32, 48)
    shares = []
    for seed in range(200):
        mixed, share = augment.cutmix(views, (8, 16), np.random.default_rng(seed))
        own = mixed == views
        assert ((mixed == views) | (mixed == views.flip(0))).all()
        blocks = own.float().unflatten(3, (3, 16)).unflatten(2, (4, 8))
        assert (blocks.amax((3, 5)) == blocks.amin((3, 5))).all()  # a patch is of one picture
        assert own.float().mean().item() == pytest.approx(share)
        shares.append(share)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08) and min(shares) < 0.1 and max(shares) > 0.9
