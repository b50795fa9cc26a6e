"""Uploads arrive as paths, and pictures are sent inside the page."""

from __future__ import annotations

import base64
from pathlib import Path

import gradio as gr
import pytest
from gradio.data_classes import ImageData
from PIL import Image

from vitmsn import image, limits
from vitmsn.errors import ImageError
from vitmsn.ui.shared import photo
from vitmsn.ui.shared.photo import Photo, read_picture


def test_an_upload_arrives_as_an_unchanged_path(tmp_path: Path) -> None:
    (tmp_path / "any.bin").write_bytes(b"not opened here")
    photo = Photo(render=False)
    assert photo.preprocess(ImageData(path=str(tmp_path / "any.bin"))) == str(tmp_path / "any.bin")
    assert photo.preprocess(None) is None
    for payload in (ImageData(path=None), ImageData(path="/x", url="data:image/png;base64,AAAA")):
        with pytest.raises(gr.Error, match="file upload"):
            photo.preprocess(payload)


def test_a_picture_is_sent_inside_the_page_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHOWN_SIDE", 10)
    photo = Photo(render=False)
    value = Image.new("RGB", (40, 20), "red")
    out = photo.postprocess(value)
    assert isinstance(out, ImageData) and out.path is None and str(out.url).startswith("data:image/webp;base64,")
    assert image.decode(base64.b64decode(str(out.url).split(",")[1])).rgb.size == (10, 5)
    assert value.size == (40, 20) and photo.postprocess(None) is None


def test_photo_is_an_image_to_the_browser_and_writes_no_stub() -> None:
    assert Photo(render=False).get_block_name() == "image"
    assert not list(Path(photo.__file__).parent.glob("*.pyi"))


def test_a_missing_upload_gives_a_message(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no longer here; add the picture again"):
        read_picture(str(tmp_path / "gone.png"))
