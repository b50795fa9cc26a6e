"""Maps: embeddings (N, D) to points (N, 2), by PCA or by UMAP.

PCA is exact and immediate. UMAP (McInnes et al., arXiv 1802.03426) keeps neighbors together; importing it takes
seconds and compiling it some ten more, the latter once per machine where the result can be kept on disk. ``warm_up``
does both ahead of time.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vitmsn import extras
from vitmsn.errors import InputError

__all__ = ["fitting_neighbors", "pca", "umap", "warm_up"]

Progress = Callable[[int, int], object]  # (epochs done, epochs in all)

FEWEST = 4  # points that UMAP can lay out
BLOCK = 2**22  # numbers in one (rows, N) block of similarities

_one_at_a_time = threading.Lock()  # numba's workqueue layer aborts the process on concurrent use


def pca(X: ArrayLike, seed: int = 0) -> NDArray[np.float32]:
    """The two directions of largest variance: points (N, 2) around the origin, the first column the wider one.

    X: (N, D), at least two rows. The sign is fixed by making each direction's largest entry positive, so that the same
    embeddings always give the same map. ``seed`` is there so that both maps are called alike; PCA has no randomness.
    Raises InputError for anything else than finite rows.

    Example:
        >>> pca([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [4.0, 0.0, 1.0]]).tolist()
        [[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    """
    Z = _rows(X, fewest=2, method="PCA").astype(np.float64)
    Z -= Z.mean(axis=0)
    n, dim = Z.shape
    # The smaller of the two Gram matrices has all there is to know.
    _, vectors = np.linalg.eigh(Z.T @ Z if dim <= n else Z @ Z.T)
    directions = vectors[:, ::-1][:, :2] if dim <= n else Z.T @ vectors[:, ::-1][:, :2]  # (D, <= 2)
    length = np.linalg.norm(directions, axis=0)
    directions = np.divide(
        directions, length, out=np.zeros_like(directions), where=length > 1e-12 * length.max(initial=0)
    )
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.where(np.take_along_axis(directions, largest[None], axis=0) < 0, -1, 1)
    points = np.zeros((n, 2), np.float32)
    points[:, : directions.shape[1]] = Z @ directions
    return points


def fitting_neighbors(n_points: int, n_neighbors: int = 15) -> int:
    """The neighbors that ``umap`` really uses for so many points: all others, when there are fewer than asked for."""
    return min(n_neighbors, n_points - 1)


def umap(
    X: ArrayLike,
    seed: int = 0,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """A map (N, 2) that keeps near embeddings near; distances between far groups mean little.

    X: (N, D), at least four rows; their cosine distance around the mean counts, as in few-shot. n_neighbors: how many
    others each point is tied to, at least 2; fewer when there are not so many (``fitting_neighbors`` says how many).
    min_dist: 0..1, how closely points may lie. The same seed gives the same map. ``progress`` is called now and then;
    what it raises stops the work. One map is made at a time, for all callers. Raises InputError.
    """
    rows = _rows(X, fewest=FEWEST, method="UMAP")
    if n_neighbors < 2 or not 0 <= min_dist <= 1:
        raise InputError(
            f"n_neighbors={n_neighbors} and min_dist={min_dist} came: "
            "n_neighbors must be at least 2 and min_dist in 0..1."
        )
    start = pca(rows)
    start *= 10 / max(float(np.abs(start).max()), 1e-6)
    start += np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)  # so that duplicates can separate
    indices, distances = _neighbors(rows, fitting_neighbors(len(rows), n_neighbors))
    from sklearn.utils import check_random_state  # takes a second to import

    random = check_random_state(seed)
    with _one_at_a_time, _threads_kept():
        library = _library()
        # The two steps of umap.UMAP, called by themselves: our neighbors are exact, and starting from PCA keeps the
        # large picture stable (Kobak & Linderman, 2021) where a spectral start warns about every separate group.
        graph, _, _ = library.fuzzy_simplicial_set(
            rows, indices.shape[1], random, "cosine", knn_indices=indices, knn_dists=distances
        )
        a, b = library.find_ab_params(1.0, min_dist)
        epochs = 500 if len(rows) <= 10_000 else 200
        points, _ = library.simplicial_set_embedding(
            rows,
            graph,
            n_components=2,
            initial_alpha=1.0,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=5,
            n_epochs=epochs,
            init=start,
            random_state=random,
            metric="cosine",
            metric_kwds={},
            densmap=False,
            densmap_kwds={},
            output_dens=False,
            parallel=False,
            tqdm_kwds={"disable": True} if progress is None else {"call": progress},
        )
    return np.asarray(points, np.float32)


def warm_up() -> None:
    """Import and compile what ``umap`` needs, so that the first map does not wait for it; for a thread at start."""
    umap(np.random.default_rng(0).normal(size=(2 * FEWEST, 2)))


def _rows(X: ArrayLike, fewest: int, method: str) -> NDArray[np.float32]:
    rows = np.asarray(X, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise InputError(f"embeddings of shape {rows.shape} came: {method} needs one row of numbers for each picture.")
    if len(rows) < fewest:
        raise InputError(f"{len(rows)} pictures came: {method} needs at least {fewest}, add some.")
    if not np.isfinite(rows).all():
        raise InputError(
            f"embeddings that are not finite came: {method} needs numbers, check the model that made them."
        )
    return rows


def _neighbors(rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """(indices, cosine distances around the mean), both (N, k + 1), nearest first, each row its own first neighbor."""
    from sklearn.preprocessing import normalize

    Z = normalize(rows - rows.mean(axis=0))
    indices = np.empty((len(Z), k + 1), np.intp)
    distances = np.empty((len(Z), k + 1), np.float32)
    step = max(1, BLOCK // len(Z))
    for first in range(0, len(Z), step):
        own = np.arange(first, min(first + step, len(Z)))
        distance = np.clip(1 - Z[own] @ Z.T, 0, 2)
        distance[np.arange(len(own)), own] = -1  # a row comes first, also among duplicates
        nearest = np.argpartition(distance, k, axis=1)[:, : k + 1]
        order = np.argsort(np.take_along_axis(distance, nearest, axis=1), axis=1, kind="stable")
        indices[own] = np.take_along_axis(nearest, order, axis=1)
        distances[own] = np.take_along_axis(distance, indices[own], axis=1)
    distances[:, 0] = 0
    return indices, distances


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Numba changes OpenMP's number of threads, torch's included; restore it afterwards."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def _library() -> ModuleType:
    """umap-learn, imported when used and told to keep on disk what numba compiles."""
    warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)  # of a variant not used here
    with extras.named():
        import umap.layouts
        import umap.umap_

    bar = umap.layouts.tqdm

    def epochs(all_epochs: range, call: Progress | None = None, **settings: Any) -> Iterable[int]:
        """Epochs one by one, reported to ``call``; without one, as umap does it."""
        return bar(all_epochs, **settings) if call is None else _reported(all_epochs, call)

    # umap reports through tqdm alone, and a tqdm stopped by an exception keeps its lock for good.
    umap.layouts.tqdm = epochs
    for module in (umap.umap_, umap.layouts):
        for thing in vars(module).values():
            if hasattr(thing, "enable_caching"):
                with suppress(RuntimeError):  # no writable cache: the next process compiles again
                    thing.enable_caching()
    return umap.umap_


def _reported(epochs: range, call: Progress) -> Iterator[int]:
    for epoch in epochs:
        yield epoch
        if (epoch + 1) % max(1, len(epochs) // 100) == 0:
            call(epoch + 1, len(epochs))
