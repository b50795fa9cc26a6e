"""Sessions: as small as they can be, with the components that a request changed."""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import pytest
from gradio import blocks, route_utils, state_holder

from tests.support.app import free_port
from tests.support.visitor import Visitor
from vitmsn.ui.blocks import Page
from vitmsn.ui.server import launch
from vitmsn.ui.sessions import Session


def test_sessions_hold_no_copy_of_the_page_and_no_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    with Page(analytics_enabled=False) as page:
        word, said = gr.Textbox(label="Word"), gr.Textbox(label="Said")
        button = gr.Button("Say")
        button.click(lambda word: gr.update(value=word * 3, label=word), [word], [said], api_name="say")
    url = launch(page, port=free_port())
    try:
        for name in ("one", "two"):
            with Visitor(url, session=name) as visitor:
                fn = visitor.handler("Say")
                *_, last = visitor.messages(fn, visitor.values(fn, Word=name))
                assert last["output"]["data"][0]["value"] == name * 3
        held = page.app.state_holder.session_data
        assert {type(session) for session in held.values()} == {Session} and {"one", "two"} <= set(held)
        assert all(session.config_values == {} for session in held.values())
        assert [held[name].blocks_config.blocks[said._id].label for name in ("one", "two")] == ["one", "two"]
        assert said.label == "Said"
    finally:
        page.close(verbose=False)


def test_wherever_gradio_makes_a_session_it_is_ours() -> None:
    made_in = [
        module
        for name, module in sys.modules.items()
        if name.startswith("gradio.") and isinstance(getattr(module, "SessionState", None), type)
    ]
    assert {state_holder, route_utils, blocks} <= set(made_in)
    assert {module.SessionState for module in made_in} == {Session}
