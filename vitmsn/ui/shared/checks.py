"""Values from the page and from links, checked: nothing that comes from outside is believed."""

from __future__ import annotations

import math
from typing import Any

from vitmsn.errors import InputError


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number from a page or a client, checked; InputError names it, its range and what came."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or int(value) != value:
        raise InputError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")
    if not low <= value <= high:
        raise InputError(f"{name} is {int(value)}; it must be from {low} to {high}.")
    return int(value)
