"""Values from outside are checked, and errors name them."""

from __future__ import annotations

from typing import Any

import pytest

from vitmsn.errors import InputError
from vitmsn.ui.shared.checks import choice, linked_choice, linked_list, linked_whole, real, whole


@pytest.mark.parametrize(("value", "number"), [(1, 1), (9, 9), (3.0, 3)])
def test_whole_numbers_pass(value: float, number: int) -> None:
    assert whole(value, "layer", 1, 9) == number


@pytest.mark.parametrize("value", [0, 10, 2.5, None, "3", True, float("nan"), float("inf"), [1]])
def test_other_values_are_refused_by_name(value: Any) -> None:
    with pytest.raises(InputError, match=r"^layer is .*from 1 to 9"):
        whole(value, "layer", 1, 9)


@pytest.mark.parametrize("value", [-0.1, 1.1, None, "0.5", True, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused_by_name(value: Any) -> None:
    assert real(0, "ratio", 0, 1) == 0 and real(0.5, "ratio", 0, 1) == 0.5
    with pytest.raises(InputError, match=r"^ratio is .*; it must be from 0 to 1\.$"):
        real(value, "ratio", 0, 1)


@pytest.mark.parametrize("value", ["eyes", None, 1, ["cls"], "x" * 1000])
def test_unknown_choices_are_refused_by_name(value: Any) -> None:
    known = {"": "Nothing", "cls": "CLS", "rollout": "Rollout"}
    assert choice("cls", "kind", known) == "cls" and choice("", "kind", known) == ""
    with pytest.raises(InputError, match=r"^kind is .{,40}; choose one of cls, rollout\.$"):
        choice(value, "kind", known)


def test_good_links_are_read_and_bad_ones_raise() -> None:
    assert linked_whole("12", 1, 64) == 12 and linked_choice("cls", ["cls"]) == "cls"
    assert linked_list("1,3", 1, 4) == [1, 3] and linked_list("", 1, 4) == []
    for text in ("0", "65", "1.5", "one", "", "nan", "9" * 5000):
        with pytest.raises(ValueError):  # noqa: PT011 (any of them is a link that is not followed)
            linked_whole(text, 1, 64)
    for text in ("5", "1,2,3,4,1", "1,x"):
        with pytest.raises(ValueError):  # noqa: PT011
            linked_list(text, 1, 4)
    with pytest.raises(ValueError, match="eyes"):
        linked_choice("eyes", ["cls"])
