"""Act on a page and read it as a person would."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


def hold(control: Locator) -> None:
    """Focus `control` once it is enabled; ``focus()`` alone silently skips a control that is still disabled."""
    expect(control).to_be_enabled()
    control.focus()
    expect(control).to_be_focused()


def sentence(page: Page, text: str) -> Locator:
    """A sentence of the page that holds `text`; ``get_by_text`` also finds the copy that screen readers hear."""
    return page.locator(".msn-sentence", has_text=text)
