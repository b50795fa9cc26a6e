"""`/attention`: the tab as an endpoint."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from PIL import Image

from vitmsn import draw
from vitmsn.errors import InputError
from vitmsn.ui.app import App
from vitmsn.ui.attention.map_view import AttentionControls, drawn, see
from vitmsn.ui.shared import patch_grid
from vitmsn.ui.shared.photo import Photo
from vitmsn.ui.visits import Call


def attend(
    call: Call,
    image: str,
    layer: int = 0,
    head: int = 0,
    kind: str = "cls",
    row: int = 1,
    column: int = 1,
    size: int = 0,
    heads: str = "",
    start: int = 1,
    label: str = "",
    keep: int = 100,
    shape: str = "overlay",
    proportions: bool = False,
    palette: str = "magma",
) -> tuple[Image.Image, dict[str, Any]]:
    """Show where the model looks on a picture: a map drawn over it, with its color scale, and the map as numbers (one
    list for each row of patches, row 1 on top).

    kind "cls" is what the summary token attends to, "patch" what the patch at `row` and `column` attends to, "to" what
    attends to it, "rollout" what reaches the summary token through all layers from `start` on, "relevance" what speaks
    for a class (`label`: its name, or its number from 0; the model's answer if empty), by the gradient, "similar"
    the cosine similarity of the patch's token to all others, "colors" the main directions in which tokens differ, as
    red, green and blue. Layers, heads, rows and columns count from 1; layer 0 is the last, head 0 the mean and head -1
    the largest of all heads, or of those in `heads` ("1,3"). size is the side of the input in pixels, a multiple of the
    model's patch; 0 is its own size, larger gives a finer map; `proportions` keeps the picture's. keep is the
    percentage of the attention to mark, as an overlay or a "contour". palette is magma, cividis or grey.
    """
    picture = patch_grid.sent(image)
    words = str(heads or "").replace(" ", "")
    if words and not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", words):
        raise InputError(f"heads is {str(heads)[:32]!r}; write their numbers, like 1,3.")
    some = [int(word) for word in words.split(",") if word]
    ask = AttentionControls(
        kind=kind, layer=layer, head=head, keep=keep, size=size, start=start, row=row, column=column,
        label="" if label is None else str(label), palette=palette, shape=shape, aspect=bool(proportions), some=some,
    )  # fmt: skip
    found = see(call.encoder, picture, ask)
    shown = drawn(found, patch_grid.seen(call.encoder, picture, found.ask.input_size(call.encoder, picture), least=0))
    if found.colors is None and shape == "overlay":
        shown = draw.with_legend(shown, found.scale, found.what, palette)
    assert found.look is not None
    return shown, found.look.to_dict()


def _costly(image: str, layer: int, head: int, kind: str, row: int, column: int, size: int = 0, *rest: Any) -> bool:
    return AttentionControls(kind=kind, size=size).costly


def build(app: App) -> None:
    numbers = [gr.Number(value, visible=False, precision=0) for value in (0, 0, 1, 1, 0, 1, 100)]
    words = [gr.Textbox(value, visible=False) for value in ("cls", "", "", "overlay", "magma")]
    asked = [Photo(visible=False), *numbers[:2], words[0], *numbers[2:5], words[1], numbers[5], words[2], numbers[6]]
    asked += [words[3], gr.Checkbox(False, visible=False), words[4]]
    app.endpoint("attention", attend, asked, [gr.Image(visible=False), gr.JSON(visible=False)], costly=_costly)
