"""The wiring: the right visit, messages for errors, and when a tab answers again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from tests.support import async_calls
from tests.support.visitor import png
from vitmsn import image
from vitmsn.errors import InputError
from vitmsn.ui.app import SKIP, App
from vitmsn.ui.faults import BROKEN
from vitmsn.ui.models import EMBEDDED, RANDOM, Models
from vitmsn.ui.shared import examples
from vitmsn.ui.shared.endpoints import Endpoint
from vitmsn.ui.visits import Call, Visitors

Handler = Callable[..., list[Any]]
SKIPPED = {"__type__": "update"}


def request(key: str = "a") -> gr.Request:
    return gr.Request(session_hash=key)


@pytest.fixture
def app(models: Models) -> App:
    """A page with two tabs of pictures, `one` open first; their answers are recorded in `asked`."""
    with gr.Blocks() as blocks:
        status, menu = gr.HTML(), gr.Dropdown(models.choices)
        with gr.Tabs() as tabs:
            made = App(blocks, models, Visitors(models.default), model=menu, status=status, tabs=tabs)
            for name in ("one", "two"):
                with gr.Tab(name) as made.items[name]:
                    made.picture(name)
    return made


@dataclass
class Seen:
    """What the tab keeps for a visitor."""

    value: int = 0


class Recorder:
    """A tab's function: records each call and returns an answer, or raises `error`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def __call__(self, call: Call) -> str:
        self.asked.append((call.picture.name, call.visit.model))
        if self.error:
            raise self.error
        return f"answer {len(self.asked)}"


def handlers(app: App, name: str = "one") -> tuple[Recorder, dict[str, Handler]]:
    """The tab's function, and the handlers of opening it, a dropped picture, a removed one and an example."""
    recorder = Recorder()
    with app.page:
        app.answer(name, recorder, [], [gr.HTML()])
        before = set(app.page.fns)
        panel = app.panels[name]
        app.fill(app.items[name].select, name, when_due=True)
        app.fill(panel.image.upload, name, before=app._receive, given=[panel.image])
        app.fill(panel.image.clear, name, before=app._remove)
        app.fill(panel.strip.click, name, before=app._choose)
    made = [app.page.fns[number].fn for number in sorted(set(app.page.fns) - before)]
    return recorder, dict(zip(("open", "drop", "remove", "example"), made, strict=True))  # type: ignore[arg-type]


def begin(app: App, tab: str = "one", key: str = "a") -> None:
    visit = app.visitors.of(key)
    visit.tab, visit.begun, visit.picture = tab, True, examples.by_name("cat").picture
    visit.example = "cat"


# Calls of a tab function


def test_a_function_gets_the_visit_and_its_answer_has_notice_and_status(app: App) -> None:
    def fn(call: Call, value: int) -> tuple[str, int]:
        call.message = "Look <here>."
        call.visit.state(Seen).value = value
        return call.query["tab"], value + 1

    app.visitors.of("a").link = {"tab": "one"}
    handler = app._shown(fn, 2)
    notice, tab, more, status = handler(request(), gr.EventData(None, None), gr.Progress(), 4)
    assert "Look &lt;here&gt;." in notice and (tab, more) == ("one", 5) and EMBEDDED in status
    assert app.visitors.of("a").state(Seen).value == 4 and app.visitors.of("b").state(Seen).value == 0


def test_the_status_line_shows_only_the_visitors_own_forward(app: App) -> None:
    """Another visitor's forward and answers from the cache do not change it."""
    picture = Image.new("RGB", (30, 20), (12, 34, 56))

    def fn(call: Call, side: int) -> str:
        call.encoder.embed(picture, size=side)
        return "done"

    def stream(call: Call) -> Iterator[str]:
        for side in (8, 12):
            yield fn(call, side)

    one, many = app._shown(fn, 1), app._shown(stream, 1)
    first = one(request("a"), gr.EventData(None, None), gr.Progress(), 8)[-1]
    assert "last forward" in first and "4 patches" in first
    assert "9 patches" in one(request("b"), gr.EventData(None, None), gr.Progress(), 12)[-1]
    again = one(request("a"), gr.EventData(None, None), gr.Progress(), 8)[-1]
    assert again == first, "the same answer, from the cache"
    remembered = one(request("c"), gr.EventData(None, None), gr.Progress(), 8)[-1]
    assert "answer from cache" in remembered and "last forward" not in remembered
    app.visitors.of("d").model = RANDOM
    lines = [shown[-1] for shown in many(request("d"), gr.EventData(None, None), gr.Progress())]
    assert "4 patches" in lines[0] and "9 patches" in lines[1]


