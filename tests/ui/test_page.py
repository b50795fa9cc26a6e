"""The whole page."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.support.ui import CONFIG
from vitmsn import checkpoint, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import CheckpointError
from vitmsn.image import Picture
from vitmsn.timing import timings
from vitmsn.ui import page, server
from vitmsn.ui.app import App
from vitmsn.ui.locale import NO_BREAK
from vitmsn.ui.models import EMBEDDED, RANDOM, Models
from vitmsn.ui.shared import examples, html
from vitmsn.ui.visits import keep_picture

PUBLIC = {"classify", "attention", "mask", "mask_curve", "mask_search", "few_shot", "embed", "map"}


@pytest.fixture
def app(models: Models) -> App:
    models.start()
    return page.build(models)


def text_of(app: App) -> str:
    """Everything the page says before any event."""
    return " ".join(str(block.value) for block in app.page.blocks.values() if isinstance(block, gr.HTML))


@pytest.fixture
def opened(app: App) -> Callable[..., list[Any]]:
    """`opened(tab=..., example=...)`: what loading the page there gives, [notice, tab, ticket, far model, tabs...]."""
    [load] = [fn for fn in app.page.fns.values() if any(event == "load" for _, event in fn.targets)]

    def open_page(session: str = "a", ticket: str = "", **query: str) -> list[Any]:
        search = "?" + urllib.parse.urlencode(query)
        request, event = gr.Request(session_hash=session), gr.EventData(None, None)
        return load.fn(request, event, gr.Progress(), search, ticket)  # type: ignore[misc,no-any-return]

    return open_page


def test_the_page_has_every_tab_and_its_answer(app: App) -> None:
    names = [name for name, *_ in page.TABS]
    assert list(app.items) == names
    assert set(app.answers) <= set(names) and "classify" in app.answers


def test_only_the_named_endpoints_are_public_and_each_says_what_it_does(app: App) -> None:
    public = {str(fn.api_name): fn for fn in app.page.fns.values() if fn.api_visibility == "public"}
    assert set(public) == PUBLIC
    for name, fn in public.items():
        assert fn.fn is not None and len(fn.fn.__doc__ or "") > 40, f"/{name} does not say what it does"


def test_every_job_has_a_named_queue(app: App) -> None:
    for fn in app.page.fns.values():
        if fn.fn is not None and fn.queue is not False and not any(event == "unload" for _, event in fn.targets):
            assert str(fn.concurrency_id).isalpha(), fn.fn  # unnamed queues are numbers


def test_the_sidebar_says_what_runs_and_what_happens_to_pictures(app: App) -> None:
    said = text_of(app)
    assert EMBEDDED in said and "16\xa0×\xa016 px, patches of 4 px" in said and "float32" in said
    assert f"deleted {limits.UPLOAD_SECONDS // 60} minutes after it was read" in said
    assert "Nothing is kept" in said


def test_the_page_loads_nothing_from_elsewhere(app: App) -> None:
    theme = page.theme()
    assert not theme._font_css and not theme._stylesheets
    assert not any("http" in style.read_text("utf-8") for style in server.STYLES)
    assert "src=&#34;http" not in text_of(app) and 'src="http' not in text_of(app)


def test_opening_the_page_shows_the_first_example(app: App, opened: Callable[..., list[Any]]) -> None:
    notice, tab, _, _, tabs, model, *_ = opened()
    visit = app.visitors.of("a")
    assert notice == "" and tab == tabs.selected == "classify" and model == EMBEDDED
    assert visit.example == "coffee" and visit.begun


def filling(app: App, tab: str) -> Callable[..., Any]:
    """The function that fills a tab when it is opened, as a visitor's page calls it."""
    doors = {block._id for block in app.page.blocks.values() if getattr(block, "elem_id", "") == f"fill-{tab}"}
    [fill] = [fn.fn for fn in app.page.fns.values() if fn.fn and any(target in doors for target, _ in fn.targets)]

    def call(session: str = "a") -> list[Any]:
        return fill(gr.Request(session_hash=session), gr.EventData(None, None), gr.Progress())  # type: ignore[no-any-return]

    return call


