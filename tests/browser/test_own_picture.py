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


LANGUAGES = [
    (
        *("en", "Capture from camera", "Paste from clipboard", "The camera was not allowed"),
        *("The clipboard was not allowed", "no picture in the clipboard"),
    ),
    (
        *("de", "Mit der Kamera aufnehmen", "Aus der Zwischenablage einfügen", "Die Kamera wurde nicht erlaubt"),
        *("Die Zwischenablage wurde nicht erlaubt", "In der Zwischenablage ist kein Bild"),
    ),
]


@pytest.mark.parametrize(("language", "camera", "paste", "no_camera", "refused", "empty"), LANGUAGES, ids=["en", "de"])
def test_a_refused_camera_and_clipboard_are_said_and_delete_nothing(
    visit: Callable[..., Page], language: str, camera: str, paste: str, no_camera: str, refused: str, empty: str
) -> None:
    page = visit(address=f"?lang={language}")
    title = {"en": "A cup of espresso", "de": "Eine Tasse Espresso"}[language]
    expect_shown(page, title)
    said = page.locator("#said-classify [data-said]")
    page.get_by_role("button", name=camera).click()
    expect(said).to_contain_text(no_camera)
    expect(page.locator(".msn-camera")).to_have_count(0)
    page.get_by_role("button", name=paste).click()
    expect(said).to_contain_text(refused)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('no picture')")
    page.get_by_role("button", name=paste).click()
    expect(said).to_contain_text(empty)
    expect_shown(page, title)


def test_the_clipboard_button_takes_the_copied_picture(page: Page) -> None:
    expect_shown(page, "A cup of espresso")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (data) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const copied = new Blob([bytes], { type: "image/png" });
          await navigator.clipboard.write([new ClipboardItem({ "image/png": copied })]);
        }""",
        base64.b64encode(encoded("green")).decode(),
    )
    page.locator("#picture-classify").get_by_label("Paste from clipboard").click()
    expect_shown(page, "Your picture, clipboard.png")


def test_the_camera_of_a_desktop_replaces_the_picture_once_one_was_taken(visit: Callable[..., Page]) -> None:
    page = visit(camera=True)
    expect_shown(page, "A cup of espresso")
    page.locator("#picture-classify").get_by_label("Capture from camera").click()
    page.wait_for_function("document.querySelector('.msn-camera video')?.videoWidth > 0")
    assert shown(page) == "A cup of espresso"
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".msn-camera")).to_have_count(0)
    assert shown(page) == "A cup of espresso"
    page.locator("#picture-classify").get_by_label("Capture from camera").click()
    page.wait_for_function("document.querySelector('.msn-camera video')?.videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    expect_shown(page, "Your picture, camera.jpg")


def test_a_phone_opens_its_camera_and_keeps_the_picture_until_one_comes(phone: Page, tmp_path: Path) -> None:
    expect_shown(phone, "A cup of espresso")
    with phone.expect_file_chooser() as opened:
        phone.locator("#picture-classify").get_by_label("Capture from camera").tap()
    assert opened.value.element.get_attribute("capture") == "environment"
    assert shown(phone) == "A cup of espresso"
    file = tmp_path / "image.jpg"
    file.write_bytes(encoded("purple", "JPEG"))
    opened.value.set_files(file)
    expect_shown(phone, "Your picture, image.jpg")


@pytest.mark.parametrize(("width", "height", "touch"), WIDTHS, ids=["desk", "phone"])
def test_a_slow_upload_shows_how_far_it_is_beside_the_picture_and_can_be_stopped(
    visit: Callable[..., Page], width: int, height: int, touch: bool
) -> None:
    page = visit(width=width, height=height, touch=touch)
    expect_shown(page, "A cup of espresso")
    line = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 50, "downloadThroughput": 150_000}
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 60_000})
    noise = Image.effect_noise((1000, 800), 100)
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    hand(page, "drop", "large.png", buffer.getvalue(), mime="image/png")
    said = page.locator("#said-classify")
    expect(said.locator("[data-said]")).to_have_text("Sending large.png …")
    expect(said.get_by_role("progressbar")).to_be_in_viewport()
    answer = page.locator("#tab-classify .msn-right > *").first
    expect(answer).to_have_css("opacity", "0.4")
    expect(said.locator("[data-left]")).to_have_text(re.compile(r"^\d+\u00a0%, \d+ s left$"))
    stop = said.get_by_role("button", name="Stop")
    expect(stop).to_be_in_viewport()
    stop.click()
    expect(said.locator("[data-said]")).to_have_text("Stopped; the picture stays as it was.")
    expect(said.get_by_role("progressbar")).to_have_count(0)
    expect(answer).to_have_css("opacity", "1")
    assert shown(page) == "A cup of espresso"
    line.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 600_000})
    hand(page, "drop", "large.png", buffer.getvalue(), mime="image/png")
    expect(said.locator("[data-said]")).to_have_text("Sending large.png …")
    expect_shown(page, "Your picture, large.png")
    expect(said.locator("[data-said]")).to_be_empty()


def test_the_upload_box_is_named_in_the_words_of_the_page(visit: Callable[..., Page]) -> None:
    page = visit(address="?lang=de")
    page.get_by_role("button", name="Bild entfernen").first.click()
    box = page.get_by_role("button", name="Zieh ein Bild hierher oder drücke, um eines auszuwählen")
    with page.expect_file_chooser():
        box.click()
    expect(page.get_by_role("button", name="Datei hochladen").first).to_be_visible()


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
