"""Downloads of the Attention tab: a picture, the numbers, and the program that makes them."""

from __future__ import annotations

import io
from pathlib import PurePath

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import draw
from vitmsn.ui.attention.map_view import Sight
from vitmsn.ui.locale import later, tr
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.visits import Call

WHAT = later(
    "The map in your picture's resolution (PNG), its numbers with those of all heads (NPZ), and the Python code."
)


def links(call: Call, found: Sight, shown: Image.Image, code: list[str]) -> Markup:
    """Three links with the files inside (data: URLs): nothing is written on the server."""
    stem = html.plain(f"{PurePath(patch_grid.file_name(call)).stem}-{found.ask.kind}", 80)
    if found.colors is None and found.ask.shape == "overlay":
        shown = draw.with_legend(shown, found.scale, found.what, found.ask.palette)
    picture, numbers = io.BytesIO(), io.BytesIO()
    shown.save(picture, "PNG")
    arrays = {"map": found.values, "heads": found.maps}
    if found.colors is not None and found.explained is not None:
        arrays |= {"colors": found.colors, "explained": found.explained}
    np.savez_compressed(numbers, **arrays)  # type: ignore[arg-type]  # its stub mistakes the names for options
    lines = ["from PIL import Image", "", "from vitmsn import Encoder, draw", "from vitmsn.look import look", ""]
    lines += [call.python, *code, _drawing(call, found), ""]
    made = (
        (
            f"{stem}.png",
            "image/png",
            picture.getvalue(),
            tr("Picture, {width} × {height}", width=shown.width, height=shown.height),
        ),
        (
            f"{stem}.npz",
            "application/zip",
            numbers.getvalue(),
            tr("Numbers, {shape}", shape=" × ".join(map(str, found.maps.shape))),
        ),
        (f"{stem}.py", "text/x-python", "\n".join(lines).encode(), tr("Python code")),
    )
    links = Markup().join(html.download(*one) for one in made)
    return Markup('<p class="msn-links">{}</p>').format(links)


def _drawing(call: Call, found: Sight) -> str:
    photo = f"Image.open({patch_grid.file_name(call)!r})"
    if found.colors is not None:
        return f'draw.tinted({photo}, found.colors, {found.ask.strength / 100:g}).save("{found.ask.kind}.png")'
    return f'draw.overlay({photo}, found.values, {found.ask.strength / 100:g}).save("{found.ask.kind}.png")'