def test_the_status_line_is_about_the_open_tab(app: App) -> None:
    picture = Image.new("RGB", (30, 20), (56, 34, 12))

    def embed(call: Call) -> str:
        call.encoder.embed(picture, size=8)
        return "done"

    def slow(call: Call) -> str:
        call.visit.tab = "two"  # the visitor opens it meanwhile
        return "done"

    visit, event = app.visitors.of("a"), gr.EventData(None, None)
    visit.tab = "one"
    assert "4 patches" in app._shown(embed, 1)(request("a"), event)[-1]
    assert app._shown(slow, 1)(request("a"), event)[-1] == SKIPPED
    assert "answer from cache" in app._shown(lambda call: SKIP, 1)(request("a"), event)[-1]
    visit.tab = "one"
    assert "4 patches" in app._shown(lambda call: SKIP, 1)(request("a"), event)[-1]


def test_a_vitmsn_error_becomes_a_notice_and_leaves_the_outputs(app: App) -> None:
    def fn(call: Call) -> str:
        raise InputError("The ratio is 2; it must be below 1.")

    notice, *rest = app._shown(fn, 1)(request(), gr.EventData(None, None))
    assert "The ratio is 2; it must be below 1." in notice and 'role="alert"' in notice
    assert rest == [SKIPPED, SKIPPED]


