"""The Learn tab as plain functions: one answer for eight steps, and controls that fit the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vitmsn.errors import InputError
from vitmsn.ui.learn import steps, tab
from vitmsn.ui.learn.walkthrough import LearnControls
from vitmsn.ui.models import RANDOM, Models
from vitmsn.ui.page import build
from vitmsn.ui.visits import Call

Calls = Callable[..., Call]


def test_one_answer_fills_all_eight_steps(call: Calls) -> None:
    out = tab.answer(call(), LearnControls())
    shown = [out[f"step {number}"] for number in range(1, 9)]
    layer, code = out["layer"], out["code"]
    assert len(shown) == len(tab.NAMES) == len(steps.STEPS) == 8
    for number, page in enumerate(shown, start=1):
        assert f"{number} of 8" in page and page.count("msn-sentence") == 1
    assert layer["maximum"] == 2 and layer["value"] == 2
    assert not any(
        out[name]["interactive"] for name in ("temperature", "sharpening", "weight")
    )  # this model has no head
    assert "masking.random_mask(encoder.config.grid, 0.3" in code and "gradient.png" in code


def test_the_model_is_named_and_a_picture_is_required(call: Calls) -> None:
    assert "random weights has no prototypes" in tab.answer(call(model=RANDOM), LearnControls())["step 6"]
    with pytest.raises(InputError, match="No picture yet"):
        tab.answer(call(picture=None), LearnControls())


@pytest.mark.parametrize("text", ["0", "9", "one", "1.5", "nan", "inf"])
def test_a_link_to_a_missing_step_is_ignored(models: Models, text: str) -> None:
    check = build(models).links["step"].check
    assert check("3") == 3
    with pytest.raises(ValueError):  # noqa: PT011 (any ValueError means that the link is ignored)
        check(text)
