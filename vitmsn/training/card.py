"""What a model's card (``vitmsn.json``) says: kinds of classes, and the name of the data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vitmsn.data import DataSet
from vitmsn.errors import DataError

Kinds = dict[str, list[str]]
"""Wider names for classes: {"pet": ["cat", "dog"]}."""


def read_kinds(file: str | os.PathLike[str]) -> Kinds:
    """Kinds from a JSON file of one object.

    Raises:
        DataError: something else is in it.
    """
    try:
        kinds = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}); correct it.") from error
    lists = isinstance(kinds, dict) and all(isinstance(labels, list) for labels in kinds.values())
    if not lists or not all(isinstance(label, str) for labels in kinds.values() for label in labels):
        raise DataError(f"{file} must hold one JSON object of kinds, each with a list of labels.")
    return kinds


def check_kinds(kinds: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
    """Raise DataError where a kind names what is none of the classes."""
    unknown = sorted({label for labels in kinds.values() for label in labels} - set(classes))
    if unknown:
        raise DataError(
            f"The kinds name what is none of the {len(classes)} classes: {', '.join(unknown[:10])}; correct them."
        )


def check_classes(dataset: DataSet) -> None:
    """Raise DataError where there are not two classes to tell apart."""
    if len(dataset.classes) < 2:
        raise DataError(
            f"{dataset.name} has {len(dataset.classes)} classes; a classifier needs two or more, a folder for each."
        )


def check_every_class_has_pictures(classes: Sequence[str], labels: np.ndarray) -> None:
    """Raise DataError where a class has no picture among ``labels`` (N,)."""
    there = set(labels.tolist())
    missing = [name for label, name in enumerate(classes) if label not in there]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(classes)} classes have no picture to learn from ({', '.join(missing[:5])}); give "
            "each at least one."
        )


def data_name(dataset: DataSet) -> str:
    """What a card calls the data: the folder's name, which a page may show, not the path to it."""
    path = Path(dataset.name)
    return path.resolve().name if path.exists() else dataset.name
