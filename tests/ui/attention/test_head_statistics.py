"""All heads, layer by layer: measured once, drawn to scale, described in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vitmsn import attention
from vitmsn.ui.attention import head_statistics
from vitmsn.ui.attention import tab as tab
from vitmsn.ui.attention.map_view import AttentionControls
from vitmsn.ui.visits import Call


def test_statistics_match_the_library_and_are_measured_once(call: Callable[..., Call]) -> None:
    visit = call()
    tokens = visit.encoder.tokens(visit.picture)
    found = head_statistics.measure(visit, visit.encoder, visit.picture, tokens)
    expected = attention.head_statistics(visit.encoder.model, tokens)
    assert found is not None and visit.visit.nbytes >= found.nbytes > 0
    np.testing.assert_allclose(found.distance, expected.distance[0])
    np.testing.assert_allclose(found.entropy, expected.entropy[0])
    assert head_statistics.measure(visit, visit.encoder, visit.picture, tokens) is found
    other = visit.encoder.tokens(visit.picture, size=24)
    assert head_statistics.measure(visit, visit.encoder, visit.picture, other) is not found


def test_a_slow_measurement_needs_its_button(call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_statistics, "NUMBERS", 10)
    visit, ask = call(), AttentionControls(layer=2, order="distance")
    out = tab.answer(visit, ask)
    assert out["measure"]["visible"] and "<svg" not in out["depth"] and "Press Measure all heads" in visit.message
    assert "looks farthest" not in out["heads"] and "msn-sorted" not in out["heads"]
    out = tab.measure(visit, ask)
    assert not out["measure"]["visible"] and out["depth"].count("<svg") == 2 and "msn-sorted" in out["heads"]


def test_every_head_has_a_dot_drawn_to_scale(call: Callable[..., Call]) -> None:
    values = np.array([[1.0, 3.0], [2.0, 4.0], [0.5, 2.5]], np.float32)
    found = head_statistics.Depth((), values, values / 4, 16)
    html = head_statistics.plot(found, (2, 1))
    distance = html.split("</figure>")[0]
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="3"><title>([^<]*)<', distance)
    assert [title for *_, title in dots][:2] == ["Layer 1, head 1: 1 patches away", "Layer 1, head 2: 3 patches away"]
    x = sorted({float(x) for x, *_ in dots})
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    y = [float(y) for _, y, _ in dots]
    assert y[0] - y[1] == pytest.approx(y[2] - y[3], abs=0.2), "both pairs are 2 patches apart"
    assert html.count('class="here"') == 2 and "0.5 to 4.0 patches away" in html
    assert "layer 3: 0.5 to 2.5" in html
    assert head_statistics.plot(replace(found, distance=values[:1], entropy=values[:1]), (0, 0)).count("<svg") == 2
