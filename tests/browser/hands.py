"""What a person's hands do that Playwright's do not: wait until there is something to take hold of."""

from __future__ import annotations

from playwright.sync_api import Locator, expect


def hold(control: Locator) -> None:
    """The keyboard goes to `control`. ``focus()`` alone passes over a control that is still disabled, in silence."""
    expect(control).to_be_enabled()
    control.focus()
    expect(control).to_be_focused()
