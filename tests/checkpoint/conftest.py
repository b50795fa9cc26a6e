"""A model folder to damage, and a Hub on this machine that has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.file_download
import huggingface_hub.utils
import pytest

from tests.support import hub as loopback
from tests.support.checkpoints import CONFIG, backbone
from tests.support.hub import LoopbackHub
from vitmsn import checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder to damage."""
    place = tmp_path / "model"
    checkpoint.save(place, CONFIG, backbone())
    return place


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with loopback.serve() as hub:
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "DOWNLOAD_CHUNK_SIZE": 1 << 14,  # of which a cut loses the last one
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)  # between its tries
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        huggingface_hub.utils.disable_progress_bars()
        yield hub
        huggingface_hub.utils.enable_progress_bars()
