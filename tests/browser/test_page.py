"""The page as a whole: it opens, on a desk and on a phone, with its tabs, and nothing complains."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

WIDTHS = [(1280, 900, False), (390, 844, True)]


def answered(page: Page) -> None:
    """What the page opens with is there: the answer, and below it what it cost."""
    expect(page.locator(".msn-bars").first).to_be_visible()
    expect(page.locator(".msn-status")).to_contain_text(re.compile("last forward|answer from cache"))


def test_opens_on_the_first_tab(page: Page) -> None:
    tabs = page.get_by_role("tab")
    expect(tabs.filter(has_text="Classify")).to_have_attribute("aria-selected", "true")
    expect(page).to_have_title(re.compile("ViT-MSN"))


def test_every_tab_opens(page: Page) -> None:
    expect(page.get_by_role("tab", name="Learn", exact=True)).to_be_visible()  # the last one
    names = [name.strip() for name in page.get_by_role("tab").all_inner_texts() if name.strip()]
    assert names[:1] == ["Classify"] and len(names) == len(set(names))
    for name in names:
        tab = page.get_by_role("tab", name=name, exact=True)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tabpanel").locator("visible=true").first).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height", "touch"), WIDTHS, ids=["desk", "phone"])
def test_nothing_scrolls_sideways(visit: Callable[..., Page], width: int, height: int, touch: bool, dark: bool) -> None:
    page = visit(width=width, height=height, touch=touch, dark=dark)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_the_model_the_tabs_and_the_picture(page: Page) -> None:
    answered(page)
    expect(page.get_by_label("Model")).to_be_enabled()
    name = "document.activeElement.ariaLabel || document.activeElement.innerText"
    wanted = ["Model", "Classify", "Upload file"]
    for _ in range(30):
        page.keyboard.press("Tab")
        if wanted and wanted[0] in str(page.evaluate(name)):
            wanted.pop(0)
    assert not wanted


def test_the_foot_says_what_runs(page: Page) -> None:
    answered(page)
    expect(page.locator(".msn-status")).to_contain_text("px · c")  # input size, then cpu or cuda
