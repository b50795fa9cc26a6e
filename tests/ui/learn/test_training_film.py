"""The film of a live training: its data, the pictures on it, and the small map of a run."""

from __future__ import annotations

import html
import io
import json
import re
from typing import Any

import numpy as np
from PIL import Image

from vitmsn.training import shapes
from vitmsn.ui.learn import training_film
from vitmsn.ui.learn.training_process import Run, Switches
from vitmsn.ui.visits import Visit

ABOUT = {"labels": [3, 7], "steps": 20, "prototypes": 64}


def frame(step: int) -> dict[str, Any]:
    return {"step": step, "knn": 0.5, "spread": 0.3, "xy": [[0.1, step / 100], [-0.6, 0]], "seconds": 1}


def run(*steps: int) -> Run:
    return Run(Switches(), Visit("a", "model"), told=[ABOUT, *map(frame, steps)], letter="A")


def data(page: str) -> Any:
    found = re.search('data-reel="([^"]*)"', page)
    assert found is not None
    return json.loads(html.unescape(found[1]))


def test_the_film_has_every_frame() -> None:
    one = run(0, 10, 20)
    whole = data(training_film.reel(one))
    assert whole["labels"] == [3, 7] and [part["step"] for part in whole["frames"]] == [0, 10, 20]
    assert whole["frames"][2] == {"step": 20, "percent": 50, "xy": frame(20)["xy"]}
    assert whole["run"] != data(training_film.reel(Run(Switches(), Visit("b", "m"), told=one.told, letter="B")))["run"]
    assert training_film.reel(Run(Switches(), Visit("a", "m"))) == ""


def test_the_player_knows_the_sheet() -> None:
    about = json.loads(html.unescape(re.findall('data-about="([^"]*)"', training_film.player())[0]))
    assert "/" + about["sheet"] == training_film.SHEET and (about["side"], about["columns"]) == (32, 16)
    assert len(about["inks"]) == len(set(about["inks"])) == len(shapes.KINDS)


def test_the_sheet_has_the_held_out_pictures_in_their_order() -> None:
    sheet = Image.open(io.BytesIO(training_film.sheet())).convert("RGB")
    _, (pictures, _) = shapes.load(training_film.SIDE)
    side, columns, place = training_film.SIDE, training_film.COLUMNS, 37
    left, top = place % columns * side, place // columns * side
    seen = np.asarray(sheet.crop((left, top, left + side, top + side))).astype(float)
    meant = pictures[place].permute(1, 2, 0).numpy().astype(float)
    assert abs(seen - meant).mean() < 20  # WebP loses a little
    assert abs(seen - pictures[place + 1].permute(1, 2, 0).numpy()).mean() > 30


def test_a_miniature_has_a_dot_for_each_picture() -> None:
    page = training_film.miniature(run(0, 20))
    assert page.count("<circle") == 2 and training_film.INKS[3] in page and training_film.INKS[7] in page
    assert 'cx="50"' in page and 'aria-hidden="true"' in page  # -0.6 of 1.2 to the left
