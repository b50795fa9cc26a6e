"""Checks of values from the page, from clients and from links: nothing from outside is trusted.

A bad value raises InputError, which says what came and what is needed. A bad link raises ValueError and is ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitmsn.errors import InputError


def cut(text: str, most: int = 40) -> str:
    """What came, cut short for a message."""
    return text if len(text) <= most else f"{text[:most]}…"


def _number(value: Any) -> bool:
    """Whether it is a number safe for arithmetic: finite, and not an integer of thousands of digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _said(value: Any) -> str:
    return "an enormous number" if isinstance(value, int) and value.bit_length() > 10_000 else repr(value)


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number from a page or a client, checked; InputError names it, its range and what came."""
    if not _number(value) or int(value) != value:
        raise InputError(f"{name} is {cut(_said(value))}; it must be a whole number from {low} to {high}.")
    if not low <= value <= high:
        raise InputError(f"{name} is {cut(_said(int(value)))}; it must be from {low} to {high}.")
    return int(value)


def real(value: Any, name: str, low: float, high: float, unit: str = "") -> float:
    """A number, checked; `name` and `unit` are for the message."""
    if not _number(value) or not low <= value <= high:
        raise InputError(f"{name} is {cut(_said(value))}; it must be from {low:g} to {high:g}{unit}.")
    return float(value)


def choice(value: Any, name: str, known: Collection[str]) -> str:
    """One of `known`, checked."""
    if not isinstance(value, str) or value not in known:
        offered = [word for word in known if word]
        raise InputError(f"{name} is {str(value)[:32]!r}; choose one of {', '.join(offered)}.")
    return value


def linked_whole(text: str, low: int, high: int) -> int:
    """A whole number from a link."""
    value = int(text)
    if not low <= value <= high:
        raise ValueError(text)
    return value


def linked_real(text: str, low: float, high: float) -> float:
    """A number from a link."""
    value = float(text)
    if not low <= value <= high:
        raise ValueError(text)
    return value


def linked_choice(text: str, known: Collection[str]) -> str:
    """One of `known`, from a link."""
    if text not in known:
        raise ValueError(text)
    return text


def linked_list(text: str, low: int, high: int) -> list[int]:
    """Whole numbers from a link, "1,3"; an empty text means none."""
    words = [word for word in text.split(",") if word]
    if len(words) > high - low + 1:
        raise ValueError(text)
    return [linked_whole(word, low, high) for word in words]
