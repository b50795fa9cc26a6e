"""Nearest pictures and the wall as parts of the Masking tab's answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.ui import event
from vitmsn.errors import InputError
from vitmsn.ui.masking import gallery_sections, tab
from vitmsn.ui.masking.controls import MaskingControls
from vitmsn.ui.masking.state import MaskingState
from vitmsn.ui.models import RANDOM
from vitmsn.ui.visits import Call

Calls = Callable[..., Call]


def test_every_answer_has_the_nearest_pictures(call: Calls) -> None:
    out = tab.answer(call(), MaskingControls(ratio=50))
    assert "With 50\xa0% hidden" in out["nearest"] and out["hide"]["value"] == "50"
    assert "wall" not in out  # not opened yet


def test_the_pills_show_the_ratio_only_where_they_have_it(call: Calls) -> None:
    assert tab.answer(call(), MaskingControls(ratio=45))["hide"]["value"] is None
    assert tab.answer(call(), MaskingControls(kind="painted", paint="1.1"))["hide"]["value"] is None


def test_the_wall_follows_the_mask_once_it_is_open(call: Calls) -> None:
    here = call()
    here.visit.state(MaskingState).wall = True
    assert "has no prototypes, so there is no wall" in tab.answer(here, MaskingControls())["wall"]


def test_a_click_without_prototypes_is_refused(call: Calls) -> None:
    with pytest.raises(InputError, match="random weights has no prototypes to open"):
        gallery_sections.one(event(call(model=RANDOM), number=3))
