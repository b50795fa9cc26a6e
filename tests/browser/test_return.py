"""Nothing of one's own is lost: after a reload, a link in the same tab, Back and Forward."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.browser.hands import sentence
from tests.support.ui import pictures, png

Visit = Callable[..., Page]
GONE = r"AbortError|Connection errored out|Failed to fetch|network error"  # Gradio, of requests that a reload ends


def files(color: str, count: int, seed: int = 0) -> list[FilePayload]:
    made = pictures(color, count, seed)
    return [{"name": picture.name, "mimeType": "image/png", "buffer": png(picture)} for picture in made]


def card(page: Page, number: int) -> Locator:
    return page.locator("#fewshot-examples .msn-card").nth(number)


def opened(page: Page) -> Page:
    """Wait until the page has loaded: a click before that is undone by the link's tab."""
    page.wait_for_function("window.msnTab")
    return page


def choose(page: Page, tab: str, file: FilePayload) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(f"#picture-{tab}").get_by_label("Upload file").click()
    chooser.value.set_files(file)
    expect(page.locator(f"#picture-{tab} img")).to_have_attribute("alt", f"Your picture, {file['name']}")


def fill(page: Page, number: int, color: str, count: int) -> None:
    card(page, number).locator("input[type=file]").set_input_files(files(color, count))
    expect(card(page, number).locator("li")).to_have_count(count)


@pytest.fixture
def page(visit: Visit, watch: Any) -> Page:
    watch.allow(GONE)
    page = opened(visit())
    page.on("dialog", lambda dialog: dialog.accept())
    return page


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_a_reload_brings_back_the_picture_and_the_settings(page: Page) -> None:
    choose(page, "classify", files("red", 1)[0])
    answer = page.locator("#tab-classify .msn-sentence").first.inner_text()
    page.get_by_text("Several pictures at once").click()
    page.locator("#tab-classify input[type=file][multiple]").set_input_files(files("blue", 2))
    expect(page.locator("#classify-several tbody tr")).to_have_count(2)
    opened(page).reload()
    expect(page.locator("#picture-classify img")).to_have_attribute("alt", "Your picture, red-0.png")
    expect(page.locator("#tab-classify .msn-sentence").first).to_have_text(answer)
    expect(page.locator("#classify-several tbody tr")).to_have_count(2)
    expect(page.locator("#classify-several tbody tr").first).to_be_visible()  # the section is open again
    page.get_by_role("tab", name="Masking", exact=True).click()
    page.get_by_label("number input for Mask ratio, %").fill("40")
    page.get_by_label("number input for Mask ratio, %").press("Enter")
    expect(page).to_have_url(re.compile("hidden=40"))
    opened(page).reload()
    expect(page.locator("#picture-masking img")).to_have_attribute("alt", "Your picture, red-0.png")
    expect(page.locator("#tab-masking .msn-sentence").first).to_contain_text("of 64 patches left")
    expect(page.get_by_label("number input for Mask ratio, %")).to_have_value("40")


def test_a_reload_brings_back_the_sections_of_masking_and_the_settings_of_learn(page: Page) -> None:
    page.get_by_role("tab", name="Masking", exact=True).click()
    expect(page.locator("#tab-masking .msn-sentence").first).to_be_visible()
    page.get_by_role("button", name="Many masks at once").click()
    page.get_by_role("button", name="Draw 16 masks").click()
    expect(page.get_by_role("button", name=re.compile("^Take seed"))).to_have_count(16)
    page.get_by_role("button", name="Hide patches until the answer changes").click()
    page.get_by_label("What speaks most for the answer").check()
    page.get_by_role("tab", name="Learn", exact=True).click()
    page.get_by_role("radio", name="3 Patches").check()
    page.get_by_label("number input for Mask ratio, %").filter(visible=True).fill("75")
    page.keyboard.press("Enter")
    expect(page.locator("#step-3 .msn-sentence")).to_contain_text("48 are dropped")
    expect(page).to_have_url(re.compile("learn_ratio=75"))
    page.reload()
    expect(page.locator("#step-3 .msn-sentence")).to_contain_text("48 are dropped")
    page.get_by_role("tab", name="Masking", exact=True).click()
    expect(page.get_by_role("button", name=re.compile("^Take seed")).filter(visible=True)).to_have_count(16)
    expect(page.get_by_label("What speaks most for the answer")).to_be_checked()
    expect(page.get_by_role("button", name="Find the patches that decide")).to_be_visible()


