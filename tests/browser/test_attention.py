"""The Attention tab as a person uses it: mouse, keyboard, phone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.hands import hold

ADDRESS = "?tab=attention"


def said(page: Page) -> Locator:
    return page.locator(".msn-sentence:visible")


def shown(page: Page) -> Locator:
    return page.locator("#attention-map img")


@pytest.fixture
def attention(visit: Callable[..., Page]) -> Page:
    page = visit(address=ADDRESS, height=1200)
    expect(said(page)).to_contain_text("looks most at row")
    return page


def test_opens_with_an_answer(attention: Page) -> None:
    expect(said(attention)).to_contain_text(
        re.compile(r"^In layer \d+, mean of heads, CLS looks most at row \d+, column \d+: ")
    )
    expect(shown(attention)).to_have_attribute(
        "alt", re.compile(r"^Attention of layer \d+, mean of heads, peak at row")
    )
    expect(attention.locator(".msn-scale:visible").first).to_contain_text("of the attention, on one patch")
    expect(attention.get_by_text("most focused: half of its attention falls on")).to_be_visible()


def test_at_most_five_controls_are_visible(attention: Page) -> None:
    controls = attention.locator(".msn-controls:visible .block:visible")
    expect(attention.get_by_role("slider", name="range slider for Layer")).to_be_visible()
    names = controls.evaluate_all("all => all.filter(e => e.querySelector('input, select')).map(e => e.innerText)")
    assert 1 <= len(names) <= 5, names


def test_the_layer_slider_and_the_head_chooser(attention: Page) -> None:
    layer = attention.get_by_role("slider", name="range slider for Layer")
    hold(layer)
    attention.keyboard.press("Home")
    expect(said(attention)).to_contain_text("In layer 1, mean of heads")
    attention.keyboard.press("ArrowRight")
    expect(said(attention)).to_contain_text("In layer 2, mean of heads")
    head = attention.get_by_label("Head", exact=True)
    head.click()
    attention.get_by_role("option", name="head 3", exact=True).click()
    expect(said(attention)).to_contain_text("In layer 2, head 3")
    expect(attention.get_by_role("button", name="Layer 2, head 3:")).to_have_attribute("aria-pressed", "true")
    expect(attention).to_have_url(re.compile(r"layer=2"))
    expect(attention).to_have_url(re.compile(r"head=3"))


def test_a_small_map_is_enlarged_by_a_click(attention: Page) -> None:
    attention.get_by_role("button", name="Layer 3, head 2:").click()
    expect(said(attention)).to_contain_text("In layer 3, head 2, CLS")
    expect(attention.get_by_role("slider", name="range slider for Layer")).to_have_value("3")
    expect(attention.get_by_role("button", name="Layer 3, head 2:")).to_have_attribute("aria-pressed", "true")


def test_the_small_maps_by_keyboard(attention: Page) -> None:
    maps = attention.get_by_role("group", name="What CLS looks at in every layer and head")
    hold(maps.locator("button[tabindex='0']"))
    attention.keyboard.press("ArrowLeft")
    attention.keyboard.press("ArrowDown")
    attention.keyboard.press("Enter")
    expect(said(attention)).to_contain_text(re.compile(r"In layer \d+, head 2, CLS"))
    chosen = attention.locator(".msn-heads-grid button[aria-pressed='true']")
    expect(chosen).to_be_focused()
    attention.keyboard.press("ArrowDown")
    attention.keyboard.press(" ")
    expect(said(attention)).to_contain_text("head 3, CLS")


@pytest.mark.parametrize("where", ["#attention-map img", "#picture-attention img"])
def test_a_click_shows_what_a_patch_attends_to(attention: Page, where: str) -> None:
    picture = attention.locator(where)
    box = picture.bounding_box()
    assert box
    picture.click(position={"x": box["width"] * 0.5 + 3, "y": box["height"] * 0.5 + 3})
    expect(said(attention)).to_contain_text(re.compile(r"the patch at row 5, column 5 looks most at row"))
    expect(attention.get_by_label("From a patch", exact=True)).to_be_checked()
    expect(shown(attention)).to_have_attribute("alt", re.compile(r"Attention of layer"))


def test_a_patch_by_keyboard(attention: Page) -> None:
    more = attention.locator(".msn-controls:visible").get_by_role("button", name="More")
    hold(more)
    attention.keyboard.press("Enter")
    row = attention.get_by_label("Row (1 to 8)")
    expect(row).to_be_visible()
    row.fill("2")
    expect(said(attention)).to_contain_text("the patch at row 2, column 1")
    attention.get_by_label("Column (1 to 8)").fill("7")
    expect(said(attention)).to_contain_text("the patch at row 2, column 7")
    row.fill("99")
    expect(said(attention)).to_contain_text("the patch at row 8, column 7")
    row.fill("-3")
    expect(attention.locator(".msn-notice:visible")).to_contain_text("Row is -3; it must be from 1")
    row.fill("3")
    expect(said(attention)).to_contain_text("the patch at row 3, column 7")
    expect(attention.locator(".msn-notice:visible")).to_have_count(0)


def test_rollout_goes_through_all_layers(attention: Page) -> None:
    attention.get_by_label("Rollout", exact=True).check()
    expect(said(attention)).to_contain_text(
        re.compile(r"^Through layers 1 to \d+, row \d+, column \d+ reaches CLS most: ")
    )
    expect(attention.get_by_role("slider", name="range slider for Layer")).to_be_disabled()
    attention.locator(".msn-controls:visible").get_by_role("button", name="More").click()
    start = attention.get_by_role("slider", name="range slider for Back to layer")
    hold(start)
    attention.keyboard.press("ArrowRight")
    expect(said(attention)).to_contain_text("Through layers 2 to")
    attention.get_by_label("CLS", exact=True).check()
    expect(attention.get_by_role("slider", name="range slider for Layer")).to_be_enabled()


def test_keep_a_mass_and_more_detail(attention: Page) -> None:
    keep = attention.get_by_role("slider", name="range slider for Strongest patches only, %")
    hold(keep)
    for _ in range(8):
        attention.keyboard.press("ArrowLeft")
    expect(said(attention)).to_contain_text(re.compile(r"60\s% of the attention on patches is on \d+ of 64 patches"))
    attention.get_by_label("128", exact=True).check()
    expect(said(attention)).to_contain_text(re.compile(r"60\s% of the attention on patches is on \d+ of 256 patches"))
    expect(attention.locator(".msn-status")).to_contain_text("256 patches")


def test_another_picture_gets_another_answer(attention: Page) -> None:
    before = shown(attention).get_attribute("src")
    assert before
    attention.locator("#tab-attention, .tabitem:visible").get_by_role("button", name="Example: A tabby cat").click()
    expect(shown(attention)).not_to_have_attribute("src", before)
    expect(attention.locator("#picture-attention img")).to_have_attribute("alt", "A tabby cat")


def test_a_link_restores_the_controls(visit: Callable[..., Page]) -> None:
    page = visit(address="?tab=attention&kind=cls&layer=2&head=1")
    expect(said(page)).to_contain_text("In layer 2, head 1, CLS")


def test_a_link_beyond_the_model_opens_the_nearest_map(visit: Callable[..., Page]) -> None:
    page = visit(address="?tab=attention&kind=eyes&layer=60&head=40")
    expect(said(page)).to_contain_text(re.compile(r"In layer \d+, mean of heads, CLS"))


def test_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit(width=390, height=844, touch=True, address=ADDRESS)
    expect(said(page)).to_contain_text("looks most at row")
    places = [
        page.locator(where).first.bounding_box()
        for where in (
            "#picture-attention",
            "#attention-map",
            ".msn-sentence:visible",
            ".msn-controls:visible",
            ".msn-heads",
        )
    ]
    tops = [place["y"] for place in places if place]
    assert len(tops) == 5 and tops == sorted(tops), "picture, answer, controls, all heads"
    expect(page.locator(".msn-heads-grid button").last).to_be_visible()
    smallest = page.locator(".msn-heads-grid button").evaluate_all(
        "all => Math.min(...all.map(e => Math.min(e.offsetWidth, e.offsetHeight)))"
    )
    assert smallest >= 44
    box = shown(page).bounding_box()
    assert box
    shown(page).tap(position={"x": 20, "y": box["height"] - 20})
    expect(said(page)).to_contain_text("the patch at row 8, column 1")
    page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_sorted_heads_relevance_and_colors_by_keyboard_and_in_the_address(visit: Callable[..., Page]) -> None:
    page = visit(address=ADDRESS, height=1200)
    expect(said(page)).to_contain_text("looks most at row")
    hold(page.get_by_role("radio", name="Layer", exact=True))  # the order of the maps: the next pill is "Most focused"
    page.keyboard.press("Tab")
    page.keyboard.press(" ")
    expect(page.get_by_text("Most focused first; the numbers are layer.head.")).to_be_visible()
    first = page.locator(".msn-sorted button[data-x='1'][data-y='1']")
    hold(first)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".msn-sorted button[data-x='2'][data-y='1']")).to_have_attribute("aria-pressed", "true")
    expect(said(page)).to_contain_text(re.compile(r"In layer \d, head \d, CLS"))
    page.get_by_label("Relevance", exact=True).check()
    expect(said(page)).to_contain_text(re.compile(r"^Through layers 1 to \d+, row \d+, column \d+ speaks for "))
    expect(page.get_by_text(re.compile("^Answer: espresso")).first).to_be_visible()
    page.get_by_label("Like a patch", exact=True).check()
    expect(said(page)).to_contain_text("is most like row")
    page.get_by_role("radio", name="Colors", exact=True).check()
    expect(said(page)).to_contain_text("three components explain")
    expect(page.locator(".msn-components img")).to_have_count(3)
    expect(page).to_have_url(re.compile(r"kind=colors"))
    again = visit(address="?" + page.url.split("?")[1], height=1200)
    expect(said(again)).to_have_text(said(page).inner_text())
    expect(again.get_by_label("Most focused")).to_be_checked()


def test_compare_and_download(attention: Page) -> None:
    attention.get_by_role("button", name="Compare").click()
    attention.get_by_label("Random weights", exact=True).check()
    both = attention.locator("#attention-compare")
    expect(both.locator("figure")).to_have_count(2)
    expect(both.locator(".msn-ramp")).to_have_count(1)
    expect(both).to_contain_text(re.compile(r"The two attention maps overlap by \d+\s%"))
    attention.get_by_role("button", name="Download the map").click()
    attention.get_by_role("button", name="Prepare the files").click()
    links = attention.locator("#attention-files a")
    expect(links).to_have_count(3)
    with attention.expect_download() as waiting:
        links.nth(1).click()
    assert waiting.value.suggested_filename.endswith("-cls.npz")
    attention.get_by_role("button", name="All heads, layer by layer").click()
    expect(attention.get_by_role("img", name="Mean distance, patches of every head")).to_be_visible()


def test_the_film_of_layers_plays_and_goes_on_with_new_maps(attention: Page) -> None:
    attention.get_by_role("button", name="Film of layers").click()
    film = attention.locator("#attention-film")
    slider, last = film.get_by_role("slider"), film.locator("output").inner_text()
    assert last.endswith(slider.get_attribute("max") or "?")
    slider.focus()
    attention.keyboard.press("Home")
    expect(film.locator("figcaption")).to_contain_text("Layer 1, mean of heads: CLS looks most at row")
    first = film.locator("canvas").evaluate("one => one.toDataURL()")
    film.get_by_role("button", name="Play").click()
    expect(film.locator("output")).to_contain_text("layer 3 of")
    assert film.locator("canvas").evaluate("one => one.toDataURL()") != first
    attention.get_by_label("Head", exact=True).click()
    attention.get_by_role("option", name="head 2", exact=True).click()
    expect(film.locator("figcaption")).to_contain_text("head 2: CLS")
    expect(film.locator("output")).to_have_text(last)
    expect(film.get_by_role("button", name="Play")).to_be_visible()


def test_the_live_camera_shows_where_the_model_looks(visit: Callable[..., Page]) -> None:
    page = visit(address=ADDRESS, height=1200, camera=True)
    expect(said(page)).to_contain_text("looks most at row")
    page.get_by_role("button", name="Live camera").first.click()
    live = page.locator("#attention-live")
    live.get_by_role("button", name="Live camera").click()
    answer = page.locator("#attention-live-said")
    expect(answer.locator("img")).to_have_attribute("alt", re.compile(r"^Attention of layer \d+, mean of heads"))
    expect(live.get_by_role("status")).to_contain_text("answers a second")
    live.get_by_role("button", name="Stop the camera").click()
    expect(live.locator("video")).to_be_hidden()
