"""Downloads open in other programs and hold what was shown."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitmsn import image
from vitmsn.ui.attention import map_view, tab
from vitmsn.ui.attention.map_view import AttentionControls
from vitmsn.ui.visits import Call


@pytest.mark.parametrize(
    "ask",
    [AttentionControls(layer=2), AttentionControls("colors", 1), AttentionControls("relevance", 2, shape="contour")],
)
def test_downloads_are_a_picture_numbers_and_code(
    call: Callable[..., Call], ask: AttentionControls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = image.decode(Image.radial_gradient("L").convert("RGB").resize((1500, 900)), name="<b>my photo.png")
    visit = call(picture=large)
    html = tab.files(visit, ask)
    found = dict(re.findall(r'download="([^"]*)" href="data:[^;]*;base64,([^"]*)"', html))
    assert [name.rsplit(".", 1)[1] for name in found] == ["png", "npz", "py"] and "<b>" not in html
    picture, numbers, program = (base64.b64decode(data) for data in found.values())
    shown = Image.open(io.BytesIO(picture))
    assert shown.width == 1500 and shown.height >= 900, "the picture's own resolution"
    arrays = np.load(io.BytesIO(numbers))
    expected = map_view.see(visit.encoder, large, ask)
    np.testing.assert_allclose(arrays["map"], expected.values)
    assert arrays["heads"].shape == (2, 2, 4, 4) and ("colors" in arrays) == (ask.kind == "colors")
    monkeypatch.chdir(tmp_path)
    large.rgb.save(tmp_path / large.name)
    lines = [line for line in program.decode().splitlines() if not line.startswith("encoder =")]
    code = "\n".join(lines).replace(f"Image.open({large.name!r})", "photo")
    exec(code, {"encoder": visit.encoder, "photo": large.rgb})
    with Image.open(tmp_path / f"{ask.kind}.png") as made:
        assert made.size == (1500, 900)
