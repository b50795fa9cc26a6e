"""What is taken away: a set that opens again, a checkpoint, a table; and nothing of others."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ui.test_fewshot import event, own, studio_of  # noqa: F401 (own is a fixture)
from tests.ui.test_studio import pictures
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError
from vitmsn.gallery import Gallery
from vitmsn.ui import fewshot, takeaway
from vitmsn.ui.state import Call


@pytest.fixture
def taught(own: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:  # noqa: F811
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    for colour in ("red", "blue"):
        studio_of(own).add(own.encoder, colour, pictures(colour, 4))
    return own


def test_a_set_opens_again_here_and_in_python(taught: Call, call: Callable[..., Call], tiny: Encoder) -> None:
    path, said = takeaway.make(taught, "bundle", "knn", 3, 0.1)
    assert said == "" and path.name == "few-shot.zip" and len(path.parent.name) == 32
    back = Gallery.open(path, tiny)
    assert back.settings == {"method": "knn", "k": 3, "temperature": 0.07, "caution": 0.1}
    other = call()
    fewshot.unzip(other, str(path))
    assert studio_of(other).gallery.counts == {"red": 4, "blue": 4} and not len(studio_of(other).queries)
    assert studio_of(other).undo == "opened a saved set"
    assert "saved with the classifier k nearest examples" in other.message


def test_a_checkpoint_and_a_table(taught: Call) -> None:
    path, said = takeaway.make(taught, "checkpoint", "auto", 5, 0.05)
    with zipfile.ZipFile(path) as packed:
        assert {"config.json", "model.safetensors", "README.md"} <= set(packed.namelist()) and said == ""
    _, said = takeaway.make(taught, "checkpoint", "pixels", 5, 0.05)
    assert said == "Raw pixels cannot be a layer of the model; the checkpoint holds ridge instead."
    with pytest.raises(FewShotError, match="k nearest examples cannot be a checkpoint"):
        takeaway.make(taught, "checkpoint", "knn", 5, 0.05)
    path, _ = takeaway.make(taught, "embeddings", "auto", 5, 0.05)
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 9 and rows[1][1] == "red"


def test_nothing_to_take_is_said(own: Call) -> None:  # noqa: F811
    with pytest.raises(FewShotError, match="nothing to take away yet"):
        takeaway.make(event(own), "bundle", "auto", 5, 0.05)


def test_the_lines_open_what_was_taken(
    taught: Call, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = takeaway.make(taught, "bundle", "auto", 5, 0.05)
    path.rename(tmp_path / "few-shot.zip")
    model, _ = takeaway.make(taught, "checkpoint", "auto", 5, 0.05)
    with zipfile.ZipFile(model) as packed:
        packed.extractall(tmp_path / "checkpoint")
    pictures("red", 1, seed=3)[0].rgb.save(tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Encoder, "from_pretrained", lambda name: tiny)
    exec("\n".join(takeaway.PYTHON), {})
    said = capsys.readouterr().out
    assert "closest='red'" in said and "{'label': 'red'" in said