def test_the_page_has_the_first_answer_in_it(app: App, opened: Callable[..., list[Any]], tiny: Encoder) -> None:
    example = examples.photographs()[0]
    said = html.sentence(tiny.classify([example.picture], top_k=5)[0].sentence().replace(" %", f"{NO_BREAK}%"))
    assert said in text_of(app) and "msn-bars" in text_of(app) and "answer from cache" in text_of(app)
    fill = filling(app, "classify")
    with timings() as forwards:
        opened()
        assert not any(
            isinstance(value, str) for value in fill()[:-1]
        )  # nothing but the line at the foot is sent again
    assert not forwards
    for number, query in enumerate(({"example": "cat"}, {"model": RANDOM})):
        opened(f"b{number}", **query)
        assert fill(f"b{number}")[2] != said  # never the first example's, or the first model's
    opened("c", tab="attention")
    assert said in fill("c")  # opened later: the page that was loaded there has a history of its own


def test_a_reloaded_page_shows_its_own_answer(app: App, opened: Callable[..., list[Any]], picture: Picture) -> None:
    _, _, ticket, *_ = opened()
    keep_picture(app.visitors.of("a"), picture)
    opened("b", ticket, example="own")
    assert isinstance(filling(app, "classify")("b")[2], str)


def test_a_link_sets_tab_example_and_settings(app: App, opened: Callable[..., list[Any]]) -> None:
    notice, tab, _, _, tabs, model, *_ = opened(tab="attention", example="coffee", model=RANDOM)
    visit = app.visitors.of("a")
    assert notice == "" and tab == tabs.selected == "attention" and model == RANDOM
    assert (visit.tab, visit.example, visit.model) == ("attention", "coffee", RANDOM)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"model": "../../etc"}, "not in the menu"),
        ({"model": "someone/else"}, "not in the menu"),
        ({"example": "<script>alert(1)</script>"}, "no example called"),
    ],
)
def test_an_unknown_value_in_a_link_gives_a_message_and_is_ignored(
    app: App, opened: Callable[..., list[Any]], query: dict[str, str], words: str
) -> None:
    notice, tab, _, _, tabs, model, *_ = opened(tab="nowhere", **query)
    assert words in notice and "<script>" not in notice
    assert tab == tabs.selected == "classify" and model == EMBEDDED and app.visitors.of("a").example == "coffee"


@pytest.mark.parametrize("value", ["", "99999999999999999999", "-1", "nan", "1e400", "<b>", "\x00", "½"])
def test_no_value_in_a_link_breaks_the_page(app: App, opened: Callable[..., list[Any]], value: str) -> None:
    assert app.links
    notice, *_ = opened(**dict.fromkeys(app.links, value))
    assert notice == ""


def test_a_page_that_is_loaded_again_shows_its_visit(
    app: App, opened: Callable[..., list[Any]], picture: Picture
) -> None:
    _, _, ticket, *_ = opened()
    keep_picture(app.visitors.of("a"), picture)
    opened("b", ticket, example="own", tab="masking")
    assert app.visitors.of("b").picture is picture and app.visitors.of("b").tab == "masking"
    opened("c", ticket, example="cat")  # a link opened in the same tab
    assert app.visitors.of("c").example == "cat"
    opened("d", ticket, example="own")  # and back
    assert app.visitors.of("d").picture is picture


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"example": "own"}, "The sender's own picture is not in this link."),
        ({"set": "own"}, "The sender's own set is not in this link."),
        ({"example": "own", "set": "own"}, "The sender's own picture and set are not in this link."),
        ({"example": "cat"}, ""),
    ],
)
def test_a_link_says_what_of_its_sender_is_not_in_it(
    app: App, opened: Callable[..., list[Any]], query: dict[str, str], words: str
) -> None:
    opened(**query)
    assert app.visitors.of("a").greeting == words


def test_a_page_whose_visit_is_over_says_so(app: App, opened: Callable[..., list[Any]]) -> None:
    opened(ticket="of a visit that was deleted", example="own")
    assert "deleted because this page was inactive" in app.visitors.of("a").greeting


