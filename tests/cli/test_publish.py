"""push: a dry run first, then to a Hub on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from tests.support import hub as loopback

Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer


def test_push_says_what_it_would_send_and_sends_when_told(
    run: Run, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback.serve() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        shown = run("push", model, "owner/name")
        assert "nothing was sent; --send sends these" in shown and "owner/name, private" in shown
        assert "A classifier of 3 classes" in shown and not hub.made
        found = run.json("push", model, "owner/name", "--send")
        assert found["sent"] and found["private"] and found["address"] == f"{hub.url}/owner/name"
        assert {file: len(data) for file, data in hub.committed.items()} == {
            one["file"]: one["bytes"] for one in found["files"]
        }
        assert hub.committed["model.safetensors"] == (Path(model) / "model.safetensors").read_bytes()
        assert hub.made == [True]