def test_a_reload_at_every_point_of_the_makers_path(page: Page) -> None:
    page.get_by_role("tab", name="Few-shot", exact=True).click()
    page.get_by_role("button", name="Your own pictures").click()
    expect(sentence(page, "Add pictures to two classes")).to_be_visible()
    page.reload()
    expect(sentence(page, "Add pictures to two classes")).to_be_visible()  # empty classes, as before
    fill(page, 0, "red", 3)
    page.reload()
    expect(card(page, 0).locator("li")).to_have_count(3)
    expect(page.locator("#fewshot-trust")).to_contain_text("3 pictures waiting: add a second class.")
    page.get_by_label("Name of class A").fill("warm")
    page.get_by_label("Name of class A").press("Enter")
    expect(page.locator(".msn-card[data-drop=warm]")).to_be_visible()
    page.reload()
    expect(card(page, 0).locator("[data-rename]")).to_have_value("warm")
    fill(page, 1, "blue", 3)
    expect(page.locator("#fewshot-trust")).to_contain_text("of 6 right")
    page.reload()
    expect(page.locator("#fewshot-trust")).to_contain_text("of 6 right")
    page.locator("#fewshot-try input[type=file]").set_input_files(files("blue", 2, seed=1))
    expect(page.locator(".msn-answers tbody tr")).to_have_count(2)
    page.reload()
    expect(page.locator(".msn-answers tbody tr")).to_have_count(2)
    page.get_by_role("button", name=re.compile("^Undo: added to Class 2")).click()
    expect(card(page, 1).locator("li")).to_have_count(0)
    page.reload()
    expect(card(page, 0).locator("li")).to_have_count(3)
    expect(card(page, 1).locator("li")).to_have_count(0)
    assert "ticket" not in page.url and page.evaluate("sessionStorage.getItem('msn-ticket')") not in page.url


def test_leaving_asks_only_while_a_set_is_not_saved(page: Page) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.type))
    page.get_by_role("tab", name="Few-shot", exact=True).click()
    expect(page.locator(".msn-answers").first).to_be_visible()
    page.reload()
    expect(page.locator(".msn-answers").first).to_be_visible()
    assert asked == []  # a starter set is nobody's own
    page.get_by_role("button", name="Your own pictures").click()
    expect(sentence(page, "Add pictures to two classes")).to_be_visible()
    fill(page, 0, "red", 1)
    save = page.locator("#fewshot-examples").get_by_role("button", name="Save set (.zip)")
    expect(save).to_be_in_viewport()  # from the first own picture
    page.reload()
    expect(card(page, 0).locator("li")).to_have_count(1)
    assert asked == ["beforeunload"]
    with page.expect_download() as download:
        save.click()
    assert download.value.suggested_filename == "few-shot.zip"
    page.reload()
    expect(card(page, 0).locator("li")).to_have_count(1)
    assert asked == ["beforeunload"]
    expect(save).to_have_count(0)  # also after the reload, it knows


def test_a_link_in_the_same_tab_hides_nothing_for_good(page: Page) -> None:
    choose(page, "classify", files("red", 1)[0])
    base = page.url.partition("?")[0]
    page.goto(f"{base}?tab=classify&example=cat")
    expect(page.locator("#picture-classify img")).to_have_attribute("alt", "A tabby cat")
    page.go_back()
    expect(page.locator("#picture-classify img")).to_have_attribute("alt", "Your picture, red-0.png")


def test_a_link_made_with_an_own_picture_says_that_it_is_not_in_it(page: Page, visit: Visit) -> None:
    choose(page, "classify", files("red", 1)[0])
    assert query(page)["example"] == ["own"]
    other = opened(visit(address="?" + urlsplit(page.url).query))
    expect(other.locator("#tab-classify .msn-notice")).to_have_text("The sender's own picture is not in this link.")
    expect(other.locator("#picture-classify img")).to_have_attribute("alt", "A cup of espresso")
    expect(other.locator("#tab-classify .msn-sentence").first).to_be_visible()


