"""`serve` hands its options to the page."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Any

import pytest

from vitmsn import cli


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the page is asked to serve, in its place."""
    found: list[Any] = []

    def serve(*given: Any) -> int:
        found.append(given)
        return 0

    page = types.ModuleType("vitmsn.ui.server")
    page.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vitmsn.ui.server", page)
    return found


def test_serve_passes_its_options_on(asked: list[Any]) -> None:
    assert cli.main(["serve", "--model", "folder", "--host", "0.0.0.0", "--port", "7861"]) == 0
    assert cli.main(["serve", "--mcp"]) == 0
    assert cli.main(["serve", "--share-local"]) == 0
    assert asked == [
        ("folder", "0.0.0.0", 7861, False, False),
        (None, None, None, True, False),
        (None, None, None, False, True),
    ]


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_someone_wants_otherwise(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.setattr(os, "environ", {} if given is None else {"OMP_WAIT_POLICY": given})
    cli.main(["serve"])
    assert os.environ["OMP_WAIT_POLICY"] == expected


def test_torch_is_not_imported_before_its_threads_are_told() -> None:
    code = "import sys, vitmsn.cli.serve; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
