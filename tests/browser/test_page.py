"""The page as a whole: it opens, on a desktop and on a phone, with its tabs and without errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pillow_heif
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.hands import hold
from tests.support.pictures import noise

WIDTHS = [(1280, 900, False), (390, 844, True)]


def answered(page: Page) -> None:
    """Wait for the first answer and its timing below it."""
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


def test_the_footer_names_input_size_and_device(page: Page) -> None:
    answered(page)
    expect(page.locator(".msn-status")).to_contain_text("px · c")  # input size, then cpu or cuda


def test_any_file_may_be_chosen_and_is_recognized_by_its_content(page: Page, tmp_path: Path) -> None:
    pillow_heif.from_pillow(noise(96, 64)).save(tmp_path / "IMG_0001.HEIC")
    noise(96, 64).save(tmp_path / "photo.jpg_large", "JPEG")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    panel = page.get_by_role("tabpanel").locator("visible=true").first
    expect(page.locator(".msn-bars").first).to_be_visible()

    def choose(name: str) -> None:
        with page.expect_file_chooser() as opened:
            page.locator("#picture-classify").get_by_label("Upload file").click()
        opened.value.set_files(tmp_path / name)

    for name in ("IMG_0001.HEIC", "photo.jpg_large"):
        choose(name)
        expect(page.get_by_alt_text(f"Your picture, {name}").first).to_be_visible()
    choose(".DS_Store")
    expect(panel.get_by_text("DS_Store is a file of unknown format").first).to_be_visible()
    page.get_by_text("Several pictures at once").click()
    several = panel.locator("input[type=file][multiple]")
    several.set_input_files([tmp_path / name for name in ("IMG_0001.HEIC", ".DS_Store", "photo.jpg_large")])
    rows = page.locator("table.msn-table tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("DS_Store is a file of unknown format")
    expect(page.locator("table.msn-table tr.msn-refused")).to_have_count(1)


def test_the_arrow_keys_move_along_the_tabs_and_open_them(page: Page) -> None:
    answered(page)

    def tab(name: str) -> Locator:
        return page.get_by_role("tab", name=name, exact=True)

    hold(tab("Classify"))
    for key, name in (
        ("ArrowRight", "Attention"),
        ("End", "Learn"),
        ("ArrowRight", "Classify"),
        ("ArrowLeft", "Learn"),
    ):
        page.keyboard.press(key)
        expect(tab(name)).to_be_focused()
        expect(tab(name)).to_have_attribute("aria-selected", "true")
        expect(page).to_have_url(re.compile(f"tab={name.lower()}"))
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tab("Masking")).to_be_focused()
    expect(page.locator("#tab-masking .msn-sentence").first).to_contain_text("of 64 patches left")
    expect(page.locator("#msn-announcer")).to_contain_text("of 64 patches left")
    stops = page.get_by_role("tab").evaluate_all(
        "all => all.filter(one => one.tabIndex === 0).map(one => one.innerText)"
    )
    assert [name.strip() for name in stops] == ["Masking"]
    page.go_back()
    expect(tab("Attention")).to_have_attribute("aria-selected", "true")
