"""Coroutines in tests that are not coroutines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

T = TypeVar("T")


def call(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """What an async function returns, from a loop in a thread of its own: Playwright keeps one running in this one."""
    with start_blocking_portal() as portal:
        return portal.call(function, *args)
