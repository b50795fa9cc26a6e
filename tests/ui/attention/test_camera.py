"""The live camera of Attention: each frame gets the map that the controls ask for."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.ui import event, pictures
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.ui.attention import camera, map_view
from vitmsn.ui.attention.map_view import AttentionControls
from vitmsn.ui.shared import live_camera
from vitmsn.ui.visits import Call


def sent(call: Call, picture: Picture, number: int = 7) -> Call:
    jpeg = io.BytesIO()
    picture.rgb.save(jpeg, "JPEG")
    return event(call, n=number, frame=live_camera.START + base64.b64encode(jpeg.getvalue()).decode())


def fitted(call: Call, ask: AttentionControls, picture: Picture) -> AttentionControls:
    return replace(ask, layer=2)


def test_a_frame_gets_its_map_and_its_number(call: Callable[..., Call]) -> None:
    [red] = pictures("red", 1, seed=2)
    asked = sent(call(), red)
    page = camera.answer(asked, AttentionControls(layer=9, head=1), fitted)
    _, picture = live_camera.frame(asked)
    found = map_view.see(asked.encoder, picture, AttentionControls(layer=2, head=1))
    assert page.startswith('<figure class="msn-live-map" data-n="7">') and found.alt in page
    assert map_view.sentence(found, 1.0) in page and "data-say" not in page


@pytest.mark.parametrize("values", [{}, {"n": 1, "frame": "data:image/svg+xml;base64,AAAA"}], ids=str)
def test_whatever_else_is_sent_is_refused(call: Callable[..., Call], values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="something else than a small picture"):
        camera.answer(event(call(), **values), AttentionControls(layer=1), fitted)
