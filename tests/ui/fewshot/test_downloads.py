"""Downloads: a set that opens again, a checkpoint and a table."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.support.ui import CONFIG, event, pictures, workspace_of
from vitmsn import bundle
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError
from vitmsn.ui.fewshot import downloads, tab
from vitmsn.ui.fewshot.controls import FewShotControls
from vitmsn.ui.visits import Call


@pytest.fixture
def taught(own: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    for color in ("red", "blue"):
        workspace_of(own).add(own.encoder, color, pictures(color, 4))
    return own


def test_a_set_opens_again_here_and_in_python(taught: Call, call: Callable[..., Call], tiny: Encoder) -> None:
    path, said = downloads.make(taught, "bundle", "knn", 3, 0.1)
    assert said == "" and path.name == "few-shot.zip" and len(path.parent.name) == 32
    back = bundle.load(path, tiny)
    assert back.settings == {"method": "knn", "k": 3, "temperature": 0.07, "caution": 0.1}
    other = call()
    controls, page = opened_again(other, path)
    assert workspace_of(other).gallery.counts == {"red": 4, "blue": 4} and not len(workspace_of(other).queries)
    assert workspace_of(other).undo == "opened a saved set" and not other.message
    assert controls == FewShotControls("knn", 3, 10, 0.07)
    assert 'fewshot.learn(examples.X, examples.y, "knn", k=3, temperature=0.07, caution=0.1,' in unescape(page[3])
    assert page == list(tab.answer(other, controls))


def opened_again(call: Call, path: Path) -> tuple[FewShotControls, list[str]]:
    """The values of the four controls, and the page, after a saved set was opened."""
    shown = tab.unzip(call, str(path), FewShotControls("ridge", 7, 20, 0.5))
    page = [shown.pop(name) for name in tab.FewShotPage._fields]
    return FewShotControls(**shown), page


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"method": "magic"}, "method is 'magic'"),
        ({"k": 51}, "k is 51"),
        ({"k": True}, "k is True"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"caution": 0.5}, "share is 50"),
        ({"caution": "0.05"}, "share is '0.05'"),
    ],
    ids=str,
)
def test_unknown_saved_settings_are_reported_and_ignored(
    taught: Call, call: Callable[..., Call], tmp_path: Path, saved: dict[str, Any], words: str
) -> None:
    workspace_of(taught).gallery.settings = {"method": "knn", "k": 3, "temperature": 0.1, "caution": 0.0} | saved
    path = bundle.save(workspace_of(taught).gallery, tmp_path / "few-shot.zip")
    other = call()
    controls, _ = opened_again(other, path)
    assert controls == FewShotControls("ridge", 7, 20, 0.5) and len(workspace_of(other).gallery) == 8
    assert words in other.message and "your own settings" in other.message


def test_a_set_from_another_model_is_embedded_again(taught: Call, call: Callable[..., Call], tmp_path: Path) -> None:
    stranger = Encoder.random(CONFIG, seed=1, device="cpu")
    workspace_of(taught).gallery.re_embed(stranger)
    path, other = bundle.save(workspace_of(taught).gallery, tmp_path / "few-shot.zip"), call()
    controls, page = opened_again(other, path)
    assert workspace_of(other).gallery.fingerprint == other.encoder.fingerprint
    assert controls.method == "ridge" and "8 of 8 right" in page[1]  # nothing was saved but the examples
    assert other.message == "This set was saved with another model; its pictures were embedded again with this one."


def test_a_checkpoint_with_another_method_shows_its_accuracy_beside_the_button(taught: Call) -> None:
    assert "checkpoint holds" not in tab.answer(taught, FewShotControls("ridge"))[3]
    said = tab.answer(taught, FewShotControls("pixels"))[3]
    assert (
        "The checkpoint holds ridge, because raw pixels cannot be a layer of the model: 8 of 8 right (100\xa0%)."
        in said
    )
    assert "A checkpoint cannot hold k nearest examples" in tab.answer(taught, FewShotControls("knn"))[3]


def test_a_checkpoint_and_a_table(taught: Call) -> None:
    path, said = downloads.make(taught, "checkpoint", "auto", 5, 0.05)
    with zipfile.ZipFile(path) as packed:
        assert {"config.json", "model.safetensors", "README.md"} <= set(packed.namelist()) and said == ""
    _, said = downloads.make(taught, "checkpoint", "pixels", 5, 0.05)
    assert said.startswith(
        "Raw pixels cannot be a layer of the model; the checkpoint holds ridge instead: 8 of 8 right ("
    )
    with pytest.raises(FewShotError, match="k nearest examples cannot be a checkpoint"):
        downloads.make(taught, "checkpoint", "knn", 5, 0.05)
    path, _ = downloads.make(taught, "embeddings", "auto", 5, 0.05)
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 9 and rows[1][1] == "red"


def test_a_download_without_examples_is_refused(own: Call) -> None:
    with pytest.raises(FewShotError, match="nothing to download yet"):
        downloads.make(event(own), "bundle", "auto", 5, 0.05)


def test_the_python_lines_open_the_downloads(
    taught: Call, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = downloads.make(taught, "bundle", "auto", 5, 0.05)
    path.rename(tmp_path / "few-shot.zip")
    model, _ = downloads.make(taught, "checkpoint", "auto", 5, 0.05)
    with zipfile.ZipFile(model) as packed:
        packed.extractall(tmp_path / "checkpoint")
    pictures("red", 1, seed=3)[0].rgb.save(tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Encoder, "from_pretrained", lambda *_: tiny)
    exec("\n".join(downloads.PYTHON), {})
    said = capsys.readouterr().out
    assert "closest='red'" in said and "{'label': 'red'" in said
