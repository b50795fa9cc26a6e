"""Shared by Attention and Masking: the picture as the model sees it, its patches, and which one was clicked."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import attention, draw, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import Picture
from vitmsn.ui.locale import tr, tr_number
from vitmsn.ui.shared import html
from vitmsn.ui.shared.photo import read_picture
from vitmsn.ui.visits import Call

Size = int | tuple[int, int]  # of an input in pixels: the side of a square, or (height, width); 0: the model's own


LEAST = 256  # pixels of the longer side, large enough to see and click patches


def seen(
    encoder: Encoder, picture: Picture, size: Size = 0, side: int = limits.SHOWN_SIDE, least: int = LEAST
) -> Image.Image:
    """The part of the picture that the model sees, in its own proportions, with a longer side of at most `side`.

    A small one is enlarged by a whole factor, to at least `least` where `side` allows, without smoothing.
    """
    shown = encoder.processor.part(picture, input_size(encoder, size))
    shown.thumbnail((side, side))
    longer = max(shown.size)
    times = min(-(-least // longer), side // longer)
    return shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST) if times > 1 else shown


def _shown_whole(picture: Picture) -> tuple[int, int]:
    """(width, height) of the visitor's whole picture as the page shows it."""
    shown = Image.new("1", picture.rgb.size)
    shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
    return shown.size


def input_size(encoder: Encoder, size: Size = 0) -> tuple[int, int]:
    """(height, width) of an input in pixels."""
    if isinstance(size, tuple):
        return size
    return (size, size) if size else encoder.input_size


def proportioned(encoder: Encoder, picture: Picture, size: int) -> tuple[int, int]:
    """The input (height, width) in the picture's own proportions, with about the patches of `size`."""
    side = size or round((encoder.input_size[0] * encoder.input_size[1]) ** 0.5)
    return attention.fitting_size(picture.rgb.size, side, encoder.patch_size)


def grid(encoder: Encoder, size: Size = 0) -> tuple[int, int]:
    """(rows, columns) of the patches of an input."""
    return encoder.grid(input_size(encoder, size))


def clicked(call: Call, places: tuple[int, int], *, size: Size = 0, whole_picture: bool = False) -> tuple[int, int]:
    """Row and column, from 0, of the patch of a grid (rows, columns) that was clicked.

    `size`: of the input whose `seen` was clicked; `whole_picture`: the visitor's whole picture was clicked instead.
    """
    encoder, picture = call.encoder, call.picture
    sides = _shown_whole(picture) if whole_picture else seen(encoder, picture, size).size
    try:
        x, y = (float(value) / side for value, side in zip(call.chosen("index"), sides, strict=True))
    except (TypeError, ValueError):
        raise InputError(tr("That click carried no place; click on the picture again.")) from None
    if not (0 <= x <= 1.01 and 0 <= y <= 1.01):  # the page rounds up
        raise InputError(tr("That click was outside the picture; click on it again."))
    if whole_picture:
        left, top, right, bottom = encoder.processor.seen(picture.rgb.size, input_size(encoder, size))
        x, y = (x - left) / (right - left), (y - top) / (bottom - top)
        if not (-0.01 <= x <= 1.01 and -0.01 <= y <= 1.01):
            raise InputError(tr("The model does not see this edge of the picture; click nearer to the middle."))
    x, y = max(x, 0), max(y, 0)
    rows, columns = places
    return min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)


def sent(path: str | None) -> Picture:
    """The picture in a request, which must have one."""
    if path is None:
        raise InputError("No picture came; send one as `image`.")
    return read_picture(path)


def file_name(call: Call) -> str:
    """The visitor's picture's file name for code on the page."""
    return f"{call.visit.example}.png" if call.visit.example else call.picture.name


def legend(scale: draw.Scale, what: str, palette: str = "magma", shares: bool = True) -> Markup:
    """A color scale as HTML, for shares (in percent) or plain numbers, readable in light and dark mode."""
    low, high = (html.share(end) if shares else tr_number(f"{end:.2g}") for end in scale)
    ramp = ", ".join(draw.ramp(palette=palette))
    return Markup(
        '<p class="msn-scale"><span>{}</span><span class="msn-ramp" aria-hidden="true" '
        'style="background:linear-gradient(90deg, {})"></span><span>{}</span> '
        "<span>{}</span></p>"
    ).format(low, ramp, high, html.text(what))


def peak(values: np.ndarray) -> tuple[int, int]:
    """Row and column, from 1, of the largest value of a map; NaN is ignored."""
    row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return int(row) + 1, int(column) + 1
