"""The live camera: small pictures are named, and whatever else is sent is refused."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest

from tests.support.ui import event, pictures, workspace_of
from vitmsn import limits
from vitmsn.errors import ImageError, InputError
from vitmsn.image import Picture
from vitmsn.ui.fewshot import camera
from vitmsn.ui.shared import live_camera
from vitmsn.ui.visits import Call


def jpeg(picture: Picture) -> str:
    out = io.BytesIO()
    picture.rgb.save(out, "JPEG")
    return live_camera.START + base64.b64encode(out.getvalue()).decode()


def test_a_frame_is_named_with_its_number(own: Call) -> None:
    [red] = pictures("red", 1, seed=2)
    sent = event(own, n=7, frame=jpeg(red))
    assert 'data-n="7"' in camera.frame(sent, "auto", 5, 0.05)  # nothing learned yet: an answer all the same
    for color in ("red", "blue"):
        workspace_of(own).add(own.encoder, color, pictures(color, 4))
    said = camera.frame(event(own, n=8, frame=jpeg(red)), "auto", 5, 0.0)
    assert 'data-n="8"' in said and "red" in said and said.count("msn-bar-value") == 2
    assert not len(workspace_of(own).queries)  # frames are not kept
    assert camera.frame(event(own, n=9, frame=jpeg(red)), "pixels", 5, 0.0).count("red") >= 2


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"n": "1", "frame": live_camera.START},
        {"n": 1, "frame": 5},
        {"n": 1, "frame": "data:image/svg+xml;base64,AAAA"},
        {"n": 1, "frame": "http://127.0.0.1/x.jpg"},
        {"n": 1, "frame": live_camera.START + "A" * limits.FRAME_LENGTH},
        {"n": 1, "frame": live_camera.START + "%%%"},
    ],
    ids=str,
)
def test_an_invalid_frame_is_refused(own: Call, values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="something else than a small picture"):
        camera.frame(event(own, **values), "auto", 5, 0.05)


def test_a_frame_that_is_no_picture_is_refused(own: Call) -> None:
    with pytest.raises(ImageError):
        camera.frame(event(own, n=1, frame=live_camera.START + base64.b64encode(b"<svg>").decode()), "auto", 5, 0.05)
