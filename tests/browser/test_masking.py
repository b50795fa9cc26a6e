"""The Masking tab as a person uses it: mouse, keyboard, phone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.hands import hold

ADDRESS = "?tab=masking"


def said(page: Page) -> Locator:
    return page.locator(".msn-right .msn-sentence:visible")


def shown(page: Page) -> Locator:
    return page.locator("#masked-view img")


def words(page: Page) -> Locator:
    return page.get_by_label("Hidden patches")


@pytest.fixture
def masking(visit: Callable[..., Page]) -> Page:
    page = visit(address=ADDRESS, height=1200)
    expect(said(page)).to_contain_text("With 19 of 64 patches left")
    return page


def test_opens_with_an_answer(masking: Page) -> None:
    expect(said(masking)).to_contain_text(
        re.compile(r"still says espresso \(similarity [\d.]+; unrelated pictures: 0\)")
    )
    expect(shown(masking)).to_have_attribute("alt", "Random mask: 19 of 64 patches are left")
    figures = masking.locator(".msn-figures")
    expect(figures).to_contain_text("19 of 64")
    expect(figures).to_contain_text("similarity to the full picture")
    expect(masking.get_by_text("Similarity: 1 = same, 0 = unrelated.").first).to_be_visible()
    expect(masking.get_by_role("img", name="Similarity to the full picture by mask ratio")).to_be_visible()
    expect(masking.get_by_text("Dots: random masks; line: their mean")).to_be_visible()


def test_at_most_five_controls_are_visible(masking: Page) -> None:
    for kind in ("Random", "Painted"):
        masking.get_by_label(kind, exact=True).check()
        expect(words(masking)).to_be_visible(visible=kind == "Painted")
        for name, of in (("New mask", "Random"), ("Invert", "Painted"), ("Show all", "Painted")):
            expect(masking.get_by_role("button", name=name)).to_be_visible(visible=kind == of)
        controls = masking.locator(".msn-controls:visible").locator(
            ".block:visible:has(input, textarea), button.lg:visible"
        )
        assert 1 <= controls.count() <= 5


def test_the_ratio_by_keyboard(masking: Page) -> None:
    ratio = masking.get_by_role("slider", name="range slider for Mask ratio, %")
    hold(ratio)
    masking.keyboard.press("Home")
    expect(said(masking)).to_contain_text("Nothing is hidden")
    hold(ratio)
    for _ in range(10):
        masking.keyboard.press("ArrowRight")
    expect(said(masking)).to_contain_text("With 32 of 64 patches left")
    expect(masking).to_have_url(re.compile("hidden=50"))


def test_again_draws_another_mask(masking: Page) -> None:
    expect(shown(masking)).to_have_attribute("alt", "Random mask: 19 of 64 patches are left")
    before = shown(masking).get_attribute("src")
    assert before
    masking.get_by_role("button", name="New mask").click()
    expect(masking.get_by_label("Seed")).to_have_value("2")
    expect(shown(masking)).not_to_have_attribute("src", before)
    masking.get_by_label("Seed").fill("1")
    expect(shown(masking)).to_have_attribute("src", before)
    masking.get_by_label("Seed").fill("-1")
    expect(masking.locator(".msn-notice:visible")).to_contain_text("seed is -1; it must be from 0")


@pytest.mark.parametrize(("kind", "alt"), [("Focal", "Focal mask: "), ("Block", "Block mask: 19 of 64")])
def test_other_kinds(masking: Page, kind: str, alt: str) -> None:
    masking.get_by_label(kind, exact=True).check()
    expect(shown(masking)).to_have_attribute("alt", re.compile(alt))
    expect(masking.get_by_text(f"{kind.lower()} masks")).to_be_visible()


@pytest.mark.parametrize("where", ["#masked-view img", "#picture-masking img"])
def test_a_click_toggles_a_patch(masking: Page, where: str) -> None:
    masking.get_by_label("Painted", exact=True).check()
    expect(words(masking)).not_to_have_value("")  # wait for the mask that was there
    words(masking).fill("")
    words(masking).press("Enter")
    expect(said(masking)).to_contain_text("Nothing is hidden")
    box = masking.locator(where).bounding_box()
    assert box
    middle = {"x": box["width"] / 2 + 3, "y": box["height"] / 2 + 3}
    masking.locator(where).click(position=middle)
    expect(said(masking)).to_contain_text("With 63 of 64 patches left")
    expect(words(masking)).to_have_value("5.5")
    masking.locator(where).click(position=middle)
    expect(said(masking)).to_contain_text("Nothing is hidden")


def test_a_click_on_a_random_mask_starts_from_it(masking: Page) -> None:
    shown(masking).click(position={"x": 60, "y": 20})
    expect(masking.get_by_label("Painted", exact=True)).to_be_checked()
    expect(said(masking)).to_contain_text(re.compile("With (18|20) of 64 patches left"))


def test_a_fast_stroke_leaves_no_gaps(masking: Page) -> None:
    masking.get_by_label("Painted", exact=True).check()
    expect(words(masking)).not_to_have_value("")
    hold(masking.get_by_role("button", name="Show all"))
    masking.keyboard.press("Enter")
    expect(said(masking)).to_contain_text("Nothing is hidden")
    shown(masking).scroll_into_view_if_needed()
    box = shown(masking).bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 16, box["y"] + box["height"] / 16
    masking.mouse.move(x, y)
    masking.mouse.down()
    masking.mouse.move(x + box["width"] * 7 / 8, y)  # one movement, as in a fast drag
    masking.mouse.up()
    expect(words(masking)).to_have_value("1.1-1.8")


def test_painting_by_keyboard_alone(masking: Page) -> None:
    hold(masking.get_by_label("Random", exact=True))
    for _ in range(3):  # in Gradio each radio button is its own tab stop
        masking.keyboard.press("Tab")
    masking.keyboard.press(" ")
    expect(words(masking)).not_to_have_value("")  # it starts from the mask that was there
    expect(shown(masking)).to_have_attribute("alt", "Painted mask: 19 of 64 patches are left")
    words(masking).fill("1.1-4.8")
    words(masking).press("Enter")
    expect(said(masking)).to_contain_text("With 32 of 64 patches left")
    hold(masking.get_by_role("button", name="Invert"))
    masking.keyboard.press("Enter")
    expect(words(masking)).to_have_value("5.1-8.8")
    words(masking).fill("9.9")
    words(masking).press("Enter")
    expect(masking.locator(".msn-notice:visible")).to_contain_text("9.9 is outside the grid of 8 rows and 8 columns")
    hold(masking.get_by_role("button", name="Show all"))
    masking.keyboard.press("Enter")
    expect(said(masking)).to_contain_text("Nothing is hidden")
    expect(masking.locator(".msn-notice:visible")).to_have_count(0)


def test_patches_are_painted_with_arrow_keys_and_space(masking: Page) -> None:
    masking.get_by_label("Painted", exact=True).check()
    expect(words(masking)).not_to_have_value("")
    hold(masking.get_by_role("button", name="Show all"))
    masking.keyboard.press("Enter")
    expect(said(masking)).to_contain_text("Nothing is hidden")
    view, heard = masking.locator("#masked-view button:has(img)"), masking.locator("#msn-announcer")
    cursor = view.locator(".msn-patch-cursor")
    masking.get_by_role("button", name="Download").filter(visible=True).focus()
    masking.keyboard.press("Tab")
    expect(view).to_be_focused()
    expect(view).to_have_attribute("aria-description", re.compile("Arrow keys"))
    expect(cursor).to_be_visible()
    for key in ("End", "ArrowUp", "ArrowLeft"):
        masking.keyboard.press(key)
    expect(heard).to_have_text("Row 7, column 7: shown")
    image, box = shown(masking).bounding_box(), cursor.bounding_box()
    assert image and box
    assert [box["x"] - image["x"], box["y"] - image["y"], box["width"], box["height"]] == pytest.approx(
        [image["width"] * 6 / 8, image["height"] * 6 / 8, image["width"] / 8, image["height"] / 8], abs=1.5
    )
    for key in ("Space", "Enter"):
        masking.keyboard.press(key)
        expect(said(masking)).to_contain_text("63 of 64" if key == "Space" else "Nothing is hidden")
        expect(words(masking)).to_have_value("7.7" if key == "Space" else "")
        expect(view).to_be_focused()
        expect(cursor).to_be_visible()


def test_a_link_restores_the_controls(visit: Callable[..., Page]) -> None:
    page = visit(address="?tab=masking&mask=block&hidden=50&seed=3")
    expect(shown(page)).to_have_attribute("alt", "Block mask: 32 of 64 patches are left")
    expect(page.get_by_label("Seed")).to_have_value("3")


def test_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit(width=390, height=844, touch=True, address=ADDRESS)
    expect(said(page)).to_contain_text("With 19 of 64 patches left")
    places = [
        page.locator(where).first.bounding_box()
        for where in (
            "#picture-masking",
            "#masked-view",
            ".msn-sentence:visible",
            ".msn-controls:visible",
            ".msn-chart",
        )
    ]
    tops = [place["y"] for place in places if place]
    assert len(tops) == 5 and tops == sorted(tops), "picture, answer, controls, curve"
    shown(page).tap(position={"x": 20, "y": 20})
    expect(page.get_by_label("Painted", exact=True)).to_be_checked()
    page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_hide_until_the_answer_changes_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit(address=ADDRESS, height=1200)
    expect(page.locator("#masking-prototypes")).to_contain_text("Loss (cross-entropy):")
    expect(page.locator("#masking-attention figure")).to_have_count(2)
    for name in ("Hide patches until the answer changes", "Find the patches that decide"):
        hold(page.get_by_role("button", name=name))
        page.keyboard.press("Enter")
    way = page.locator("#masking-search [data-steps]").first
    expect(way).to_be_visible()
    gone, slider = way.locator(".msn-gone"), way.get_by_role("slider")
    hold(slider)
    page.keyboard.press("Home")
    expect(way.locator("output")).to_contain_text("0 of 64 hidden: still")
    expect(gone).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(gone).to_have_count(1)
    hold(way.get_by_role("button", name="Play"))
    page.keyboard.press("Enter")
    expect(slider).to_have_value(slider.get_attribute("max") or "")  # it plays to the end, and can be played again
    expect(way.get_by_role("button", name="Play")).to_be_visible()
    page.get_by_role("button", name="Many masks at once").click()
    page.get_by_role("button", name="Draw 16 masks").click()
    page.get_by_role("button", name=re.compile("^Take seed 5:")).click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("5")


def test_curves_and_batches_while_another_visitor_works(visit: Callable[..., Page]) -> None:
    page, other = (visit(address=ADDRESS, height=1200) for _ in range(2))
    page.get_by_role("button", name="Curves by mask ratio").click()
    page.get_by_role("button", name="Measure the curves").click()
    expect(page.locator("#masking-curves svg").first).to_be_visible()
    other.get_by_label("Focal", exact=True).check()
    expect(shown(other)).to_have_attribute("alt", re.compile("Focal mask: "))
    expect(shown(page)).to_have_attribute("alt", "Random mask: 19 of 64 patches are left")
    expect(page.locator("#masking-curves .msn-sentence")).to_contain_text("% hidden: similarity")
    expect(page.locator("#masking-curves svg").nth(2)).to_be_visible()  # and the times, unless the machine is busy
    page.get_by_role("button", name="Which pictures survive masking?").click()
    page.get_by_role("button", name="Use the example pictures").click()
    rows = page.locator("#masking-batch tbody tr")
    expect(rows.first).to_be_visible()
    page.locator("#masking-batch").get_by_role("button", name="File").click()
    expect(page.locator("#masking-batch th[aria-sort=ascending]")).to_contain_text("File")
    names = page.locator("#masking-batch tbody td:nth-child(2)").all_inner_texts()
    assert len(names) > 3 and names == sorted(names, key=str.casefold)


def test_the_prototype_wall_by_mouse_and_keyboard(masking: Page) -> None:
    near = masking.locator("#masking-nearest")
    expect(near.locator(".msn-sentence")).to_contain_text("With 70 % hidden")
    expect(near.locator(".msn-tile")).to_have_count(10)
    masking.get_by_role("button", name="Prototype wall").click()
    wall, one = masking.locator("#prototype-wall"), masking.locator("#prototype-opened")
    expect(wall.locator(".msn-sentence")).to_contain_text("of your picture's first 6 prototypes stay")
    first = wall.locator(".msn-wall button").first
    first.click()
    number = int(first.get_attribute("data-number") or "") + 1
    expect(one.locator(".msn-sentence")).to_contain_text(f"Prototype {number} is the first of")
    expect(one.locator("img")).to_have_count(8)
    # by the keyboard: the wall is one stop, arrows move in it
    masking.keyboard.press("ArrowRight")
    second = wall.locator(".msn-wall button").nth(1)
    expect(second).to_be_focused()
    masking.keyboard.press("Enter")
    number = int(second.get_attribute("data-number") or "") + 1
    expect(one.locator(".msn-sentence")).to_contain_text(f"Prototype {number} is the first of")
    expect(second).to_have_attribute("aria-pressed", "true")
    # nothing hidden: everything stays, here and above
    masking.locator("#masking-wall").get_by_label("Nothing").check()
    expect(wall.locator(".msn-sentence")).to_contain_text("Hide patches and watch which of them stay")
    expect(near.locator(".msn-sentence")).to_contain_text("Nothing is hidden")
    expect(wall.locator(".msn-card-stays")).to_have_count(6)
    expect(masking.get_by_label("number input for Mask ratio, %")).to_have_value("0")
