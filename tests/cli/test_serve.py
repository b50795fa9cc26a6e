"""`serve` hands its options to the page."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from vitmsn import cli


def test_serve_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def serve(*given: Any) -> int:
        asked.append(given)
        return 0

    page = types.ModuleType("vitmsn.ui.server")
    page.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vitmsn.ui.server", page)
    assert cli.main(["serve", "--model", "folder", "--host", "0.0.0.0", "--port", "7861"]) == 0
    assert cli.main(["serve", "--mcp"]) == 0
    assert cli.main(["serve", "--share-local"]) == 0
    assert asked == [
        ("folder", "0.0.0.0", 7861, False, False),
        (None, None, None, True, False),
        (None, None, None, False, True),
    ]
