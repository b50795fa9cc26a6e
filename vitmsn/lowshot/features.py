"""A data set -> features and labels, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vitmsn.data import DataSet, Record
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, InputError
from vitmsn.image import Picture, batches
from vitmsn.lowshot.rows import Array, Progress

FEATURES = ("post-layernorm", "pre-layernorm", "raw-pixels")
RAW_SIDE = 16  # side of the raw pixels; finer ones are no better and cost the square


class Extracted(NamedTuple):
    """Features of a data set: ``X`` (N, D) float32, ``y`` (N,) labels, and the pictures left out, with reasons."""

    X: Array
    y: Array
    skipped: list[str]


def extract(
    encoder: Encoder, dataset: DataSet, features: str = "post-layernorm", progress: Progress | None = None
) -> Extracted:
    """Encode a data set once, a batch at a time. Pictures without a label or that cannot be decoded are left out.

    Args:
        features: CLS after ("post-layernorm") or before ("pre-layernorm") the final LayerNorm, or the normalized pixels
            of the model's view of the picture, at 16 x 16 ("raw-pixels").

    Raises:
        DataError: nothing is labelled, or nothing can be decoded.
    """
    if features not in FEATURES:
        raise InputError(f"There are no features {features!r}; choose one of {', '.join(FEATURES)}.")

    def encode(pictures: list[Picture]) -> Array:
        if features != "raw-pixels":
            return encoder.embed(pictures, layernorm=features == "post-layernorm")
        pixels: Array = encoder.processor(pictures, size=RAW_SIDE, return_tensors="np")["pixel_values"]
        return pixels.reshape(len(pictures), -1)

    found: list[Array] = []
    labels: list[int] = []
    skipped: list[str] = []
    read = 0

    def labeled() -> Iterator[tuple[Record, bytes]]:
        nonlocal read
        for record in dataset:
            read += 1
            if record.label is None:
                skipped.append(f"{record.id}: no label")
            else:
                yield record, record.data

    for batch in batches(labeled(), lambda record, error: skipped.append(f"{record.id}: {error}")):
        if batch.pictures:
            found.append(encode(batch.pictures))
            labels.extend(record.label for record in batch.keys if record.label is not None)
        if progress is not None:
            progress(f"{dataset.name}, {features}", read, len(dataset))
    if not found:
        reason = f" ({skipped[0]})" if skipped else ""
        raise DataError(f"{dataset.name} has no labelled picture that can be decoded{reason}.")
    return Extracted(np.concatenate(found), np.array(labels), skipped)
