"""A visitor's picture arrives by drop, paste, mouse and keyboard; the old one stays until the new one is there."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.hands import hold

WIDTHS = [(1280, 900, False), (390, 844, True)]
# Give a file to the page as a drag or paste does: with browser events, at a point of the page.
HAND = """([selector, kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const at = document.querySelector(selector), init = { bubbles: true, cancelable: true };
  if (kind === "paste") {
    at.dispatchEvent(new ClipboardEvent("paste", { ...init, clipboardData: carried }));
  } else {
    for (const step of ["dragenter", "dragover", "drop"]) {
      at.dispatchEvent(new DragEvent(step, { ...init, dataTransfer: carried }));
    }
  }
}"""


def encoded(color: str, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (90, 60), color).save(buffer, kind)
    return buffer.getvalue()


def hand(page: Page, kind: str, name: str, data: bytes, selector: str = "#picture-classify", mime: str = "") -> None:
    page.evaluate(HAND, [selector, kind, name, mime, base64.b64encode(data).decode()])


def shown(page: Page, tab: str = "classify") -> str:
    return page.locator(f"#picture-{tab} img").get_attribute("alt") or ""


def expect_shown(page: Page, text: str, tab: str = "classify") -> None:
    expect(page.locator(f"#picture-{tab} img")).to_have_attribute("alt", text)
    expect(page.locator(f"#tab-{tab} .msn-sentence").first).to_be_visible()


@pytest.mark.parametrize(("width", "height", "touch"), WIDTHS, ids=["desk", "phone"])
def test_a_drop_on_the_shown_picture_replaces_it(
    visit: Callable[..., Page], width: int, height: int, touch: bool
) -> None:
    page = visit(width=width, height=height, touch=touch)
    expect_shown(page, "A cup of espresso")
    for number in range(3):  # several times in a row
        hand(page, "drop", f"red-{number}.png", encoded("red"), mime="image/png")
        expect_shown(page, f"Your picture, red-{number}.png")
    expect(page).to_have_url(re.compile(r"\?example=own$"))  # so that a link can say that the picture is not in it


def test_a_drop_or_a_paste_anywhere_on_the_page_replaces_it(page: Page) -> None:
    expect_shown(page, "A cup of espresso")
    hand(page, "drop", "photo.jpg_large", encoded("blue", "JPEG"), selector=".msn-status")  # known by content
    expect_shown(page, "Your picture, photo.jpg_large")
    hand(page, "paste", "pasted.png", encoded("green"), selector="body", mime="image/png")
    expect_shown(page, "Your picture, pasted.png")
    page.get_by_role("tab", name="Masking", exact=True).click()
    expect_shown(page, "Your picture, pasted.png", "masking")
    hand(page, "drop", "on-masking.png", encoded("teal"), selector="#picture-masking", mime="image/png")
    expect_shown(page, "Your picture, on-masking.png", "masking")


@pytest.mark.parametrize("way", ["tap", "enter"])
def test_one_tap_or_enter_opens_the_chooser_and_deletes_nothing(page: Page, way: str, tmp_path: Path) -> None:
    expect_shown(page, "A cup of espresso")
    button = page.locator("#picture-classify").get_by_label("Upload file")
    with page.expect_file_chooser() as opened:
        if way == "tap":
            button.click()
        else:
            hold(button)
            page.keyboard.press("Enter")
    assert shown(page) == "A cup of espresso"  # closing the chooser loses nothing
    file = tmp_path / "mine.png"
    file.write_bytes(encoded("orange"))
    opened.value.set_files(file)
    expect_shown(page, "Your picture, mine.png")


def test_an_unreadable_file_keeps_the_last_picture_and_its_answer(page: Page) -> None:
    expect_shown(page, "A cup of espresso")
    answer = page.locator("#tab-classify .msn-sentence").first.inner_text()
    hand(page, "drop", "holiday.jpg", b"no picture at all", mime="image/jpeg")
    expect(page.locator("#tab-classify .msn-notice").first).to_contain_text("holiday.jpg")
    assert shown(page) == "A cup of espresso"
    assert page.locator("#tab-classify .msn-sentence").first.inner_text() == answer


@pytest.mark.parametrize(("width", "height", "touch"), WIDTHS, ids=["desk", "phone"])
def test_a_removed_picture_takes_its_answers_along(
    visit: Callable[..., Page], width: int, height: int, touch: bool
) -> None:
    page = visit(width=width, height=height, touch=touch)
    for tab in ("Attention", "Masking", "Learn", "Classify"):
        page.get_by_role("tab", name=tab, exact=True).click()
        expect_shown(page, "A cup of espresso", tab.lower())
    hand(page, "drop", "mine.png", encoded("red"), mime="image/png")
    expect_shown(page, "Your picture, mine.png")
    expect(page).to_have_url(re.compile("example=own"))
    page.locator("#picture-classify").get_by_label("Remove Image").click()
    for tab in ("Classify", "Attention", "Masking", "Learn"):
        page.get_by_role("tab", name=tab, exact=True).click()
        panel = page.locator(f"#tab-{tab.lower()}")
        expect(panel.locator(".msn-notice").first).to_contain_text("No picture yet")
        left = ".msn-bars, .msn-map img, .msn-figures, .msn-heads, .msn-step-title, .msn-code"
        expect(panel.locator(left).locator("visible=true")).to_have_count(0)
        expect(panel.locator(f"#picture-{tab.lower()} img")).to_have_count(0)
        expect(panel.locator(".msn-map").locator("visible=true")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("example="))
    page.get_by_role("tab", name="Classify", exact=True).click()
    page.locator("#tab-classify").get_by_role("button", name="Example: A tabby cat").click()
    expect_shown(page, "A tabby cat")
    expect(page.locator("#tab-classify .msn-bars")).to_be_visible()