def test_back_and_forward_walk_through_tabs_and_steps(page: Page) -> None:
    def expect_tab(name: str) -> None:
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")

    page.get_by_role("tab", name="Masking", exact=True).click()
    expect(page.locator("#tab-masking .msn-sentence").first).to_be_visible()
    page.get_by_role("tab", name="Learn", exact=True).click()
    expect(page.locator("#step-1")).to_be_visible()
    for step in (2, 3):
        page.locator("#learn-next").click()
        expect(page.locator(f"#step-{step}")).to_be_visible()
        expect(page).to_have_url(re.compile(f"step={step}"))
    for step in (2, 1):
        page.go_back()
        expect(page.locator(f"#step-{step}")).to_be_visible()
    page.go_back()
    expect_tab("Masking")
    page.go_back()
    expect_tab("Classify")
    for name in ("Masking", "Learn"):
        page.go_forward()
        expect_tab(name)
    page.go_forward()
    expect(page.locator("#step-2")).to_be_visible()
    assert query(page)["tab"] == ["learn"] and query(page)["step"] == ["2"]


def test_back_leads_to_where_one_was_also_after_a_reload(page: Page) -> None:
    page.get_by_role("tab", name="Masking", exact=True).click()
    expect(page.locator("#tab-masking .msn-sentence").first).to_be_visible()
    page.reload()
    opened(page).go_back()
    expect(page.get_by_role("tab", name="Classify", exact=True)).to_have_attribute("aria-selected", "true")
    assert query(page)["tab"] == ["classify"]
    page.get_by_role("tab", name="Learn", exact=True).click()
    for step in (2, 3, 4):
        page.locator("#learn-next").click()
        expect(page).to_have_url(re.compile(f"step={step}"))
    page.reload()
    expect(opened(page).locator("#step-4")).to_be_visible()
    for step in (3, 2, 1):
        page.go_back()
        expect(page.locator(f"#step-{step}")).to_be_visible()
        expect(page).to_have_url(re.compile(f"step={step}"))
    page.go_back()
    expect(page.get_by_role("tab", name="Classify", exact=True)).to_have_attribute("aria-selected", "true")
    page.go_forward()
    expect(page.locator("#step-1")).to_be_visible()


def test_back_from_the_other_language_leads_to_the_page_before(page: Page) -> None:
    page.get_by_role("tab", name="Masking", exact=True).click()
    expect(page.locator("#tab-masking .msn-sentence").first).to_be_visible()
    page.get_by_role("link", name="Deutsch").click()
    expect(page.get_by_role("tab", name="Maskieren")).to_have_attribute("aria-selected", "true")
    opened(page).get_by_role("tab", name="Lernen").click()
    expect(page.locator("#step-1 .msn-sentence")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("tab", name="Maskieren")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(opened(page).get_by_role("tab", name="Masking", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#tab-masking .msn-sentence").first).to_be_visible()
    page.get_by_label("Block").check()  # answers come in this language, too
    expect(page.locator("#masked-view img")).to_have_attribute("alt", re.compile("^Block mask: .* patches are left"))
    page.go_back()
    expect(page.get_by_role("tab", name="Classify", exact=True)).to_have_attribute("aria-selected", "true")
    assert query(page)["lang"] == ["en"]


def test_a_tab_that_is_opened_before_the_page_has_loaded_stays_open(page: Page) -> None:
    held: list[Route] = []
    page.route("**/gradio_api/run/predict*", lambda route: held.append(route))
    page.reload(wait_until="domcontentloaded")
    page.get_by_role("tab", name="Masking", exact=True).click()
    expect(page.get_by_role("tab", name="Masking", exact=True)).to_have_attribute("aria-selected", "true")
    while page.evaluate("window.msnTab === undefined"):
        page.wait_for_function("document.readyState === 'complete'")
        while held:
            held.pop().continue_()
    page.unroute("**/gradio_api/run/predict*")
    expect(page.locator("#tab-masking .msn-sentence").first).to_be_visible()
    expect(page.get_by_role("tab", name="Masking", exact=True)).to_have_attribute("aria-selected", "true")
    assert query(page)["tab"] == ["masking"]


def test_about_deletes_the_visit_at_once(page: Page) -> None:
    choose(page, "classify", files("red", 1)[0])
    page.get_by_role("button", name="About").click()
    page.get_by_role("button", name="Delete mine now").click()
    expect(page.locator("#picture-classify img")).to_have_attribute("alt", "A cup of espresso")
    page.reload()
    expect(page.locator("#picture-classify img")).to_have_attribute("alt", "A cup of espresso")
