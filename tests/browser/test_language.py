"""The page in English and German: chosen by the browser or by the switch; it fits a phone in both."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.support.ui import pictures, png

Visit = Callable[..., Page]
TABS = ["classify", "attention", "masking", "fewshot", "explore", "learn"]
# buttons whose words are wider than they are
CUT = """() => [...document.querySelectorAll("button, .msn-button, label > span")].filter((one) =>
  one.offsetParent && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflow !== "visible"
).map((one) => `${one.textContent.trim()}: ${one.scrollWidth} in ${one.clientWidth}`)"""


def file(name: str) -> FilePayload:
    [picture] = pictures("red", 1)
    return {"name": name, "mimeType": "image/png", "buffer": png(picture)}


def test_the_switch_changes_every_word_and_loses_nothing(visit: Visit, watch: object) -> None:
    watch.allow(r"AbortError|Connection errored out|Failed to fetch|network error")  # type: ignore[attr-defined]
    page = visit(address="?tab=masking")
    page.wait_for_function("window.msnTab")
    with page.expect_file_chooser() as chooser:
        page.locator("#picture-masking").get_by_label("Upload file").click()
    chooser.value.set_files(file("mine.png"))
    expect(page.locator("#picture-masking img")).to_have_attribute("alt", "Your picture, mine.png")
    page.get_by_label("Block").check()
    expect(page.locator("#masked-view img")).to_have_attribute("alt", "Block mask: 19 of 64 patches are left")
    page.get_by_role("link", name="Deutsch").click()

    expect(page.get_by_role("tab", name="Maskieren")).to_have_attribute("aria-selected", "true")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.locator("#picture-masking img")).to_have_attribute("alt", "Dein Bild, mine.png")
    expect(page.get_by_label("Block")).to_be_checked()
    expect(page.locator("#tab-masking .msn-sentence").first).to_contain_text("von 64 Patches")
    assert parse_qs(urlsplit(page.url).query)["lang"] == ["de"]

    page.goto(page.url.partition("?")[0])  # the cookie remembers
    expect(page.get_by_role("tab", name="Erkennen")).to_be_visible()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("tab", name="Classify")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_sections_and_their_results_come_back_in_the_other_language(visit: Visit, watch: object) -> None:
    watch.allow(r"AbortError|Connection errored out|Failed to fetch|network error")  # type: ignore[attr-defined]
    page = visit(address="?tab=masking")
    page.get_by_role("button", name="Many masks at once").click()
    page.get_by_role("button", name="Draw 16 masks").click()
    expect(page.locator("#masking-film li").first).to_contain_text("similarity")
    page.get_by_role("tab", name="Attention").click()
    page.locator("#attention-more .label-wrap").click()
    expect(page.locator("#attention-more .label-wrap")).to_have_class(re.compile("open"))
    page.get_by_role("tab", name="Few-shot").click()
    expect(page.locator("#fewshot-more .label-wrap")).to_be_visible()
    expect(page.locator("#fewshot-more .label-wrap")).not_to_have_class(re.compile("open"))
    page.get_by_role("tab", name="Masking").click()
    page.get_by_role("link", name="Deutsch").click()

    expect(page.locator("#masking-film li").first).to_be_visible()
    expect(page.locator("#masking-film li").first).to_contain_text("Ähnlichkeit")
    page.get_by_role("tab", name="Blick").click()
    expect(page.locator("#attention-more .label-wrap")).to_have_class(re.compile("open"))


@pytest.mark.parametrize("tab", TABS)
def test_german_fits_a_phone(visit: Visit, tab: str) -> None:
    page = visit(width=390, height=844, touch=True, address=f"?tab={tab}&lang=de")
    expect(page.locator(f"#tab-{tab} :is(.msn-sentence, .msn-answer, h2.msn-step)").first).to_be_visible()
    expect(page.locator(".msn-status")).to_contain_text("px")
    for folded in page.locator(f"#tab-{tab} button.label-wrap").all():
        folded.tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CUT) == []
    tops = {tab.bounding_box()["y"] for tab in page.get_by_role("tab").all()}  # type: ignore[index]
    assert len(tops) == 1, "the tabs take two lines"
