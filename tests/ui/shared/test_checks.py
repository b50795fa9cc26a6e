"""What comes from outside is checked by name."""

from __future__ import annotations

from typing import Any

import pytest

from vitmsn.errors import InputError
from vitmsn.ui.shared.checks import whole


@pytest.mark.parametrize(("value", "number"), [(1, 1), (9, 9), (3.0, 3)])
def test_whole_numbers_pass(value: float, number: int) -> None:
    assert whole(value, "layer", 1, 9) == number


@pytest.mark.parametrize("value", [0, 10, 2.5, None, "3", True, float("nan"), float("inf"), [1]])
def test_other_values_are_refused_by_name(value: Any) -> None:
    with pytest.raises(InputError, match=r"^layer is .*from 1 to 9"):
        whole(value, "layer", 1, 9)
