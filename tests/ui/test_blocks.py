"""Values of wrong types, as programs send them: each gets a sentence, not a traceback or an empty error."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
import pytest

from tests.support import async_calls
from vitmsn import limits
from vitmsn.ui import blocks


def refusal(component: Any, value: Any) -> str:
    with pytest.raises(gr.Error) as refused:
        blocks.check(["layer"], [component], [value])
    assert not refused.value.print_exception
    return str(refused.value.message)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (gr.Number, "1"),
        (gr.Number, True),
        (gr.Number, [1]),
        (gr.Checkbox, 1),
        (gr.Checkbox, "yes"),
        (gr.Textbox, ["a"]),
        (gr.Textbox, 7),
        (gr.Textbox, "a" * (limits.MAX_TEXT_LENGTH + 1)),
        (gr.Image, "a.png"),
        (gr.Image, {"path": None}),
        (gr.Image, [{"path": "a.png"}]),
        (gr.File, 1),
        (gr.File, [{"path": "a.zip"}]),
    ],
)
def test_a_value_of_a_wrong_type_is_named(kind: type[Any], value: Any) -> None:
    message = refusal(kind(), value)
    assert message.startswith("layer is ") and "it must be" in message and len(message) < 120


def test_several_files_must_be_a_list() -> None:
    several = gr.File(file_count="multiple")
    assert "list of uploaded files" in refusal(several, {"path": "a.png"})
    blocks.check(["images"], [several], [[{"path": "a.png"}]])


def test_missing_values_are_counted_and_named() -> None:
    with pytest.raises(gr.Error, match=r"1 values came and 2 are needed \(image, layer\)"):
        blocks.check(["image", "layer"], [gr.Image(), gr.Number()], [None])


def test_good_values_and_none_pass() -> None:
    kinds = [gr.Image(), gr.Number(), gr.Checkbox(), gr.Textbox()]
    blocks.check(list("abcd"), kinds, [{"path": "a.png"}, 1.5, False, ""])
    blocks.check(list("abcd"), kinds, [None] * 4)


def test_a_refusal_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with blocks.Page(analytics_enabled=False) as page:
        gr.Button().click(lambda file: file, [gr.File()], [gr.JSON()])
    [fn] = page.fns.values()
    file = {"path": "a.png", "orig_name": 5, "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(gr.Error, match="could not be read"):
        async_calls.call(page.preprocess_data, fn, [file], None)
    [record] = caplog.records
    assert "orig_name" in record.getMessage() and "\n" not in record.getMessage()


def test_a_flood_of_refusals_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_LINES", 3)
    now = [0.0]
    seldom = blocks.Seldom(lambda: now[0])

    def line() -> logging.LogRecord:
        return logging.LogRecord("x", logging.WARNING, "", 0, "%s was refused", ("embed",), None)

    assert [seldom.filter(line()) for _ in range(5)] == [True] * 3 + [False] * 2
    now[0] = 61.0
    later = line()
    assert seldom.filter(later)
    assert later.getMessage() == "(2 lines before this were left out) embed was refused"
