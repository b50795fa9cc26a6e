"""Every fault of the machine, in a real server, is answered with a sentence that names no path of the server."""

from __future__ import annotations

import errno
import os
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.app import free_port
from tests.support.visitor import Answer, Refused, Visitor, png
from vitmsn.encoder import Encoder
from vitmsn.runner import ModelRunner
from vitmsn.ui import faults, guard, uploads
from vitmsn.ui.models import EMBEDDED, Models, open_model
from vitmsn.ui.page import build
from vitmsn.ui.server import launch

COMPUTE = ModelRunner.compute


@dataclass
class Site:
    visitor: Visitor
    folder: Path

    def ask(self, name: str, *data: Any) -> Answer:
        answer = self.visitor.answer(name, self.visitor.call(name, *data))
        assert str(self.folder) not in answer.text and "Traceback" not in answer.text
        return answer

    def picture(self, seed: int) -> Any:
        return self.visitor.upload(png(seed, 24), f"{seed}.png")

    def click(self, label: str, event: str = "click", **values: Any) -> str:
        fn = self.visitor.handler(label, event)
        said = str(list(self.visitor.messages(fn, self.visitor.values(fn, **values))))
        assert str(self.folder) not in said and "Traceback" not in said
        return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the server keeps its files; a disk of its own in some tests."""
    return tmp_path


@pytest.fixture
def site(tiny: Encoder, models: Models, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    models._open = lambda key, source: tiny if key == EMBEDDED else open_model(key, source)
    with guard.private_temp_folder():
        page = build(models).page
        url = launch(page, port=free_port())
        try:
            with Visitor(url) as visitor:
                yield Site(visitor, folder)
        finally:
            page.close(verbose=False)


class Device:
    """A device with memory for `room` pictures at once, beside a CPU with memory or without."""

    def __init__(self, room: int, cpu: bool = True) -> None:
        self.room, self.cpu = room, cpu

    def compute(self, runner: ModelRunner, pixels: torch.Tensor, keep: Any, hidden: bool) -> Any:
        if len(pixels) > self.room:
            if len(pixels) == 1 and self.cpu:
                self.room = 1  # the next try is on the CPU
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return COMPUTE(runner, pixels, keep, hidden)


@pytest.mark.parametrize(
    ("device", "moves"), [(Device(2), False), (Device(0), True), (Device(0, cpu=False), True)], ids=["2", "cpu", "none"]
)
def test_out_of_memory_smaller_batches_then_the_cpu_then_a_sentence(
    site: Site, tiny: Encoder, device: Device, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [site.picture(seed) for seed in range(3)]
    expected = site.ask("embed", pictures)
    tiny._encodings.clear()
    monkeypatch.setattr(ModelRunner, "compute", lambda self, *given: device.compute(self, *given))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = site.ask("embed", pictures)
    assert any("continues on the CPU" in str(warning.message) for warning in told) == moves
    if device.cpu:
        assert found.done
        np.testing.assert_allclose(found.values[0]["embeddings"], expected.values[0]["embeddings"], atol=1e-3)
        return
    assert not found.done and "There is not enough memory for " in found.text
    monkeypatch.setattr(ModelRunner, "compute", COMPUTE)
    assert site.ask("embed", pictures).done  # the next visitor's


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")]
)
def test_no_memory_on_the_cpu_is_a_sentence(
    site: Site, tiny: Encoder, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(*_: Any) -> Any:
        raise error

    picture = site.picture(7)
    monkeypatch.setattr(ModelRunner, "compute", compute)
    assert "There is not enough memory for " in site.ask("classify", picture, 5).text
    assert "There is not enough memory for " in site.ask("embed", [picture]).text


def test_memory_that_fails_elsewhere_is_a_sentence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(*_: Any, **more: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    picture = site.picture(8)
    monkeypatch.setattr("vitmsn.ui.attention.endpoint.see", attend)
    fn = site.visitor.endpoint("attention")
    assert faults.NO_MEMORY in site.ask("attention", picture, *site.visitor.values(fn)[1:]).text


def test_without_a_network_the_model_stays(site: Site) -> None:
    said = site.click("Model", "input", Model="facebook/vit-msn-small")
    assert "facebook/vit-msn-small cannot be fetched" in said and "The model stays" in said


def test_a_folder_that_became_read_only_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **more: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(site.folder))

    monkeypatch.setattr(uploads, "NamedTemporaryFile", refuse)
    with pytest.raises(Refused, match="This server cannot store uploads now") as refused:
        site.picture(1)
    assert refused.value.status == 503 and str(site.folder) not in str(refused.value)


class TestOnADiskOfItsOwn:
    """As root, where mounting works: a disk of one megabyte."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        if os.name != "posix" or os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)):
            pytest.skip("needs root and a system that can mount")
        yield disk
        subprocess.run(["umount", "-l", str(disk)], check=True)

    def test_a_full_disk_is_said_and_the_app_goes_on(self, site: Site) -> None:
        picture = site.picture(1)
        full = site.folder / "full"
        with pytest.raises(OSError, match="No space left"):
            full.write_bytes(b"a" * 2_000_000)
        with pytest.raises(Refused, match="There is no room for more uploads now") as refused:
            site.picture(2)
        assert refused.value.status == 507
        said = site.click("Save set (.zip)")
        assert faults.NO_ROOM in said or "cannot be written" in said
        assert site.ask("classify", picture, 5).done
        full.unlink()
        assert site.ask("classify", site.picture(2), 5).done

    def test_a_read_only_disk_is_said_and_the_app_goes_on(self, site: Site) -> None:
        picture = site.picture(1)
        assert not _mount("-o", "remount,ro", str(site.folder))
        with pytest.raises(Refused, match="This server cannot store uploads now") as refused:
            site.picture(2)
        assert refused.value.status == 503
        assert faults.NO_ROOM in site.click("Save set (.zip)")
        assert site.ask("classify", picture, 5).done
        assert not _mount("-o", "remount,rw", str(site.folder))
        assert site.ask("classify", site.picture(2), 5).done


def _mount(*options: str) -> int:
    return subprocess.run(["mount", *options], capture_output=True).returncode
