"""The whole page in German: no text is left in English, and nothing but texts differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import Served
from tests.support.visitor import Visitor, png
from vitmsn.ui import server
from vitmsn.ui.blocks import Page
from vitmsn.ui.locale import LETTERS, catalogues, speaking, texts_of
from vitmsn.ui.models import Models
from vitmsn.ui.shared import examples

TEXTS = ("label", "info", "placeholder", "alt_text", "value", "title")
HTML = ("html", "markdown")
# what the page says in every language the same: names, licenses and code
SAME = (
    *("Apache-2.0", "magma", "cividis", "viridis", "grey", "me-max", "scikit-", "CC0"),
    *("encoder", "import ", "vit-msn", "/*"),
)


@pytest.fixture
def page(models: Models) -> Page:
    made = server.in_all_languages(models, None, "").page
    assert isinstance(made, Page)
    return made


def visible(component: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of all that people read of a component."""
    props = component["props"]
    for name in TEXTS:
        value = props.get(name)
        if name == "value" and component["type"] not in (*HTML, "button", "uploadbutton", "downloadbutton"):
            continue
        if isinstance(value, str) and component["type"] in HTML and name == "value":
            yield from ((name, text) for text in texts_of(value.replace("{", "").replace("}", "")))
        elif isinstance(value, str) and LETTERS.search(value):
            yield name, value
    for shown, _ in props.get("choices") or []:
        if LETTERS.search(str(shown)):
            yield "choices", str(shown)


def test_no_text_is_left_in_english(page: Page, models: Models) -> None:
    config = page.config
    with speaking("de"):
        german = page.config
    alike = {text for held in catalogues("de").values() for text, other in held.items() if text == other}
    labels = {label for encoder in models._loaded.values() for label in encoder.labels}
    left = []
    published = {
        block._id
        for fn in page.fns.values()
        if fn.fn and fn.api_visibility != "private"
        for block in (*fn.inputs, *fn.outputs, *(page.blocks[place] for place, _ in fn.targets if place is not None))
    }
    for one, other in zip(config["components"], german["components"], strict=True):
        hidden = one["props"].get("visible") in (False, "hidden")
        if one["id"] in published or (hidden and one["props"].get("value") == "Run"):  # nobody sees these
            continue
        for (name, english), (_, text) in zip(visible(one), visible(other), strict=True):
            known = english.lstrip("0123456789 ") in alike or english in labels
            if english == text and not known and not any(word in english for word in SAME):
                left.append((one["type"], name, english[:80]))
    assert sorted(set(left)) == []
    assert german["title"].startswith("ViT-MSN: Blick")


def test_nothing_but_texts_differs(page: Page) -> None:
    english = page.config
    with speaking("de"):
        german = page.config
    assert english["dependencies"] is german["dependencies"] and english["layout"] is german["layout"]
    for one, other in zip(english["components"], german["components"], strict=True):
        assert one["id"] == other["id"] and one["type"] == other["type"]
        mine, theirs = one["props"], other["props"]
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {*TEXTS, "choices", "buttons"}:
            assert mine[name] == theirs[name], (one["type"], name)
        assert [value for _, value in mine.get("choices") or []] == [value for _, value in theirs.get("choices") or []]
        if one["type"] in ("radio", "dropdown", "slider", "number", "checkbox", "textbox"):
            assert mine.get("value") == theirs.get("value")


def test_what_programs_are_told_stays_english(page: Page) -> None:
    told = page.get_api_info()
    with speaking("de"):
        assert page.get_api_info() == told


def test_a_page_in_german_is_answered_in_german_and_a_program_in_english(served: Served) -> None:
    with Visitor(served.url) as visitor:
        visitor.http.headers["referer"] = f"{served.url}?lang=de"
        visitor.open("classify")
        fill = visitor.handler("fill-attention")
        told = json.dumps(list(visitor.messages(fill, visitor.values(fill))), ensure_ascii=False)
        assert "schaut CLS" in told or "CLS schaut" in told
        assert "looks most" not in told
        answer = visitor.answer("classify", visitor.call("classify", visitor.upload(png(1), "one.png"), 3))
    assert answer.done and ("looks like" in answer.text or "Closest match" in answer.text)


def test_each_language_has_its_own_example_pictures() -> None:
    with speaking("de"):
        german = examples.strip()
    assert "Eine getigerte Katze" in german and "A tabby cat" in examples.strip()
