"""The Learn tab as a class uses it: the walkthrough by mouse, keyboard and link, printing, and live training."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.hands import hold

Visit = Callable[..., Page]
GONE = r"AbortError|Connection errored out|Failed to fetch|network error"  # Gradio, of requests that a reload ends
TRAINING = 240_000  # milliseconds for a few steps of the training process on a busy machine


def sentence(page: Page, step: int) -> str:
    shown = page.locator(f"#step-{step} .msn-sentence")
    expect(shown).to_be_visible()
    return shown.inner_text()


def test_the_walkthrough_by_mouse_keyboard_and_link(visit: Visit) -> None:
    page = visit(address="?tab=learn")
    assert "patches" in sentence(page, 1)
    expect(page.locator(".msn-step:visible")).to_have_count(1)
    page.get_by_role("button", name="Next →").click()
    assert "becomes 6 views" in sentence(page, 2)
    page.keyboard.press("Enter")  # the button still has the focus
    assert "dropped" in sentence(page, 3)
    page.keyboard.press("ArrowRight")
    assert "tokens" in sentence(page, 4)
    hold(page.get_by_role("radio", name="3 Patches"))
    page.keyboard.press("Space")
    before = sentence(page, 3)
    expect(page).to_have_url(re.compile("step=3"))
    # a control of a step: by the keyboard
    page.get_by_label("number input for Mask ratio, %").fill("75")
    page.keyboard.press("Enter")
    expect(page.locator("#step-3 .msn-sentence")).to_contain_text("48 are dropped and 16 stay")
    assert "48 are dropped" not in before
    # another picture, another answer on every step
    page.get_by_role("button", name="Example: A tabby cat").click()
    expect(page.locator("#step-1 .msn-sentence")).to_contain_text("451")

    other = visit(address="?tab=learn&step=7&example=lion&draw=9")
    assert "Sharpening takes" in sentence(other, 7)
    other.get_by_role("button", name="← Back").click()
    sentence(other, 6)
    expect(other.get_by_label("number input for Seed")).to_have_value("9")


def test_prototypes_are_shown_as_pictures(visit: Visit) -> None:
    page = visit(address="?tab=learn&step=6")
    assert "belongs most to prototype" in sentence(page, 6)
    tile = page.locator("#step-6 .msn-first .msn-tile").first
    expect(tile).to_be_visible()
    # the tile is a square of the sheet, which the server gives
    square = "e => { const b = e.getBoundingClientRect(); return b.width > 60 && Math.abs(b.width - b.height) < 1; }"
    page.wait_for_function(square, arg=tile.element_handle())
    sheet = tile.evaluate("e => getComputedStyle(e).backgroundImage.slice(5, -2)")
    assert "gallery-pictures.webp" in sheet
    decoded = "async (url) => { const one = new Image(); one.src = url; await one.decode(); return one.naturalWidth; }"
    assert page.evaluate(decoded, sheet) > 100
    expect(page.locator("#step-6 .msn-first .msn-tiles")).to_have_attribute(
        "aria-label", re.compile("Pictures nearest")
    )


def test_a_model_without_prototypes_says_so(visit: Visit) -> None:
    page = visit(address="?tab=learn&step=5&model=random")
    assert "nearest pictures" in sentence(page, 5)
    page.get_by_role("button", name="Next →").click()
    assert "has no prototypes" in sentence(page, 6)


def test_the_lesson_fits_a_phone_and_paper(visit: Visit) -> None:
    phone = visit(width=390, height=844, touch=True, dark=True, address="?tab=learn&step=7")
    sentence(phone, 7)
    expect(phone.locator("#learn-step label").filter(has_text="7 Sharpening")).to_be_in_viewport(ratio=0.9)
    phone.wait_for_function("document.documentElement.scrollWidth <= 390")
    phone.get_by_role("button", name="Next →").tap()
    sentence(phone, 8)
    # on paper: all steps, no controls, dark on light even from a dark page
    phone.emulate_media(media="print")
    phone.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(phone.locator(".msn-step:visible")).to_have_count(8)
    for hidden in ("#learn-next", "#learn-step", "#picture-learn", "#model", ".msn-switches"):
        expect(phone.locator(hidden)).to_be_hidden()
    ink, ground = phone.locator("#step-8 .msn-sentence").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (ink, ground) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    phone.evaluate("dispatchEvent(new Event('afterprint'))")
    phone.emulate_media(media="screen")
    expect(phone.locator(".msn-step:visible")).to_have_count(1)


def film(page: Page) -> None:
    """The recording can be scrubbed by the keyboard, and played."""
    canvas, slider = page.locator("#watch-map canvas"), page.get_by_label("Frame of the film")
    expect(canvas).to_have_attribute("aria-label", re.compile(r"Map of 160 pictures after \d{2,} steps"))
    hold(slider)
    page.keyboard.press("Home")
    expect(canvas).to_have_attribute("aria-label", re.compile("after 0 steps"))
    page.keyboard.press("ArrowRight")
    expect(canvas).not_to_have_attribute("aria-label", re.compile("after 0 steps"))
    page.locator("#watch-map").get_by_role("button", name="Play").click()
    expect(page.locator("#watch-map").get_by_role("button", name="Pause")).to_be_visible()
    page.locator("#watch-map").get_by_role("button", name="Pause").click()


def test_two_visitors_and_one_network_at_a_time(visit: Visit) -> None:
    first, second = visit(address="?tab=learn"), visit(address="?tab=learn")
    said = first.locator("#watch-said")
    expect(said).to_contain_text("A recording")
    film(first)
    first.get_by_role("button", name="Train it now").click()
    # the recording stays until the first step
    expect(first.locator("#watch-ready")).to_contain_text("Getting ready")
    expect(said).to_contain_text("A recording")
    second.get_by_role("button", name="Train it now").click()
    waiting = second.locator("#watch-ready")
    expect(waiting).to_contain_text("Another visitor's network is first")
    # requests that do not train do not wait
    second.get_by_role("button", name="Next →").click()
    sentence(second, 2)
    expect(said).to_contain_text("With random weights kNN names", timeout=TRAINING)
    expect(first.locator(".msn-ready")).to_have_count(0)
    first.get_by_role("button", name="Stop").click()
    expect(first.get_by_role("button", name="Train it now")).to_be_enabled()
    expect(waiting).not_to_contain_text("is first")
    second.get_by_role("button", name="Stop").click()
    expect(second.get_by_role("button", name="Train it now")).to_be_enabled()


def test_runs_stand_side_by_side_also_after_a_reload(visit: Visit, watch: Any) -> None:
    watch.allow(GONE)
    page = visit(address="?tab=learn")
    said, runs = page.locator("#watch-said"), page.locator("#watch-runs button")
    for off, count in (("me-max", 0), ("Masking", 2)):
        page.get_by_role("checkbox", name=off).uncheck()
        expect(page.get_by_role("checkbox", name="Sinkhorn")).not_to_be_checked()  # it would prevent collapse
        page.get_by_role("button", name="Train it now").click()
        expect(page.locator(".msn-ready")).to_contain_text("Getting ready")
        expect(page.locator(".msn-ready")).to_have_count(0, timeout=TRAINING)
        expect(said).to_contain_text("prototypes are in use", timeout=TRAINING)
        expect(page.locator("#watch-charts svg")).to_have_count(3)
        expect(runs).to_have_count(count)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Train it now")).to_be_enabled()
    expect(said).to_contain_text("Stopped.")
    expect(runs.nth(0)).to_contain_text("no Sinkhorn, no me-max")
    expect(runs.nth(1)).to_contain_text("no masking, no Sinkhorn, no me-max")
    expect(runs.nth(1)).to_have_attribute("aria-pressed", "true")
    runs.nth(0).click()
    expect(runs.nth(0)).to_have_attribute("aria-pressed", "true")
    masking = page.get_by_role("checkbox", name="Masking")
    expect(masking).to_be_checked()  # the boxes are those of the run that is shown
    runs.nth(1).click()
    expect(masking).not_to_be_checked()
    page.reload()
    expect(runs).to_have_count(2)
    expect(runs.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(said).to_contain_text("without masking, Sinkhorn and me-max")
    expect(said).to_contain_text("Stopped.")
    for off in ("Masking", "Sinkhorn", "me-max"):
        expect(page.get_by_role("checkbox", name=off)).not_to_be_checked()
