"""The Explore tab as a person uses it: the map, the list beside it, UMAP, phone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.hands import hold

Visit = Callable[..., Page]
COMPILING = 240_000  # milliseconds: the first UMAP of a machine is compiled


@pytest.fixture
def page(visit: Visit) -> Page:
    """The tab with its starter set, on a desktop."""
    opened = visit(address="?tab=explore&set=textures")
    expect(opened.locator(".msn-gallery li")).to_have_count(48)
    return opened


def test_it_opens_with_drawn_shapes(visit: Visit) -> None:
    page = visit(address="?tab=explore")
    expect(page.locator(".msn-gallery li")).to_have_count(80)
    expect(page.locator(".msn-legend")).to_contain_text("striped disk")
    page.get_by_role("tab", name="Few-shot", exact=True).click()  # the same set
    expect(page.locator("#fewshot-examples .msn-card")).to_have_count(8)


def drawn(page: Page) -> None:
    """Wait until the canvas has its size and thousands of its pixels are drawn."""
    page.wait_for_function(
        """() => {
            const c = document.querySelector('.msn-map canvas');
            if (c.width <= 300) return false;
            const bytes = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            return bytes.filter((v, i) => i % 4 == 3 && v).length > 3000;
        }"""
    )


def test_the_map_and_the_list_are_linked_both_ways(page: Page) -> None:
    expect(page.locator(".msn-legend")).to_contain_text("brick")
    drawn(page)
    first = page.locator(".msn-gallery button").first
    hold(first)  # the same by keyboard
    tip = page.locator(".msn-tip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("brick")
    expect(tip.locator("img")).to_have_attribute("src", re.compile("^data:image/webp"))
    first.press("Enter")
    expect(first).to_have_attribute("aria-pressed", "true")

    # the ring says where the point is: half-way along its data
    place = page.locator(".msn-map").evaluate(
        """map => {
            const point = JSON.parse(map.dataset.points).find((one) => one.n.endsWith("gravel"));
            const canvas = map.querySelector("canvas"), size = 11, box = canvas.getBoundingClientRect();
            const scale = Math.min(box.width, box.height) / 2 - 2 * size;
            const wide = Math.min(1.6, (box.width / 2 - 2 * size) / scale);
            return [box.width / 2 + point.x * scale * wide, box.height / 2 - point.y * scale];
        }"""
    )
    page.locator(".msn-map canvas").click(position={"x": place[0], "y": place[1]})
    expect(tip).to_contain_text(re.compile("gravel|query"))
    expect(first).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".msn-gallery button[aria-pressed=true]")).to_have_count(1)


def test_a_lasso_selects_points_and_gives_them_a_class(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 1400})  # the whole map is visible
    drawn(page)
    box = page.locator(".msn-map canvas").bounding_box()
    assert box is not None
    right, bottom = box["width"] - 14, box["height"] - 14  # the map's corners are round
    corners = [(14, 14), (right, 14), (right, bottom), (14, bottom), (14, 14)]
    page.mouse.move(box["x"] + 14, box["y"] + 14)
    page.mouse.down()
    for x, y in corners:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.mouse.up()
    bar = page.get_by_role("group", name="Chosen pictures").filter(visible=True)
    expect(bar).to_contain_text("48 chosen")
    bar.get_by_role("button", name="Clear selection").click()
    first, second = page.locator(".msn-gallery button").nth(0), page.locator(".msn-gallery button").nth(1)
    first.click()
    second.click(modifiers=["Shift"])
    expect(bar).to_contain_text("2 chosen")
    bar.get_by_placeholder("New class").fill("wall <b>")
    bar.get_by_placeholder("New class").press("Enter")
    expect(page.locator(".msn-legend")).to_contain_text("wall <b> 2")
    expect(bar).to_have_count(0)  # the selection is cleared
    page.get_by_role("button", name="Undo: moved 2 pictures to wall").filter(visible=True).click()
    expect(page.locator(".msn-legend")).not_to_contain_text("wall")
    page.get_by_label("Mislabelled?").check()
    expect(page.get_by_text("named differently when hidden")).to_be_visible()
    page.get_by_label("Pictures as points").uncheck()
    expect(page.locator(".msn-map")).to_have_attribute("data-faces", "")


def test_umap_comes_when_it_is_ready(page: Page) -> None:
    page.get_by_label("UMAP").check()
    expect(page.get_by_text("UMAP keeps neighbors together")).to_be_visible(timeout=COMPILING)
    expect(page.get_by_text("15 neighbors, least distance 0.1, seed 0")).to_be_visible()
    expect(page.get_by_label("UMAP")).to_be_checked()
    expect(page).to_have_url(re.compile("map=umap"))
    page.get_by_label("PCA").check()
    expect(page.get_by_text(re.compile("^PCA: the two directions"))).to_be_visible()
    page.get_by_label("UMAP").check()  # kept: at once
    expect(page.get_by_text("UMAP keeps neighbors together")).to_be_visible()


def test_it_shows_the_examples_of_few_shot(page: Page) -> None:
    page.get_by_label("Show the queries too").uncheck()
    expect(page.locator(".msn-gallery li")).to_have_count(24)
    page.locator(".msn-gallery button").first.click()
    expect(page.locator(".msn-gallery [aria-pressed=true]")).to_have_count(1)
    page.get_by_role("button", name="Change the examples").click()
    expect(page.get_by_role("tab", name="Few-shot", exact=True)).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="Handwritten digits").click()
    expect(page.locator("#fewshot-examples .msn-card")).to_have_count(10)
    page.get_by_role("tab", name="Explore", exact=True).click()
    expect(page.locator(".msn-gallery li")).to_have_count(60)
    expect(page.locator(".msn-legend li")).to_have_count(10)
    expect(page.locator(".msn-gallery [aria-pressed=true]")).to_have_count(0)  # the id belonged to another picture


def test_on_a_phone_in_dark_mode(visit: Visit) -> None:
    phone = visit(width=390, height=844, touch=True, dark=True, address="?tab=explore&set=textures")
    expect(phone.locator(".msn-gallery li")).to_have_count(48)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    expect(phone.get_by_role("button", name="Draw with a finger")).to_be_visible()
    edge = phone.get_by_label("Mislabelled?").locator("xpath=..").bounding_box()
    assert edge is not None and edge["x"] + edge["width"] <= 390  # all controls are within the screen
    drawn(phone)
    phone.locator(".msn-gallery button").nth(5).tap()
    expect(phone.locator(".msn-tip")).to_be_visible()


def test_a_search_zoom_and_an_order_find_the_picture(page: Page) -> None:
    drawn(page)
    shown = page.locator(".msn-gallery li:not([hidden])")
    page.get_by_label("Search by class or file name").fill("Grass")
    expect(shown).to_have_count(16)  # eight examples by their class, eight queries by their file names
    expect(page.locator("[data-found]")).to_have_text("16 of 48")
    page.get_by_label("Pictures as points").uncheck()  # a new map keeps the search
    expect(page.locator(".msn-map")).to_have_attribute("data-faces", "")
    expect(page.get_by_label("Search by class or file name")).to_have_value("Grass")
    expect(shown).to_have_count(16)
    page.get_by_label("Search by class or file name").fill("")
    expect(shown).to_have_count(48)

    page.get_by_label("Order of the list").select_option("doubt")
    doubts = page.evaluate(
        """() => {
            const points = JSON.parse(document.querySelector(".msn-map").dataset.points);
            const known = new Map(points.map((point) => [point.id, point.u]));
            return [...document.querySelectorAll(".msn-gallery button")].map((one) => known.get(one.dataset.id));
        }"""
    )
    assert len(doubts) == 48 and doubts == sorted(doubts, reverse=True) and doubts[0] > 0.2

    before = page.locator(".msn-map canvas").evaluate("canvas => canvas.toDataURL()")
    for button in ("Zoom in", "Move right"):
        page.get_by_role("button", name=button).click()
        after = page.locator(".msn-map canvas").evaluate("canvas => canvas.toDataURL()")
        assert after != before
        before = after

    small = page.locator(".msn-gallery img").first.bounding_box()
    page.get_by_label("Picture size").fill("40")
    large = page.locator(".msn-gallery img").first.bounding_box()
    assert small is not None and large is not None and large["width"] > 1.5 * small["width"]

    page.locator(".msn-gallery button").first.click()
    preview = page.locator(".msn-tip.msn-large img")
    expect(preview).to_be_visible()
    size = preview.bounding_box()
    assert size is not None and size["width"] >= 256
