"""`/attention`: the tab as an endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any

from PIL import Image

from vitmsn import draw
from vitmsn.errors import InputError
from vitmsn.ui.app import App
from vitmsn.ui.attention.map_view import KINDS, SHAPES, AttentionControls, drawn, see
from vitmsn.ui.shared import patch_grid
from vitmsn.ui.shared.endpoints import Parameter, PictureFile
from vitmsn.ui.visits import Call


def attend(
    call: Call,
    image: PictureFile,
    layer: Annotated[int, Parameter("Layer", 0)] = 0,
    head: Annotated[int, Parameter("Head", -1)] = 0,
    kind: Annotated[str, Parameter("Kind of map", choices=KINDS)] = "cls",
    row: Annotated[int, Parameter("Row", 1)] = 1,
    column: Annotated[int, Parameter("Column", 1)] = 1,
    size: Annotated[int, Parameter("Input size", 0, 4096)] = 0,
    heads: Annotated[str, Parameter("Some heads")] = "",
    start: Annotated[int, Parameter("First layer", 1)] = 1,
    label: Annotated[str, Parameter("Class to explain")] = "",
    keep: Annotated[int, Parameter("Share to mark", 5, 100)] = 100,
    shape: Annotated[str, Parameter("Drawn as", choices=SHAPES)] = "overlay",
    proportions: Annotated[bool, Parameter("Keep proportions")] = False,
    palette: Annotated[str, Parameter("Palette", choices=draw.PALETTES)] = "magma",
) -> tuple[Image.Image, dict[str, Any]]:
    """Show where the model looks on a picture, as a map drawn over it and as numbers. Layers, heads, rows and columns
    count from 1.

    Args:
        image: the picture.
        layer: which layer; 0 is the last.
        head: which head; 0 is the mean and -1 the largest of all heads, or of those in `heads`.
        kind: "cls" is what the summary token attends to, "patch" what the patch at `row` and `column` attends to, "to"
            what attends to it, "rollout" what reaches the summary token through all layers, "relevance" what speaks for
            a class, by the gradient, "similar" the cosine similarity of the patch's token to all others, "colors" the
            main directions in which tokens differ, as red, green and blue.
        row: row of the patch that "patch", "to" and "similar" are about.
        column: column of that patch.
        size: side of the input in pixels, a multiple of the model's patch; 0 is its own size, larger gives a finer map.
        heads: the heads that the mean or the largest is of, like "1,3"; all if empty.
        start: the layer from which "rollout" and "relevance" go.
        label: the class that "relevance" explains: its name, or its number from 0; the model's answer if empty.
        keep: the percentage of the attention to mark.
        shape: how it is marked.
        proportions: keep the picture's proportions; else it is made square.
        palette: the colors of the map.

    Returns:
        Map: the picture with the map drawn over it, and the color scale.
        Answer: `map`, a list of numbers for each row of patches, row 1 on top; `grid`, its rows and columns; the
            `kind`, `layer` and `head` shown; `label`, the class that relevance explains; `half`, how few patches hold
            half of the map, and its `entropy` in nats (both null where values may be below 0).
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
    app.endpoint("attention", attend, costly=_costly)
