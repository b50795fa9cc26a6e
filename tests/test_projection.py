"""Maps: PCA against scikit-learn, UMAP by the groups it keeps, and both with invalid input."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_random_state

from tests.support.app import PATIENCE
from vitmsn import projection
from vitmsn.errors import InputError
from vitmsn.projection import fitting_neighbors, pca, umap, warm_up


def groups(n: int = 90, dim: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(3, dim))[y] * 2 + rng.normal(size=(n, dim)) + 5).astype(np.float32), y


# --- PCA -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(90, 32), (20, 300), (5, 2), (300, 1)])
def test_pca_equals_scikit_learns_up_to_sign(shape: tuple[int, int]) -> None:
    X = np.random.default_rng(0).normal(size=shape) + 100
    points = pca(X)
    assert points.shape == (shape[0], 2) and points.dtype == np.float32
    expected = PCA(min(2, shape[1]), svd_solver="full").fit_transform(X)
    found = points[:, : expected.shape[1]]
    np.testing.assert_allclose(found * np.sign((found * expected).sum(axis=0)), expected, atol=1e-3)
    assert (points[:, expected.shape[1] :] == 0).all()


def test_the_sign_of_pca_does_not_depend_on_the_order_of_the_rows() -> None:
    X, _ = groups()
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_allclose(pca(X[order]), pca(X)[order], atol=1e-4)
    assert np.array_equal(pca(X, seed=1), pca(X, seed=2))


def test_pca_of_points_on_a_line_or_on_one_spot() -> None:
    line = np.outer(np.arange(5.0), [3, 4])
    points = pca(line)
    np.testing.assert_allclose(np.abs(points[:, 0]), [10, 5, 0, 5, 10], atol=1e-5)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-5)
    assert (pca(np.ones((3, 8))) == 0).all() and pca(np.eye(2)).shape == (2, 2)


# --- UMAP ----------------------------------------------------------------------------------------------------------


def test_umap_keeps_groups_together_and_the_same_seed_gives_the_same_map() -> None:
    X, y = groups()
    points = umap(X, seed=3)
    assert points.shape == (90, 2) and points.dtype == np.float32 and np.isfinite(points).all()
    assert KNeighborsClassifier(5).fit(points, y).score(points, y) > 0.98
    assert np.array_equal(points, umap(X, seed=3)) and not np.allclose(points, umap(X, seed=4))


def test_umap_ignores_the_length_of_centered_embeddings() -> None:
    X, _ = groups()
    Z = X - X.mean(axis=0)
    indices, distances = projection._neighbors(X, 5)
    assert (indices[:, 0] == np.arange(90)).all() and (np.diff(distances, axis=1) >= 0).all()
    cosine = (Z @ Z.T) / np.linalg.norm(Z, axis=1) / np.linalg.norm(Z, axis=1)[:, None]
    np.testing.assert_allclose(distances, np.take_along_axis(1 - cosine, indices, axis=1), atol=1e-5)
    assert (np.argsort(-cosine, axis=1)[:, :6] == indices).all()


def test_neighbors_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = groups()
    expected = projection._neighbors(X, 7)
    monkeypatch.setattr(projection, "BLOCK", 200)
    for found, wanted in zip(projection._neighbors(X, 7), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("n", [4, 5, 16, 17])
def test_few_points_use_all_others_as_neighbors(n: int) -> None:
    X, _ = groups(n)
    assert fitting_neighbors(n) == min(15, n - 1)
    assert np.isfinite(umap(X)).all()


def test_duplicates_and_equal_points_are_laid_out() -> None:
    for X in (np.ones((12, 4)), np.repeat(np.eye(4), 5, axis=0), np.outer(np.arange(9.0), [1, 1])):
        points = umap(X)
        assert np.isfinite(points).all() and len(np.unique(points, axis=0)) == len(X)


def test_a_large_map_reports_progress_and_can_be_stopped() -> None:
    X, y = groups(1200)
    steps: list[tuple[int, int]] = []
    points = umap(X, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 500) for done in range(5, 501, 5)]
    assert KNeighborsClassifier(5).fit(points[::2], y[::2]).score(points[1::2], y[1::2]) > 0.98

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        umap(X, progress=stop)
    later: list[np.ndarray] = []
    other = threading.Thread(target=lambda: later.append(umap(X[:10])))  # no lock is left held
    other.start()
    other.join(timeout=PATIENCE)
    assert later[0].shape == (10, 2)


def test_concurrent_maps_are_computed_one_at_a_time() -> None:
    X, _ = groups(60)
    expected, found = umap(X), []
    threads = [threading.Thread(target=lambda: found.append(umap(X))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(points, expected) for points in found)


def test_nothing_is_printed_and_no_warning_raised_in_a_fresh_process(root: Path) -> None:
    code = (
        "import sys, numpy as np; from vitmsn import projection; assert 'umap' not in sys.modules; "
        "projection.warm_up(); projection.umap(np.eye(9), progress=lambda done, total: None)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_global_random_state_is_unchanged() -> None:
    state = check_random_state(None).get_state()[1].copy()
    warm_up()
    assert np.array_equal(state, check_random_state(None).get_state()[1])


def test_the_thread_settings_are_unchanged() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            warm_up()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


# --- both ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 8)), "0 pictures came: .* needs at least"),
        (np.zeros((1, 8)), "1 pictures came: .* needs at least"),
        (np.zeros(8), r"shape \(8,\)"),
        (np.zeros((8, 0)), "one row of numbers for each picture"),
        (np.full((8, 8), np.nan), "not finite"),
    ],
)
def test_invalid_embeddings_are_refused(X: np.ndarray, message: str) -> None:
    for method in (pca, umap):
        with pytest.raises(InputError, match=message):
            method(X)


def test_umap_needs_four_points_and_valid_settings() -> None:
    with pytest.raises(InputError, match="3 pictures came: UMAP needs at least 4, add some"):
        umap(np.eye(3))
    for settings in ({"n_neighbors": 1}, {"min_dist": -0.1}, {"min_dist": 2}):
        with pytest.raises(InputError, match="n_neighbors must be at least 2 and min_dist in"):
            umap(np.eye(8), **settings)
