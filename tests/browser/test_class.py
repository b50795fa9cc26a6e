"""Class mode: a projector and a phone in two browsers, on a server of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.hands import hold, sentence
from tests.support.app import Served, serving, until

STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
DIALOG = [[".msn-class"]]  # the page under it has tests of its own


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`python app.py --share-local`."""
    with serving(tmp_path_factory.mktemp("class") / "app.log", "--share-local") as app:
        yield app


def lead(visit: Callable[..., Page], width: int = 1440, height: int = 900, dark: bool = False) -> Page:
    """The teacher's page, with a class that nobody has played in."""
    page = visit(width=width, height=height, dark=dark)
    expect(page.locator(".msn-status")).to_contain_text("px")
    page.on("dialog", lambda asked: asked.accept())
    door, screen = page.get_by_role("button", name="Class", exact=True), page.locator("[data-phones]")
    door.click()
    expect(screen).to_be_visible()
    page.get_by_role("button", name="Close the class").click()  # with what an earlier test left
    expect(page.locator("dialog.msn-class")).to_be_hidden()
    door.click()
    expect(screen).to_be_visible()
    return page


def join(visit: Callable[..., Page], dark: bool = False) -> Page:
    page = visit(width=390, height=844, touch=True, dark=dark, address="class")
    expect(sentence(page, "You are in.")).to_be_visible()
    return page


def begin(teacher: Page, phone: Page) -> None:
    teacher.locator("dialog.msn-class [data-example=coffee]").click()
    expect(phone.locator("[data-cell]")).to_have_count(64)
    expect(teacher.get_by_role("heading", name="Keep espresso with the fewest patches")).to_be_visible()


def test_a_lesson_from_the_code_to_the_board(visit: Callable[..., Page], served: Served) -> None:
    until(lambda: "The teacher's code" in served.said())
    assert "/class" in served.said()
    teacher = lead(visit)
    phone = join(visit)
    expect(teacher.locator("[data-phones]")).to_have_text("1")
    begin(teacher, phone)

    box = phone.locator("[data-cell='9']").bounding_box()
    assert box is not None and box["width"] >= 44 and box["height"] >= 44
    assert phone.evaluate("document.querySelector('dialog.msn-class').scrollWidth") <= 390

    for column in (1, 2, 3):
        phone.get_by_role("button", name=f"Row 1, column {column}", exact=True).tap()
    answer = phone.locator("[data-answer]")
    expect(answer).to_contain_text(re.compile(r"61 of 64 left: still espresso, (over )?\d+\s%\."))
    row = teacher.locator("[data-board] li[data-phone='1']")
    expect(row.locator("b")).to_have_text("61")
    expect(row).to_contain_text("Phone 1")

    phone.get_by_label("Another nickname?").fill("<b>Ada</b>")
    phone.get_by_role("button", name="Save").tap()
    expect(row).to_contain_text("<b>Ada</b>")
    phone.get_by_role("button", name="Drop 10 at random").tap()
    expect(answer).to_contain_text("51 of 64 left")
    phone.get_by_role("button", name="Undo").tap()
    expect(answer).to_contain_text("61 of 64 left")
    phone.get_by_role("button", name="Reset").tap()
    expect(answer).to_contain_text("64 of 64 left")
    expect(phone.locator("[data-cell][aria-pressed=true]")).to_have_count(0)
    expect(teacher.get_by_text("A random choice", exact=True)).to_be_visible()

    phone.reload()  # a phone that slept
    expect(phone.locator("[data-best]")).to_contain_text("Your best:")
    expect(phone.locator("[data-title]")).to_have_text("<b>Ada</b>")
    teacher.get_by_role("button", name="Take the nickname <b>Ada</b> away").click()
    expect(phone.locator("[data-title]")).to_have_text("Phone 1")

    teacher.get_by_role("button", name="New round").click()
    teacher.get_by_role("button", name="The same picture again").click()
    expect(teacher.get_by_text("No result yet.")).to_be_visible()
    expect(phone.locator("[data-best]")).to_have_text("")
    teacher.get_by_role("button", name="Close the class").click()
    expect(phone.get_by_text("The class was closed")).to_be_visible()
    phone.get_by_role("button", name="Join again").tap()
    expect(sentence(phone, "You are in.")).to_be_visible()


def test_the_keyboard_alone_is_enough(visit: Callable[..., Page]) -> None:
    teacher = lead(visit)
    phone = join(visit)
    begin(teacher, phone)
    hold(phone.locator("[data-cell='0']"))
    for key in ("ArrowRight", "ArrowDown", "Space"):
        phone.keyboard.press(key)
    expect(phone.get_by_role("button", name="Row 2, column 2", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(phone.locator("[data-answer]")).to_contain_text("63 of 64 left")
    phone.keyboard.press("End")
    phone.keyboard.press("Enter")
    expect(phone.locator("[data-cell='63']")).to_have_attribute("aria-pressed", "true")
    expect(phone.locator("[data-answer]")).to_contain_text("62 of 64 left")
    phone.keyboard.press("Escape")
    expect(phone.locator("dialog.msn-class")).to_be_hidden()
    hold(phone.get_by_role("button", name="Class", exact=True))
    phone.keyboard.press("Enter")
    expect(phone.locator("[data-cell='63']")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_dialog_has_no_violations(visit: Callable[..., Page], dark: bool) -> None:
    teacher = lead(visit, dark=dark)
    phone = join(visit, dark=dark)
    phone.get_by_text("I am the teacher").tap()
    faults = [*complaints(teacher, "projector, waiting"), *complaints(phone, "phone, waiting")]
    begin(teacher, phone)
    phone.locator("[data-cell='0']").tap()
    expect(phone.locator("[data-board] li[data-phone]")).to_have_count(1)
    expect(phone.locator("[data-answer][aria-busy]")).to_have_count(0)
    expect(teacher.locator("[data-board] li[data-phone]")).to_have_count(1)
    teacher.get_by_role("button", name="New round").click()
    faults += [*complaints(teacher, "projector, playing"), *complaints(phone, "phone, playing")]
    assert not faults, "\n".join(faults)


def complaints(page: Page, where: str) -> list[str]:
    found = Axe().run(page, context={"include": DIALOG}, options={"runOnly": STANDARDS})
    return [
        f"{where}: {violation['id']} ({violation['help']}): {node['html'][:200]}"
        for violation in found.response["violations"]
        for node in violation["nodes"]
    ]
