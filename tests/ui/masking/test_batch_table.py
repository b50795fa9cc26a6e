"""A batch of pictures: ranked, refused by name, as a table and as CSV."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitmsn import image, limits, robustness
from vitmsn.errors import InputError
from vitmsn.ui.masking import batch_table
from vitmsn.ui.masking.controls import draw
from vitmsn.ui.visits import Call


def test_rows_are_measured_ranked_and_refused_by_name(call: Callable[..., Call], tmp_path: Path) -> None:
    encoder = call().encoder
    (tmp_path / "<b>no.png").write_bytes(b"nothing")
    noise = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    flat = image.decode(Image.new("RGB", (40, 40), "red"), name="=flat.png")
    sources = [str(tmp_path / "<b>no.png"), str(tmp_path / "noise.png"), flat]
    seen: list[tuple[int, int]] = []
    rows = batch_table.judge(
        encoder, sources, lambda seed: draw(encoder, "random", 50, seed), lambda done, total: seen.append((done, total))
    )
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    kept = np.stack([draw(encoder, "random", 50, seed) for seed in range(batch_table.DRAWS)])
    expected = robustness.views(encoder, flat, kept)
    assert rows[2].views is not None
    np.testing.assert_allclose(rows[2].views.similarity, expected.similarity)
    html = batch_table.table(rows, "tiny")
    assert "<b>no" not in html and html.index("msn-refused") > html.index("flat.png")
    assert "survives best" in html and html.count("<th ") == 7
    assert f'data-value="{round(float(expected.similarity.mean()), 6)}"' in html
    data = re.search(r"base64,([^\"]*)\">Download as CSV", html)
    assert data
    table = list(csv.reader(io.StringIO(base64.b64decode(data[1]).decode("utf-8-sig"))))
    assert len(table) == 4 and table[0][0] == "file"
    line = next(line for line in table if "flat" in line[0])
    assert line[0] == "'=flat.png", "no formula"
    assert float(line[2]) == pytest.approx(float(expected.similarity.mean()), abs=1e-5)
    assert float(line[3]) == pytest.approx(float(expected.similarity.min()), abs=1e-5)
    assert line[4] == line[5] == "" and "tiny has no feature mean" in html


def test_a_model_with_a_mean_ranks_by_the_centered_similarity(call: Callable[..., Call], mean: np.ndarray) -> None:
    encoder = call().encoder
    noise = np.random.default_rng(0).integers(0, 255, (2, 30, 30, 3), dtype=np.uint8)
    sources = [image.decode(Image.fromarray(one), name=f"{number}.png") for number, one in enumerate(noise)]
    rows = batch_table.judge(encoder, sources, lambda seed: draw(encoder, "random", 50, seed), lambda *_: None)
    html = batch_table.table(rows, "tiny")
    kept = np.stack([draw(encoder, "random", 50, seed) for seed in range(batch_table.DRAWS)])
    for row, source in zip(rows, sources, strict=True):
        expected = robustness.views(encoder, source, kept).centered
        assert row.views is not None and row.views.centered is not None and expected is not None
        np.testing.assert_allclose(row.views.centered, expected, atol=1e-5)
        values = batch_table._values(row)
        assert values[4:6] == pytest.approx([expected.mean(), expected.min()], abs=1e-5)
        assert f'data-value="{round(float(expected.mean()), 6)}"' in html, "what is shown is centered"
        assert batch_table._rank(row)[1] == pytest.approx(expected.mean(), abs=1e-5)
    assert "0 = unrelated" in html and html.count('data-value=""') == 2  # no prototypes in both rows


def test_too_many_are_refused(call: Callable[..., Call]) -> None:
    with pytest.raises(InputError, match="send fewer"):
        batch_table.judge(call().encoder, ["x"] * (limits.MAX_QUERIES + 1), lambda seed: np.arange(3), lambda *_: None)