def test_an_unreadable_model_keeps_the_last_one(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    [choose] = [
        fn for fn in app.page.fns.values() if fn.concurrency_id == "open" and (app.model._id, "input") in fn.targets
    ]
    request, event = gr.Request(session_hash="a"), gr.EventData(None, None)

    def handler(key: str) -> list[Any]:
        return choose.fn(request, event, gr.Progress(), key)  # type: ignore[misc,no-any-return]

    _, model, about, _ = handler(RANDOM)
    assert model == RANDOM and "none: this model has no classifier" in about and "PyTorch" in about

    def offline(key: str, source: str | None) -> Encoder:
        raise CheckpointError(f"{source} cannot be fetched.")

    monkeypatch.setattr(app.models, "_open", offline)
    notice, model, *_ = handler("facebook/vit-msn-small")
    assert "facebook/vit-msn-small cannot be fetched. The model stays random weights." in notice
    assert model == RANDOM and app.visitors.of("a").model == RANDOM


def test_another_choice_ends_the_wait_for_a_model(
    app: App, opened: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a link names the model: the page opens at once, and waits for it afterwards."""
    go, bars = threading.Event(), list[str]()

    class Bar(gr.Progress):
        def __call__(self, progress: object, desc: str | None = None, **_: object) -> None:  # type: ignore[override]
            bars.append(str(desc))

    def opener(key: str, source: str | None) -> Encoder:
        go.wait(60)
        return Encoder.random(CONFIG, device="cpu")

    monkeypatch.setattr(app.models, "_open", opener)
    small, base = "facebook/vit-msn-small", "facebook/vit-msn-base"
    handlers = {
        (fn.concurrency_id, bool(fn.inputs)): fn.fn
        for fn in app.page.fns.values()
        if fn.concurrency_id == "open" or (app.model._id, "input") in fn.targets
    }
    linked, choose = handlers["open", False], handlers["open", True]
    [want] = [fn for (line, _), fn in handlers.items() if line != "open"]
    assert linked and choose and want
    _, tab, _, far, _, model, *_ = opened(model=small)
    assert (tab, far, model) == ("classify", small, EMBEDDED)
    request, event = gr.Request(session_hash="a"), gr.EventData(None, None)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(linked, request, event, Bar())
        while not bars:
            time.sleep(0.01)
        want(base, request)
        notice, model, about, _ = waiting.result(60)
        assert not any(isinstance(value, str) for value in (notice, model, about))  # nothing changes
        second = threads.submit(choose, request, event, Bar(), base)
        go.set()
        assert second.result(60)[1] == base == app.visitors.of("a").model
    assert bars[0] == f"{small} is being opened"


def test_without_the_embedded_model_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str = EMBEDDED) -> Path:
        raise CheckpointError("The embedded model is not installed.")

    monkeypatch.setattr(checkpoint, "embedded", missing)
    models = Models(opener=lambda key, source: Encoder.random(CONFIG, device="cpu"))
    models.start()
    assert "The embedded model is not installed." in text_of(page.build(models))


def test_the_page_carries_no_description_that_no_client_reads(app: App) -> None:
    sent, whole = app.page.get_config_file(), gr.Blocks.get_config_file(app.page)
    names = {"api_info", "api_info_as_input", "api_info_as_output", "example_inputs"}
    described = [component["id"] for component in sent["components"] if names & set(component)]
    published = [fn for fn in app.page.fns.values() if fn.fn and fn.api_visibility == "public"]
    assert set(described) == {block._id for fn in published for block in (*fn.inputs, *fn.outputs)}
    for less, more in zip(sent["components"], whole["components"], strict=True):
        assert less == {name: value for name, value in more.items() if name in less}
        assert set(more) - set(less) <= names
    app.page.config = sent
    told = app.page.get_api_info()
    app.page.config = whole
    assert told == app.page.get_api_info() and set(told["named_endpoints"]) == {f"/{name}" for name in PUBLIC}
    assert len(json.dumps(sent, default=str)) < 0.87 * len(json.dumps(whole, default=str))
