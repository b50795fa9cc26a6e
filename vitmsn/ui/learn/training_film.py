"""The film of a live training: pictures it was not trained on, each where the network puts it, frame by frame.

The player stays on the page as it is (training_film.js); the frames come as data in an element beside it, so that
somebody who looks at an earlier frame is not disturbed.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn.training import shapes
from vitmsn.ui.learn.training_process import Run
from vitmsn.ui.locale import tr_html
from vitmsn.ui.shared.scripts import script

SCRIPT = script(__file__, "frames.js", "training_film.js")
REEL = script(__file__, "training_reel.js")
SIDE, COLUMNS = 32, 16  # pixels of a picture on the sheet, and pictures in a row
SHEET = "/training-pictures.webp"
# Okabe and Ito's colors, one for each kind, readable on light and dark
INKS = ("#d18f00", "#56b4e9", "#009e73", "#a89c00", "#0072b2", "#d55e00", "#cc79a7", "#888888")
HALF = 1.2  # half the width of the map: unit vectors around their mean rarely leave it


def player() -> Markup:
    """The film's place on the page."""
    about = {"sheet": SHEET.lstrip("/"), "side": SIDE, "columns": COLUMNS, "half": HALF, "inks": INKS}
    return tr_html(
        '<figure class="msn-field"><canvas role="img" aria-label="The film of a training" data-about="{}"></canvas>'
        '<div class="msn-scrub"><button type="button" data-play>Play</button>'
        '<input type="range" min="0" max="0" value="0" step="1" aria-label="Frame of the film">'
        '<output aria-live="off"></output></div><figcaption>Each picture is one that the network was not trained on, '
        "placed where the network puts it. Same things together = it has learned. The color around a picture tells its "
        "kind.</figcaption></figure>"
    ).format(json.dumps(about))


@lru_cache(maxsize=1)
def sheet() -> bytes:
    """The held-out pictures on one WebP, in their order."""
    _, (pictures, _) = shapes.load(SIDE)
    rows = -(-len(pictures) // COLUMNS)
    whole = np.zeros((rows * SIDE, COLUMNS * SIDE, 3), np.uint8)
    for place, picture in enumerate(pictures.permute(0, 2, 3, 1).numpy()):
        top, left = place // COLUMNS * SIDE, place % COLUMNS * SIDE
        whole[top : top + SIDE, left : left + SIDE] = picture
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def reel(run: Run) -> Markup:
    """The frames of a run so far, as data for the player; empty without frames."""
    if not run.about or not run.frames:
        return Markup()
    data = {
        "run": f"{run.letter}{run.began:.3f}",
        "labels": run.about["labels"],
        # rounded here, as the sentence above the film is: JavaScript rounds halves up
        "frames": [
            {"step": frame["step"], "percent": round(100 * frame["knn"]), "xy": frame["xy"]} for frame in run.frames
        ],
    }
    return Markup('<span class="msn-reel" data-reel="{}"></span>').format(json.dumps(data, separators=(",", ":")))


def miniature(run: Run) -> Markup:
    """The last frame of a run as a small map of dots, for the eye; the words beside it say the rest."""
    assert run.about is not None
    dots = Markup().join(
        Markup('<circle cx="{:.0f}" cy="{:.0f}" r="3" fill="{}"/>').format(
            *(100 + 100 / HALF * sign * value for sign, value in zip((1, -1), point, strict=True)),
            INKS[label % len(INKS)],
        )
        for point, label in zip(run.frames[-1]["xy"], run.about["labels"], strict=True)
    )
    return Markup('<svg viewBox="0 0 200 200" aria-hidden="true">{}</svg>').format(dots)
