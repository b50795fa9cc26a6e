"""What a screen reader hears, and where the focus is: one sentence for each new result, and nothing of Gradio's own."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.browser.hands import hold

Visit = Callable[..., Page]
HEARD = """() => {
    window.heard = [];
    const region = document.querySelector("#msn-announcer");
    new MutationObserver(() => window.heard.push(region.textContent)).observe(region, {childList: true});
}"""


def heard(page: Page) -> str:
    return str(page.evaluate("window.heard.join('\\n')"))


def test_one_region_says_what_is_new(visit: Visit) -> None:
    page = visit(address="?tab=masking")
    region = page.locator("#msn-announcer")
    expect(region).to_contain_text("With 19 of 64 patches left")
    page.evaluate(HEARD)
    slider = page.get_by_role("slider", name="range slider for Mask ratio, %")
    hold(slider)
    page.keyboard.press("Home")
    expect(region).to_have_text(re.compile("^Nothing is hidden"))  # this sentence alone
    page.get_by_role("tab", name="Learn", exact=True).click()
    expect(region).to_contain_text("Step 1 of 8")
    page.get_by_role("button", name="Next →").click()
    expect(region).to_have_text(re.compile(r"^Step 2 of 8 .*becomes 6 views"))
    page.get_by_role("button", name="Next →").click()
    expect(region).to_have_text(re.compile(r"^Step 3 of 8 .*are dropped"))
    said = heard(page)
    assert "common." not in said and "Step 2 of 8" in said
    # Gradio's own region exists, and is hidden from screen readers too
    own = page.locator(".sr-only[role=status]")
    assert own.count() > 0
    for place in range(own.count()):
        expect(own.nth(place)).to_be_hidden()
    assert "common." not in page.locator("body").aria_snapshot()


def focused(page: Page) -> Locator:
    return page.locator("#fewshot-examples :focus, #fewshot-try :focus, #fewshot-trust :focus")


def test_the_focus_stays_where_the_work_is(visit: Visit) -> None:
    page = visit(address="?tab=fewshot&set=textures", height=1400)
    expect(page.locator("#fewshot-try")).to_contain_text("of 24 new pictures named correctly")
    # after a rename: the same field, under its new name
    hold(page.get_by_label("Name of class A"))
    page.keyboard.press("Control+A")
    page.keyboard.type("wall")
    page.keyboard.press("Enter")
    expect(page.locator(".msn-card[data-drop=wall]")).to_be_visible()
    expect(page.locator("[data-rename=wall]")).to_be_focused()
    # after undo: in the list of classes
    hold(page.get_by_role("button", name=re.compile("^Undo")))
    page.keyboard.press("Enter")
    expect(page.locator(".msn-card[data-drop=brick]")).to_be_visible()
    expect(focused(page)).to_have_count(1)
    # "Teach: it is ...": arrows walk through the entries, Enter teaches, and the focus stays in the answers
    menu = page.locator("[data-correct]").first
    hold(menu)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(menu).to_have_value("grass")
    expect(page.locator("#fewshot-trust")).to_contain_text("of 24 right")  # nothing was taught yet
    page.keyboard.press("Enter")
    expect(page.locator("#fewshot-trust")).to_contain_text("of 25 right")
    expect(page.locator("#fewshot-try :focus")).to_have_count(1)
