"""Numbers of any type as values of 0 to 255: scaled, never clipped, with a note where the scale had to be guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Notes = tuple[str, ...]


def to_8bit(values: NDArray[Any]) -> tuple[NDArray[np.uint8], Notes]:
    """Pixel values of any shape -> uint8: by the range of their type, or else by what they are.

    Integers of 16 bits that use only 12, 10 or 8 are taken as such; signed ones, and floats beyond 1, are stretched
    from their lowest to their highest, all channels alike.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8), ()
    if values.dtype == np.int8:
        return (values.astype(np.int16) + 128).astype(np.uint8), ("values -128 to 127 shown as 0 to 255",)
    if values.dtype.kind == "f":
        return _floats(values)
    low, high = int(values.min()), int(values.max())
    if values.dtype.itemsize == 4 and low >= 0 and high <= 255:
        return values.astype(np.uint8), ()
    if low >= 0 and high < 2**16:
        bits = next(bits for bits in (8, 10, 12, 16) if high < 2**bits) if high else 16
        table = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
        return table[values.astype(np.uint16)], _said(0, 2**bits - 1) if bits < 16 else ()
    if values.dtype == np.uint32 and high >= 2**31:
        return (values >> np.uint32(24)).astype(np.uint8), ()
    stretched = (values.astype(np.float32) - np.float32(low)) * np.float32(255) / np.float32(max(high - low, 1))
    return _rounded(stretched), _said(low, high)


def _floats(values: NDArray[Any]) -> tuple[NDArray[np.uint8], Notes]:
    finite: NDArray[Any] = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32)
    finite[~np.isfinite(finite)] = 0
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 1:
        return _rounded(finite * 255), ()
    if low >= 0 and high <= 255 and (high > 127 or (finite == np.rint(finite)).all()):
        return _rounded(finite), ()
    scale = 255 / max(high - low, 1e-30)  # applied before the difference, which may be too large for the type
    return _rounded(finite * scale - low * scale), _said(low, high)


def _rounded(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _said(low: float, high: float) -> Notes:
    return (f"values {low:g} to {high:g} shown as 0 to 255",)