def test_an_unexpected_error_is_logged_and_hidden_from_the_visitor(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def fn(call: Call) -> str:
        raise RuntimeError("secret /path")

    notice, *_ = app._shown(fn, 1)(request(), gr.EventData(None, None))
    assert BROKEN in notice and "secret" not in notice
    assert "secret /path" in caplog.text
    with pytest.raises(gr.Error, match="Something went wrong"):
        app._published(fn, Endpoint("fn", "Fail.", (), ()))(request(), gr.Progress())


def test_a_generator_shows_each_result_until_an_error(app: App) -> None:
    def fn(call: Call, most: int) -> Iterator[str]:
        for number in range(most):
            yield f"{number}"
        raise InputError("That was all.")

    first, second, last = app._shown(fn, 1)(request(), gr.EventData(None, None), gr.Progress(), 2)
    assert (first[1], second[1]) == ("0", "1") and first[0] == ""
    assert "That was all." in last[0] and last[1:] == [SKIPPED, SKIPPED]


def test_skip_changes_nothing(app: App) -> None:
    *skipped, status = app._shown(lambda call: SKIP, 3)(request(), gr.EventData(None, None))
    assert skipped == [SKIPPED] * 4 and EMBEDDED in status


def test_an_endpoint_has_the_functions_parameters_docstring_and_errors(app: App) -> None:
    def mask(call: Call, image: str, ratio: float = 0.7) -> str:
        """Hide patches."""
        if ratio > 1:
            raise InputError("The ratio is too large.")
        return f"{image} {ratio}"

    made = app._published(mask, Endpoint("mask", "Hide patches.", (), ()))
    assert made.__doc__ is not None and made.__doc__.startswith("Hide patches.\n") and made.__name__ == "mask"
    assert list(inspect.signature(made).parameters) == ["request", "image", "ratio", "progress"]
    assert made(request(), "a.png", 0.5, gr.Progress()) == "a.png 0.5"
    with pytest.raises(gr.Error, match=r"The ratio is too large\."):
        made(request(), "a.png", 2, gr.Progress())


def test_uploads_that_were_read_are_noted(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    seen: list[Path] = []
    monkeypatch.setattr(app.visitors, "read_upload", seen.append)
    given = [str(tmp_path / "a" / "1.png"), [str(tmp_path / "b" / "2.png"), "/etc/passwd"], 3, None, "text"]
    app._done(Call(app.models, app.visitors.of("a")), given)
    assert seen == [tmp_path / "a" / "1.png", tmp_path / "b" / "2.png"]


def test_memory_of_large_pictures_is_returned_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[bool] = []
    monkeypatch.setattr("vitmsn.ui.app.give_back", lambda: returned.append(True))

    def read(call: Call, side: int) -> str:
        image.decode(png(0, side))
        return ""

    made = app._published(read, Endpoint("read", "Read a picture.", (), ()))
    made(request(), 96, gr.Progress())
    assert returned == []
    made(request(), 1500, gr.Progress())
    assert returned == [True]


# Filling a tab


def test_a_tab_answers_when_opened_and_again_only_after_a_change(app: App) -> None:
    recorder, made = handlers(app)
    begin(app)
    event = gr.EventData(None, None)
    notice, shown, answer, _ = made["open"](request(), event)
    assert notice == "" and shown["alt_text"] == "A tabby cat" and answer == "answer 1"
    assert made["open"](request(), event)[:-1] == [SKIPPED] * 3
    app.visitors.of("a").model = RANDOM
    assert made["open"](request(), event)[2] == "answer 2"
    made["example"](request(), gr.EventData(None, {"name": "coffee"}))
    assert recorder.asked == [("chelsea.png", EMBEDDED), ("chelsea.png", RANDOM), ("coffee.png", RANDOM)]


def test_an_event_in_a_tab_makes_it_the_open_one(app: App) -> None:
    _, made = handlers(app)
    begin(app, tab="two")
    made["example"](request(), gr.EventData(None, {"name": "coffee"}))
    assert app.visitors.of("a").tab == "one"


def test_a_dropped_picture_belongs_to_one_visit(app: App, tmp_path: Path) -> None:
    _, made = handlers(app)
    begin(app)
    begin(app, key="b")
    path = tmp_path / "mine.png"
    Image.new("RGB", (8, 6), "red").save(path)
    _, shown, answer, _ = made["drop"](request(), gr.EventData(None, None), gr.Progress(), str(path))
    assert shown["value"].size == (8, 6) and shown["alt_text"] == "Your picture, mine.png" and answer == "answer 1"
    picture = app.visitors.of("a").picture
    assert picture is not None and picture.name == "mine.png"
    assert app.visitors.of("b").example == "cat"


def test_notes_of_the_decoder_are_shown(app: App, tmp_path: Path) -> None:
    _, made = handlers(app)
    begin(app)
    path = tmp_path / "moves.gif"
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    notice, *_ = made["drop"](request(), gr.EventData(None, None), gr.Progress(), str(path))
    assert "moves.gif: first frame of several" in notice


def test_an_unreadable_file_keeps_the_last_picture(app: App, tmp_path: Path) -> None:
    recorder, made = handlers(app)
    begin(app)
    (tmp_path / "bad.png").write_bytes(b"no")
    notice, shown, answer, _ = made["drop"](
        request(), gr.EventData(None, None), gr.Progress(), str(tmp_path / "bad.png")
    )
    assert "bad.png" in notice and shown["alt_text"] == "A tabby cat" and answer == SKIPPED
    assert recorder.asked == [] and app.visitors.of("a").example == "cat"


def test_clearing_leaves_no_picture_and_says_what_to_do(app: App) -> None:
    _, made = handlers(app)
    begin(app)
    made["open"](request(), gr.EventData(None, None))
    notice, shown, answer, _ = made["remove"](request(), gr.EventData(None, None), gr.Progress())
    assert "pick an example" in notice and shown["value"] is None
    assert answer == "", "what was said of the picture goes with it"
    assert app.visitors.of("a").picture is None


def test_a_tab_that_is_opened_without_a_picture_is_empty(app: App) -> None:
    _, made = handlers(app)
    begin(app)
    made["open"](request(), gr.EventData(None, None))
    app.visitors.of("a").picture = None  # removed on another tab
    notice, shown, answer, _ = made["open"](request(), gr.EventData(None, None))
    assert "pick an example" in notice and shown["value"] is None and answer == ""
    made["example"](request(), gr.EventData(None, {"name": "coffee"}))
    assert made["open"](request(), gr.EventData(None, None))[2] == SKIPPED, "answered when it came"


def test_without_a_picture_controls_and_what_is_not_of_it_stay(app: App) -> None:
    with app.page:
        blocks = gr.HTML(), gr.HTML(), gr.Image(), gr.Slider()
        app.answer("one", lambda call: [call.picture.name] * 4, [], blocks, stays=blocks[1:2])
        gr.Button().click(print, None, blocks)
    event, empty = list(app.page.fns.values())[-1], app.answers["one"].empty
    for _ in "ab":  # whoever removed a picture before
        sent = async_calls.call(app.page.postprocess_data, event, empty, None)
        assert sent[0] == "" and sent[2] is None and "value" not in sent[1] and "value" not in sent[3]


def test_an_unknown_example_is_refused(app: App) -> None:
    _, made = handlers(app)
    begin(app)
    notice, *_ = made["example"](request(), gr.EventData(None, {"name": "<script>"}))
    assert "no example called" in notice and "<script>" not in notice
    assert app.visitors.of("a").example == "cat"


def test_a_failed_answer_shows_the_picture_and_is_retried(app: App) -> None:
    recorder, made = handlers(app)
    begin(app)
    recorder.error = InputError("This model has no head.")
    notice, shown, answer, _ = made["open"](request(), gr.EventData(None, None))
    assert "no head" in notice and shown["alt_text"] == "A tabby cat" and answer == SKIPPED
    recorder.error = None
    assert made["open"](request(), gr.EventData(None, None))[2] == "answer 2"


def test_an_inactive_page_is_told_that_its_picture_was_deleted(app: App) -> None:
    _, made = handlers(app)
    begin(app)
    app.visitors.forget("a")
    notice, shown, answer, _ = made["open"](request(), gr.EventData(None, None))
    assert "deleted because this page was inactive" in notice and answer == "answer 1"
    assert shown["alt_text"] == "A cup of espresso"
