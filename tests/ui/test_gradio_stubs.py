"""The app imports Gradio without rewriting its stub files."""

from __future__ import annotations

import subprocess
import sys

from vitmsn.ui import gradio_stubs

LOADED = """
import sys, vitmsn.ui
before = list(sys.meta_path)
assert any(type(finder).__module__ == "vitmsn.ui.gradio_stubs" for finder in before)
import gradio, gradio.component_meta
assert not any(type(finder).__module__ == "vitmsn.ui.gradio_stubs" for finder in sys.meta_path), "it is gone again"
assert gradio.component_meta.create_or_modify_pyi(gradio.Button, "Button", []) is None
with gradio.Blocks():
    gradio.Button().click(print)
print(gradio.component_meta.__spec__.origin == gradio.component_meta.__file__, gradio.component_meta.ComponentMeta)
"""
OPENED = """
import sys
opened = []
sys.addaudithook(lambda event, given: event == "open" and str(given[0]).endswith(".pyi") and opened.append(given[0]))
if sys.argv[1] == "without":
    import vitmsn.ui
import gradio
print(len(opened))
"""


def run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


def test_gradio_is_whole_without_them() -> None:
    assert run(LOADED).startswith("True <class 'gradio.component_meta.ComponentMeta'>")


def test_no_stub_file_is_opened() -> None:
    assert int(run(OPENED, "with")) > 20, "what it does by itself: this module can go when it no longer does"
    assert run(OPENED, "without") == "0"


def test_nothing_happens_where_gradio_is_imported() -> None:
    import gradio  # noqa: F401

    before = list(sys.meta_path)
    gradio_stubs.skip()
    assert sys.meta_path == before
