"""The figure of a log: drawn from the columns that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.pretraining import RECIPE, noise
from vitmsn.errors import DataError
from vitmsn.training import log_figure
from vitmsn.training.loop import run
from vitmsn.training.trainer import Trainer


def test_a_runs_log_becomes_a_figure(tmp_path: Path) -> None:
    run(Trainer(RECIPE, noise()), tmp_path, log_every=2, say=lambda _: None)
    log_figure.figure(tmp_path / "log.csv", tmp_path / "log.png")
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    distilled = {"divergence", "accuracy", "agreement"}  # test_teacher.py reads those
    drawn = {column for _, _, columns in log_figure.PANELS for column in columns} - {"knn"} - distilled
    assert drawn <= set(header)  # every panel's column exists under that name
    with Image.open(tmp_path / "log.png") as picture:
        assert picture.size == (1200, 800)
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    assert not list(tmp_path.glob("*.part*"))


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n")
    with pytest.raises(DataError, match="has no rows yet"):
        log_figure.figure(tmp_path / "log.csv", tmp_path / "log.png")
