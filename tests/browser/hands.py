"""Act on a control as a person would: wait until it is enabled."""

from __future__ import annotations

from playwright.sync_api import Locator, expect


def hold(control: Locator) -> None:
    """Focus `control` once it is enabled; ``focus()`` alone silently skips a control that is still disabled."""
    expect(control).to_be_enabled()
    control.focus()
    expect(control).to_be_focused()
