"""Control and picture in one view, targets large enough for a finger, results in sight, the header's panel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

Visit = Callable[..., Page]
SIZES = [(1440, 900, False), (390, 844, True)]
TABS = ["classify", "attention", "masking", "fewshot", "explore", "learn"]
LEAST = 44  # pixels of a target's shorter side
# Everything that can be pressed, with the area that reacts: a label for its input, a dropdown's frame for its text.
TARGETS = """() => [...document.querySelectorAll(
    "button, input, select, textarea, summary, a.msn-button, [role=tab]")].flatMap((node) => {
  const style = getComputedStyle(node);
  const hidden = !node.getClientRects().length || style.visibility === "hidden" || style.pointerEvents === "none";
  if (hidden || node.disabled || node.closest("[aria-hidden=true], footer, dialog:not([open])")) return [];
  const boxes = [node, node.closest("label"), node.closest(".wrap-inner")].filter(Boolean)
    .map((one) => one.getBoundingClientRect());
  const [wide, high] = ["width", "height"].map((side) => Math.max(...boxes.map((box) => box[side])));
  const name = node.ariaLabel || node.innerText || node.className;
  return wide < 2 || high < 2 ? [] : [[`${node.tagName} ${name}`.slice(0, 80), Math.min(wide, high)]];
})"""


def filled(page: Page, tab: str) -> Page:
    expect(page.locator(f"#tab-{tab} :is(.msn-sentence, .msn-answer, h2.msn-step)").first).to_be_visible()
    expect(page.locator(".msn-status")).to_contain_text("px")
    if tab == "fewshot":
        expect(page.locator("#tab-fewshot .msn-answers").first).to_be_visible()  # the slowest part
    return page


def box(found: Locator) -> dict[str, float]:
    place: Any = found.bounding_box()
    assert place is not None
    return {**place, "bottom": place["y"] + place["height"]}


@pytest.mark.parametrize(("width", "height", "touch"), SIZES, ids=["desk", "phone"])
@pytest.mark.parametrize(("tab", "picture", "names"), [
    ("attention", "#attention-map", ["Layer", "Strongest patches only, %"]),
    ("masking", "#masked-view", ["Mask ratio, %"]),
])  # fmt: skip
def test_a_slider_and_the_picture_it_changes_are_in_one_view(
    visit: Visit, tab: str, picture: str, names: list[str], width: int, height: int, touch: bool
) -> None:
    page = filled(visit(width=width, height=height, touch=touch, address=f"?tab={tab}"), tab)
    for name in names:
        slider = page.locator(f"#tab-{tab}").get_by_label(f"range slider for {name}").first
        slider.evaluate("node => node.scrollIntoView({block: 'center'})")
        moved, changing = box(slider), box(page.locator(picture))
        assert changing["y"] >= -1 and changing["bottom"] <= height, f"{name}: the picture is out of sight"
        assert moved["y"] >= 0 and moved["bottom"] <= height
        beside = moved["x"] + moved["width"] <= changing["x"] or changing["x"] + changing["width"] <= moved["x"]
        assert beside or moved["y"] >= changing["bottom"] or moved["bottom"] <= changing["y"]


@pytest.mark.parametrize("tab", ["attention", "masking"])
def test_the_controls_come_before_the_longer_texts_on_a_phone(visit: Visit, tab: str) -> None:
    page = filled(visit(width=390, height=844, touch=True, address=f"?tab={tab}"), tab)
    said, control = box(page.locator(f"#tab-{tab} .msn-sentence").first), box(page.locator(f"#tab-{tab} .msn-controls"))
    assert 0 <= control["y"] - said["bottom"] < 80


@pytest.mark.parametrize("tab", TABS)
def test_every_target_is_large_enough_for_a_finger(visit: Visit, tab: str) -> None:
    page = filled(visit(width=390, height=844, touch=True, address=f"?tab={tab}"), tab)
    for folded in page.locator(f"#tab-{tab} button.label-wrap").all():
        folded.tap()
    for folded in page.locator(f"#tab-{tab} details:not([open]) > summary").all():
        if folded.is_visible():
            folded.tap()
    targets = page.evaluate(TARGETS)
    assert len(targets) > 10
    assert [(name, side) for name, side in targets if side < LEAST - 0.5] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_maps_of_all_heads_fit_a_phone(visit: Visit) -> None:
    page = filled(visit(width=390, height=844, touch=True, address="?tab=attention"), "attention")
    inner, outer = page.locator(".msn-heads-scroll").evaluate("node => [node.scrollWidth, node.clientWidth]")
    assert inner <= outer
    page.get_by_label("Most unusual").check()
    expect(page.locator(".msn-sorted")).to_be_visible()
    inner, outer = page.locator(".msn-heads-scroll").evaluate("node => [node.scrollWidth, node.clientWidth]")
    assert inner <= outer


def test_a_result_is_scrolled_to(visit: Visit) -> None:
    page = filled(visit(width=390, height=844, touch=True, address="?tab=masking"), "masking")
    page.get_by_role("button", name="Many masks at once").tap()
    page.get_by_role("button", name="Draw 16 masks").tap()
    film = page.locator("#masking-film button").first
    expect(film).to_be_in_viewport()
    page.locator("#masking-film button").last.tap()  # its mask is shown far above
    expect(page.locator("#masked-view")).to_be_in_viewport()


@pytest.mark.parametrize(("width", "height", "touch"), SIZES, ids=["desk", "phone"])
def test_the_header_opens_about_and_escape_closes_it(visit: Visit, width: int, height: int, touch: bool) -> None:
    page = filled(visit(width=width, height=height, touch=touch), "classify")
    panel, button = page.get_by_role("dialog", name="About this page"), page.get_by_role("button", name="About")
    expect(panel).to_have_count(0)  # a closed panel is there for nobody
    button.click()
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("Masked Siamese Networks")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(button).to_be_focused()


def test_the_first_tab_stop_skips_to_the_open_tab(visit: Visit) -> None:
    page = filled(visit(address="?tab=masking"), "masking")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the work")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    address = page.url
    page.keyboard.press("Enter")
    expect(page.locator("#tab-masking")).to_be_focused()
    assert page.url == address


def test_labels_pass_under_the_picture_that_stays_in_sight(phone: Page) -> None:
    phone.get_by_role("tab", name="Masking", exact=True).click()
    expect(phone.locator("#tab-masking .msn-map img")).to_be_visible()
    expect(phone.locator("#tab-masking .msn-figures")).to_be_visible()
    label = phone.locator("#tab-masking").get_by_text("Mask", exact=True).first
    covered = """(label) => {
      scrollBy(0, label.getBoundingClientRect().top - 120);
      const box = label.getBoundingClientRect();
      return document.elementFromPoint(box.left + 4, box.top + box.height / 2)?.closest(".msn-map") !== null;
    }"""
    assert label.evaluate(covered)


@pytest.mark.parametrize("tab", ["Classify", "Masking"])
def test_the_longest_figure_of_a_bar_is_on_one_line(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()
    figure = page.locator(f"#tab-{tab.lower()} .msn-bar-value", has_text="over").first
    expect(figure).to_be_visible()
    fits = """(one) => one.scrollWidth <= one.clientWidth
      && one.clientHeight < 1.7 * parseFloat(getComputedStyle(one).fontSize)"""
    assert figure.evaluate(fits)


@pytest.mark.parametrize(("width", "height", "touch"), SIZES, ids=["desk", "phone"])
@pytest.mark.parametrize("tab", ["attention", "masking"])
def test_a_pictures_icons_are_whole_and_cover_no_patch(
    visit: Visit, tab: str, width: int, height: int, touch: bool
) -> None:
    page = filled(visit(width=width, height=height, touch=touch, address=f"?tab={tab}"), tab)
    for place in (page.locator(f"#picture-{tab}"), page.locator(f"#tab-{tab} .msn-map")):
        expect(place.locator("img")).to_be_visible()
        whole, tools, image = (box(one) for one in (place, place.locator(".icon-button-wrapper"), place.locator("img")))
        assert whole["y"] <= tools["y"]
        assert tools["bottom"] <= image["y"] + (4 if place.get_attribute("id") == f"picture-{tab}" else 0)
    page.mouse.wheel(0, 400)
    page.wait_for_function("window.scrollY > 300")
    assert box(page.locator(f"#tab-{tab} .msn-map .icon-button-wrapper button").first)["y"] >= 0


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_words_and_figures_stay_inside_their_tiles_and_columns(visit: Visit, width: int, language: str) -> None:
    address = f"?tab=masking&lang={language}"
    page = filled(visit(width=width, touch=width < 500, address=address), "masking")
    page.locator("#tab-masking button.label-wrap").filter(has_text="rototyp").first.click()
    expect(page.locator(".msn-wall small").first).to_be_visible()
    outside = """() => [...document.querySelectorAll(".msn-wall button, .msn-protos dl > div")].flatMap((box) =>
      [...box.querySelectorAll("b, small, dd, dt, span:not(.msn-tiles)")].filter((one) => {
        const words = document.createRange();
        words.selectNodeContents(one);
        const edge = box.getBoundingClientRect(), its = words.getBoundingClientRect();
        return one.offsetParent && its.width && (its.right > edge.right || its.left < edge.left);
      }).map((one) => one.textContent))"""
    assert page.evaluate(outside) == []
    page.goto(page.url.partition("?")[0] + f"?tab=learn&step=7&lang={language}")
    expect(page.locator("#step-7 .msn-protos").first).to_be_visible()
    assert page.evaluate(outside) == []


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("width", [1280, 1440, 1920])
def test_the_names_of_the_models_that_are_here_fit_their_menu(visit: Visit, width: int, language: str) -> None:
    page = filled(visit(width=width, address=f"?tab=classify&lang={language}"), "classify")
    menu = page.get_by_role("combobox").first
    menu.click()
    page.get_by_role("option").nth(1).click()
    expect(menu).to_have_value(re.compile("MSN"))
    assert menu.evaluate("one => one.scrollWidth <= one.clientWidth")


def test_a_click_opens_a_menu_again_that_escape_has_closed(page: Page) -> None:
    menu, options = page.get_by_role("combobox", name="Model"), page.get_by_role("option")
    for _ in range(3):
        menu.click()
        expect(options.first).to_be_visible()
        page.keyboard.press("Escape")
        expect(options).to_have_count(0)
        expect(menu).to_be_focused()
    menu.click()
    options.nth(1).click()
    expect(menu).to_have_value(re.compile("MSN only"))
