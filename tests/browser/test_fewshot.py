"""The Few-shot tab as a person uses it: from an empty page to predictions, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.hands import hold, sentence
from tests.support.ui import pictures, png
from tests.support.zips import zipped

Visit = Callable[..., Page]
NASTY = "<b>rings</b> $x^2$ ${1+1} {{value}}"
FORMULA = "=1+1"


def files(color: str, count: int, seed: int = 0) -> list[FilePayload]:
    made = pictures(color, count, seed)
    return [{"name": picture.name, "mimeType": "image/png", "buffer": png(picture)} for picture in made]


def card(page: Page, number: int) -> Locator:
    return page.locator("#fewshot-examples .msn-card").nth(number)


def answered(page: Page) -> Page:
    expect(page.locator(".msn-answers").first).to_be_visible()
    return page


@pytest.fixture
def page(visit: Visit) -> Page:
    """The tab with its starter set, on a desktop."""
    return answered(visit(address="?tab=fewshot"))


def named(page: Page, *names: str) -> Page:
    """Use own classes instead of the starter set."""
    page.get_by_role("button", name="Your own pictures").click()
    expect(sentence(page, "Add pictures to two classes")).to_be_visible()
    for number, name in enumerate(names):
        page.get_by_label("New class").fill(name)
        page.get_by_label("New class").press("Enter")
        expect(card(page, number).locator("[data-rename]")).to_have_value(name)
        expect(page.get_by_label("New class")).to_have_value("")
    return page


def choose_nearest(page: Page) -> None:
    page.get_by_label("Classifier").click()
    page.get_by_role("option", name="k nearest examples").click()
    expect(page.locator("#fewshot-trust")).to_contain_text("the most similar examples vote")


def test_it_opens_with_answers_and_a_set_is_one_click(page: Page) -> None:
    expect(page.locator("#fewshot-trust")).to_contain_text(
        re.compile(r"\d+ of 24 right \(\d+\s%\)\. On new pictures expect \d+.\d+\s%; guessing gets 33\s%")
    )
    expect(page.locator("#fewshot-try")).to_contain_text("of 24 new pictures named correctly")
    chosen = page.get_by_role("group", name="Chosen pictures").filter(visible=True)
    card(page, 0).locator("li button").first.click()
    expect(chosen).to_contain_text("1 chosen")
    page.get_by_role("button", name="Handwritten digits").click()
    expect(page.locator("#fewshot-examples .msn-card")).to_have_count(10)
    expect(chosen).to_have_count(0)  # the chosen picture belonged to another set
    expect(page.locator("#fewshot-trust")).to_contain_text("of 60 right (")
    expect(page).to_have_url(re.compile("set=digits"))


def test_from_an_empty_page_to_predictions(page: Page, tmp_path: Path) -> None:
    named(page, NASTY, FORMULA)
    card(page, 0).locator("input[type=file]").set_input_files(files("red", 2))
    expect(card(page, 0).locator("li")).to_have_count(2)
    card(page, 1).locator("input[type=file]").set_input_files([*files("blue", 2), *files("red", 1)])
    expect(card(page, 1).locator("li")).to_have_count(2)
    expect(page.get_by_role("alert")).to_contain_text("red-0.png is the same picture as red-0.png")
    expect(page.locator("#fewshot-trust")).to_contain_text("too few to judge")

    card(page, 0).locator("input[type=file]").set_input_files(files("red", 6))
    expect(card(page, 0).locator("li")).to_have_count(6)
    card(page, 1).locator("input[type=file]").set_input_files(files("blue", 6))
    expect(page.locator("#fewshot-trust")).to_contain_text("of 12 right")
    expect(page.get_by_role("region", name="Confusion matrix").locator("tbody tr")).to_have_count(2)

    ask = page.locator("#fewshot-try input[type=file]")
    ask.set_input_files([*files("red", 2, seed=1), *files("blue", 1, seed=1)])
    rows = page.locator(".msn-answers tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first.locator(".msn-near img")).to_have_count(3)
    expect(page.locator("#fewshot-try .msn-sentence")).to_contain_text("3 pictures:")
    assert page.locator("#fewshot-try b, #fewshot-examples b").count() == 0  # a name is text, not HTML

    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    download.value.save_as(tmp_path / "answers.csv")
    head, *lines = csv.reader((tmp_path / "answers.csv").read_text(encoding="utf-8-sig").splitlines())
    assert head[0] == "file" and len(lines) == 3
    assert not any(cell.startswith(("=", "+", "@")) for line in [head, *lines] for cell in line)


def test_remove_rename_and_undo(page: Page) -> None:
    for number in (0, 1):
        card(page, 0).locator("li button").nth(number).click()
    chosen = page.get_by_role("group", name="Chosen pictures").filter(visible=True)
    expect(chosen).to_contain_text("2 chosen")
    chosen.get_by_role("button", name="Remove").click()
    expect(card(page, 0).locator("li")).to_have_count(6)
    page.get_by_role("button", name="Undo: removed 2 pictures from brick").click()
    expect(card(page, 0).locator("li")).to_have_count(8)
    card(page, 0).locator("li button").first.click()
    chosen.get_by_label("Move the chosen pictures to").select_option("grass")
    expect(card(page, 1).locator("li")).to_have_count(9)
    page.get_by_role("button", name=re.compile("^Undo: moved")).click()
    expect(card(page, 1).locator("li")).to_have_count(8)  # wait until it is drawn again, which closes open menus
    card(page, 0).get_by_label("More for class brick").click()
    card(page, 0).get_by_role("button", name="Pause this class").click()
    expect(page.locator("#fewshot-trust")).to_contain_text("of 16 right")
    page.get_by_role("button", name="Undo: left out brick").click()
    expect(page.locator("#fewshot-trust")).to_contain_text("of 24 right")
    name = page.get_by_label("Name of class A")
    name.fill("wall")
    name.press("Enter")
    expect(page.locator("#fewshot-trust")).to_contain_text("wall")
    name.fill("gravel")  # taken
    name.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("a class gravel already")
    expect(name).to_have_value("wall")
    page.get_by_role("button", name="Remove class wall").click()
    expect(page.locator("#fewshot-examples .msn-card")).to_have_count(2)
    page.get_by_role("button", name="Undo: removed the class wall").click()
    expect(page.locator("#fewshot-examples .msn-card")).to_have_count(3)


def test_a_zip_of_folders_and_a_broken_one(page: Page) -> None:
    whole = zipped({f"{c}/{p.name}": png(p) for c in ("red", "blue") for p in pictures(c, 4)})
    chooser = page.locator("input[type=file][accept='.zip']")
    chooser.set_input_files({"name": "broken.zip", "mimeType": "application/zip", "buffer": b"PK\x03\x04 broken"})
    expect(page.get_by_role("alert")).to_contain_text("broken.zip is damaged or not a zip")
    expect(page.locator("#fewshot-examples .msn-card")).to_have_count(3)
    chooser.set_input_files({"name": "set.zip", "mimeType": "application/zip", "buffer": whole})
    expect(page.locator("#fewshot-trust")).to_contain_text("of 8 right")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_classifier_can_be_chosen_and_is_in_the_link(page: Page, visit: Visit) -> None:
    choose_nearest(page)
    expect(page.get_by_label("range slider for k")).to_be_visible()
    expect(page).to_have_url(re.compile("classifier=knn"))
    again = visit(address="?" + page.url.partition("?")[2])
    expect(again.locator("#fewshot-trust")).to_contain_text("the most similar examples vote")


def test_another_model_embeds_the_examples_again(page: Page) -> None:
    named(page, "red", "blue")
    for number, color in enumerate(("red", "blue")):
        card(page, number).locator("input[type=file]").set_input_files(files(color, 4))
        expect(card(page, number).locator("li")).to_have_count(4)
    page.get_by_label("Model").click()
    page.get_by_role("option", name=re.compile("random weights")).click()
    expect(page.locator(".msn-status")).to_contain_text("random weights")
    expect(card(page, 0).locator("li")).to_have_count(4)
    expect(page.locator("#fewshot-trust")).to_contain_text("of 8 right")


def test_the_keyboard_is_enough(page: Page) -> None:
    waiting = [files("red", 3), files("blue", 3), files("blue", 1, seed=1)]
    page.on("filechooser", lambda chooser: chooser.set_files(waiting.pop(0)))
    own = page.get_by_role("button", name="Your own pictures")
    hold(own)
    page.keyboard.press("Enter")
    expect(sentence(page, "Add pictures to two classes")).to_be_visible()
    hold(page.get_by_label("New class"))
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    expect(card(page, 0).locator("[data-rename]")).to_have_value("red")
    for number, key in enumerate(("Enter", "Space")):
        hold(card(page, number).locator("input[type=file]"))
        page.keyboard.press(key)
        expect(card(page, number).locator("li")).to_have_count(3)
    expect(page.locator("#fewshot-trust")).to_contain_text("of 6 right")
    hold(card(page, 1).locator("li button").first)
    page.keyboard.press("Delete")
    expect(card(page, 1).locator("li")).to_have_count(2)
    undo = page.get_by_role("button", name=re.compile("^Undo"))
    hold(undo)
    page.keyboard.press("Space")
    expect(card(page, 1).locator("li")).to_have_count(3)
    hold(page.locator("#fewshot-try input[type=file]"))
    page.keyboard.press("Enter")
    expect(page.locator(".msn-answers tbody tr")).to_have_count(1)


def test_pictures_can_be_dropped_and_pasted(page: Page) -> None:
    named(page, "red", "blue")
    for number, (kind, color) in enumerate((("drop", "red"), ("paste", "blue"))):
        data = [[f["name"], list(f["buffer"])] for f in files(color, 1)]
        card(page, number).evaluate(
            """(card, [kind, files]) => {
                const held = new DataTransfer();
                for (const [name, bytes] of files)
                    held.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
                card.dispatchEvent(kind === "drop"
                    ? new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: held})
                    : new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: held}));
            }""",
            [kind, data],
        )
        expect(card(page, number).locator("li")).to_have_count(1)


def test_the_matrix_opens_and_answers_are_explained_and_corrected(page: Page) -> None:
    cell = page.get_by_role("button", name=re.compile(r"grass named gravel, show them")).or_(
        page.get_by_role("button", name=re.compile(r"gravel named gravel, show them"))
    )
    hold(cell.first)
    page.keyboard.press("Enter")
    expect(page.locator(".msn-behind li").first).to_be_visible()
    expect(cell.first).to_be_focused()  # the focus returns to the button that had it
    page.get_by_role("button", name="Would more examples help?").click()
    expect(page.locator("#fewshot-trust svg")).to_be_visible()
    page.locator("[data-act=look]").first.click()
    expect(page.get_by_alt_text(re.compile("bright where the model looked"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Answer")).click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_count(1)
    page.locator("[data-correct]").first.select_option("grass")
    expect(page.locator("#fewshot-trust")).to_contain_text("of 25 right")


def test_a_saved_set_opens_again(page: Page, visit: Visit, tmp_path: Path) -> None:
    for name, file in (
        ("Download model (.zip)", "checkpoint.zip"),
        ("Embeddings (.csv)", "embeddings.csv"),
        ("Save set (.zip)", "few-shot.zip"),
    ):
        if name.startswith("Save set"):
            choose_nearest(page)
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        assert download.value.suggested_filename == file
        download.value.save_as(tmp_path / file)
    with zipfile.ZipFile(tmp_path / "checkpoint.zip") as packed:
        assert "model.safetensors" in packed.namelist()
    other = answered(visit(address="?tab=fewshot&set=digits"))
    other.locator("input[type=file][accept='.zip']").set_input_files(tmp_path / "few-shot.zip")
    expect(card(other, 0).locator("[data-rename]")).to_have_value("brick")
    expect(other.get_by_label("Classifier")).to_have_value("k nearest examples")
    expect(other.get_by_label("range slider for k")).to_be_visible()
    expect(other.locator("#fewshot-trust")).to_contain_text(
        re.compile(r"of 24 right.*the most similar examples vote", re.S)
    )


def test_without_a_camera_it_suggests_files(page: Page) -> None:
    card(page, 0).get_by_role("button", name="by camera").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("status")).to_contain_text("add files instead")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(card(page, 0).locator("li")).to_have_count(8)


def test_the_camera_adds_examples_and_is_named_live(visit: Visit) -> None:
    page = named(answered(visit(address="?tab=fewshot", camera=True)), "red", "clock")
    card(page, 0).locator("input[type=file]").set_input_files(files("red", 4))
    expect(card(page, 0).locator("li")).to_have_count(4)
    card(page, 1).get_by_role("button", name="by camera").click()
    dialog = page.get_by_role("dialog")
    take = dialog.get_by_role("button", name="Take (hold for more)")
    expect(take).to_be_enabled()
    page.wait_for_function("document.querySelector('.msn-camera video').videoWidth > 0")
    take.hover()
    page.mouse.down()
    expect(dialog.get_by_role("status")).to_contain_text(re.compile("([4-9]|[1-9][0-9]) taken"))
    page.mouse.up()
    dialog.get_by_role("button", name="Done").click()
    expect(card(page, 1).locator("li").nth(2)).to_be_visible()  # the same moment twice is one picture

    live = page.get_by_role("button", name="Live camera")
    live.click()
    expect(page.locator("#fewshot-live-said .msn-sentence")).to_contain_text("clock")
    expect(page.locator("#fewshot-live [role=status]")).to_contain_text("answers a second")
    page.get_by_role("button", name="Stop the camera").click()
    expect(live).to_have_attribute("aria-pressed", "false")
    video = page.locator("#fewshot-live video")
    expect(video).to_be_hidden()
    assert video.evaluate("video => video.srcObject") is None


def test_a_phone_shows_everything_without_scrolling_sideways(visit: Visit) -> None:
    phone = answered(visit(width=390, height=844, touch=True, address="?tab=fewshot"))
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    named(phone, "a class with quite a long name, longer than the phone is wide", "blue")
    for number, color in enumerate(("red", "blue")):
        card(phone, number).locator("input[type=file]").set_input_files(files(color, 3))
        expect(card(phone, number).locator("li")).to_have_count(3)
    phone.locator("#fewshot-try input[type=file]").set_input_files(files("blue", 1, seed=1))
    expect(phone.locator(".msn-answers tbody tr")).to_have_count(1)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = phone.locator("#fewshot-examples button, #fewshot-examples label").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect()).filter((box) => box.width)"
        ".map((box) => Math.min(box.width, box.height))"
    )
    assert min(sizes) >= 44


def test_two_visitors_share_nothing(page: Page, visit: Visit) -> None:
    named(page, "canary")
    other = answered(visit(address="?tab=fewshot"))
    expect(other.locator("#fewshot-examples [data-rename]").first).to_have_value("brick")
    assert other.locator("#fewshot-examples [data-rename='canary']").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_small_text_has_enough_contrast(visit: Visit, dark: bool) -> None:
    """Every small text on the tab has enough contrast by WCAG."""
    page = answered(visit(address="?tab=fewshot", dark=dark))
    poor = page.evaluate(
        """() => {
            const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
                const v = c[i] / 255;
                return sum + w * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            }, 0);
            const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
            const rgba = (text) => {
                canvas.clearRect(0, 0, 1, 1);
                canvas.fillStyle = text;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data];
            };
            const ground = (node) => {
                for (; node; node = node.parentElement) {
                    const color = rgba(getComputedStyle(node).backgroundColor);
                    if (color[3] > 250) return color;
                }
                return rgba(getComputedStyle(document.body).backgroundColor);
            };
            const poor = [];
            for (const node of document.querySelectorAll(".msn-steps *")) {
                const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
                if (!own || !node.getClientRects().length) continue;
                const [a, b] = [light(rgba(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
                if ((a + 0.05) / (b + 0.05) < 4.5 && !node.classList.contains("msn-none"))
                    poor.push(`${node.textContent.trim().slice(0, 30)}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
            }
            return [...new Set(poor)];
        }"""
    )
    assert poor == []
