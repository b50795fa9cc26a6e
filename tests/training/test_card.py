"""A card's kinds are of its classes, and its data has a name, not a path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitmsn.errors import DataError
from vitmsn.training import card


def test_kinds_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "kinds.json"
    file.write_text('{"pet": ["cat", "dog"]}')
    kinds = card.read_kinds(file)
    assert kinds == {"pet": ["cat", "dog"]}
    card.check_kinds(kinds, ["cat", "dog", "fish"])
    with pytest.raises(DataError, match="none of the 1 classes: dog"):
        card.check_kinds(kinds, ["cat"])


@pytest.mark.parametrize("text", ["{", '["cat"]', '{"pet": "cat"}', '{"pet": [1]}'])
def test_an_invalid_kinds_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "kinds.json").write_text(text)
    with pytest.raises(DataError, match=r"kinds\.json"):
        card.read_kinds(tmp_path / "kinds.json")


def test_every_class_needs_a_picture() -> None:
    card.check_every_class_has_pictures(["cat", "dog"], np.array([0, 1, 1]))
    with pytest.raises(DataError, match=r"1 of 2 classes have no picture to learn from \(dog\)"):
        card.check_every_class_has_pictures(["cat", "dog"], np.array([0, 0, -1]))
