"""The film of layers: what the chosen token looks at, from the first layer to the last, over the picture.

The maps are those of the small maps of all heads, so that the film costs no forward. The page fades from one layer to
the next (layer_film.js); each layer is on a scale of its own, from 0 to its largest value.
"""

from __future__ import annotations

import base64
import io
import json

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import draw
from vitmsn.ui.attention.map_view import Sight, brightest, times
from vitmsn.ui.locale import later, tr, tr_html
from vitmsn.ui.shared import html, patch_grid
from vitmsn.ui.shared.scripts import script

SCRIPT = script(__file__, "layer_film.js")
SIDE = 256  # pixels of the photograph's longer side, at most
WHAT = later("What the model looks at in one layer after another, as it works. Each layer has its own color scale.")


def film(found: Sight, photo: Image.Image) -> Markup:
    """The player with a frame for each layer; it opens at the layer of the map that is shown."""
    frames = together(found)
    layers, rows, columns = frames.shape
    strength = found.ask.strength / 100
    grey = photo.convert("L").convert("RGB")
    photo = Image.blend(photo.convert("RGB"), grey, min(1.0, 2 * strength))  # as `draw.overlay` does
    photo.thumbnail((SIDE, SIDE))
    about = {
        "photo": html.data_url(photo),
        "maps": _sheet(frames, found.ask.palette),
        "grid": [rows, columns],
        "strength": strength,
        "said": [caption(found, number, values) for number, values in enumerate(frames, 1)],
    }
    return tr_html(
        '<figure class="msn-field msn-layer-film" data-about="{}"><canvas role="img" width="{}" height="{}"></canvas>'
        '<div class="msn-scrub"><button type="button" data-play>Play</button><input type="range" min="1" max="{}" '
        'value="{}" step="1" aria-label="Layer of the film"><output aria-live="off"></output></div>'
        "<figcaption></figcaption></figure>"
    ).format(json.dumps(about), photo.width, photo.height, layers, found.ask.layer)


def together(found: Sight) -> np.ndarray:
    """(layers, rows, columns): the heads of each layer combined as the controls ask."""
    ask, maps = found.ask, found.maps
    if ask.head > 0:
        return maps[:, ask.head - 1]
    chosen = maps[:, [number - 1 for number in ask.some]] if ask.some else maps
    return chosen.max(axis=1) if ask.head == -1 else chosen.mean(axis=1)


def caption(found: Sight, number: int, values: np.ndarray) -> str:
    """What one frame shows, in a sentence with numbers."""
    row, column = patch_grid.peak(values)
    most = times(float(np.nanmax(values)) / float(np.nanmean(values)))
    half = int(brightest(values, 0.5).sum())
    return tr(
        "Layer {layer}, {together}: {whom} looks most at row {row}, column {column}, {times} the average patch; "
        "half of its attention is on {half} of {total} patches.",
        layer=number,
        together=found.together,
        whom=found.whom,
        row=row,
        column=column,
        times=most,
        half=half,
        total=values.size,
    )


def _sheet(frames: np.ndarray, palette: str) -> str:
    """All frames under one another, one pixel per patch, as a lossless data: URL."""
    colors = np.concatenate([draw.color(values, draw.own_scale(values), palette) for values in frames])
    buffer = io.BytesIO()
    Image.fromarray(colors).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
