"""Near-copies: which examples are frames of one burst, so that they can count as one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from vitmsn.fewshot.geometry import Array, centered, class_distances, unit

COPY = 0.02  # share of the distance between classes: nearer rows of a class are near-copies, where pixels are missing
COPY_PIXELS = 0.02  # share of two pictures' pixel variance in their difference: below it they are near-copies,
COPY_GUARD = 0.25  # unless their embeddings are this share of the distance between classes apart
FLAT = 4.0  # gray levels of 255: pictures that vary less are alike, whatever their noise
TOGETHER = 2000  # rows of a class compared with each other; more are split into pieces of this size


def near_copies(X: ArrayLike, y: ArrayLike, center: ArrayLike | None = None, pixels: ArrayLike | None = None) -> Array:
    """Find rows that are near-copies of one another, as frames of one burst are: a group number (N,) for each row.

    X: (N, D), y: (N,), center: as for the classifiers; pixels: raw pixels (N, P) of the same pictures, 0..255, colors
    together. Rows of one group are of one class. Groups are numbered from 0 in the order of their first row. With
    pixels, near-copies are pictures whose pixels hardly differ and whose embeddings are close; without, rows that are
    much closer together than the classes are.
    """
    rows, (_, codes) = np.asarray(X), np.unique(np.asarray(y), return_inverse=True)
    if len(rows) == 0:
        return np.zeros(0, np.intp)
    _, Z, _ = centered(rows, codes, center)
    U = unit(Z)
    apart = class_distances(U, codes)
    seen = None if pixels is None else _contrast(np.asarray(pixels, np.float32))
    groups = np.arange(len(rows))
    for code in range(codes.max() + 1):
        own = np.flatnonzero(codes == code)
        scale = max(float(np.median(apart[own])), np.finfo(np.float32).eps)
        for start in range(0, len(own), TOGETHER):
            some = own[start : start + TOGETHER]
            if len(some) > 1:
                distance = (1 - U[some] @ U[some].T) / scale
                if seen is None:
                    distance = distance / COPY
                else:
                    distance = np.maximum(distance / COPY_GUARD, _pixel_distance(seen[some]) / COPY_PIXELS)
                close = squareform(np.maximum(distance, 0), checks=False)
                # the mean distance within a group decides, so that a slow pan does not become one group
                found = fcluster(linkage(close, "average"), 1, "distance")
                groups[some] = len(rows) * (code + 1) + start + found
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _contrast(pixels: Array) -> Array:
    """Raw pixels (N, P) without each picture's mean color: brightness does not matter."""
    channels = pixels.reshape(len(pixels), -1, 3 if pixels.shape[1] % 3 == 0 else 1)
    return (channels - channels.mean(axis=1, keepdims=True)).reshape(pixels.shape)


def _pixel_distance(contrast: Array) -> Array:
    """(N, N): variance of the difference of two pictures as a share of theirs; one minus the correlation where both
    vary alike."""
    squared = np.einsum("np,np->n", contrast, contrast) + contrast.shape[1] * np.float32(FLAT) ** 2
    shared = contrast @ contrast.T + contrast.shape[1] * np.float32(FLAT) ** 2
    distance: Array = 1 - 2 * shared / (squared[:, None] + squared)
    return distance


def group_means(rows: Array, groups: Array) -> Array:
    """Mean row (G, D) of each group, in the dtype of ``rows``."""
    if groups.max(initial=-1) + 1 == len(rows):
        return rows
    total = np.zeros((groups.max() + 1, rows.shape[1]))
    np.add.at(total, groups, rows)
    return (total / np.bincount(groups)[:, None]).astype(rows.dtype)
