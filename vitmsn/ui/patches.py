"""What Attention and Masking share: the picture as the model sees it, its patches, and which of them was clicked."""

from __future__ import annotations

from PIL import Image

from vitmsn import draw, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.ui import parts
from vitmsn.ui.page import read_picture
from vitmsn.ui.state import Call


def seen(encoder: Encoder, picture: Picture) -> Image.Image:
    """The part of the picture that the model sees, in its own proportions, small enough for the page."""
    if encoder.processor.crop is None:
        shown = picture.rgb.copy()
    else:
        height, width = encoder.input_size
        shown = encoder.processor.view(picture, (4 * height, 4 * width))
    shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
    return shown


def grid(encoder: Encoder, size: int = 0) -> tuple[int, int]:
    """(rows, columns) of the patches of an input of `size` pixels; 0: the model's own size."""
    height, width = (size, size) if size else encoder.input_size
    return height // encoder.patch_size[0], width // encoder.patch_size[1]


def clicked(call: Call, places: tuple[int, int], *, whole_picture: bool = False) -> tuple[int, int]:
    """Row and column, from 0, of the patch of a grid (rows, columns) that was clicked.

    `whole_picture`: the click was on the visitor's picture, not on what `seen` gives.
    """
    encoder, picture = call.encoder, call.picture
    if whole_picture and encoder.processor.crop is not None:
        raise InputError("This model sees only the middle of the picture; click on the map beside it.")
    size = seen(encoder, picture).size
    try:
        x, y = (float(value) / side for value, side in zip(call.chosen("index"), size, strict=True))
    except (TypeError, ValueError):
        raise InputError("That click carried no place; click on the picture again.") from None
    if not (0 <= x <= 1.01 and 0 <= y <= 1.01):  # the page rounds up
        raise InputError("That click was outside the picture; click on it again.")
    rows, columns = places
    return min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)


def sent(path: str | None) -> Picture:
    """The picture that came with a request."""
    if path is None:
        raise InputError("No picture came; send one as `image`.")
    return read_picture(path)


def file_name(call: Call) -> str:
    """What to call the visitor's picture in code."""
    return f"{call.visit.example}.png" if call.visit.example else call.picture.name


def legend(scale: draw.Scale, what: str) -> str:
    """A colour scale of shares as HTML, readable in light and dark."""
    low, high = (draw.percent(end) for end in scale)
    return (
        f'<p class="msn-scale"><span>{low}</span><span class="msn-ramp" aria-hidden="true" '
        f'style="background:linear-gradient(90deg, {", ".join(draw.ramp())})"></span><span>{high}</span> '
        f"<span>{parts.text(what)}</span></p>"
    )
