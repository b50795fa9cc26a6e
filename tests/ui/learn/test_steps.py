"""The steps as HTML: their numbers, their pictures, and what they say for a model without a head."""

from __future__ import annotations

import html
import math
import re

import pytest

from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.learn import steps
from vitmsn.ui.learn.walkthrough import LearnControls, Walk, entropy, study


@pytest.fixture
def studied(headed: Encoder, picture: Picture) -> Walk:
    return study(headed, picture, LearnControls(layer=1))


def sentence(page: str) -> str:
    found = re.search('<p class="msn-sentence">(.*?)</p>', page)
    assert found is not None
    return html.unescape(found[1]).replace("\N{NO-BREAK SPACE}", " ")


def test_every_step_has_its_numbers(headed: Encoder, studied: Walk) -> None:
    told = [sentence(steps.answer(place, headed, studied, "headed")) for place in range(8)]
    assert "256 × 256 pixels; the network gets 16 × 16" in told[0] and "4 × 4 = 16 patches of 4 × 4" in told[0]
    assert "becomes 6 views" in told[1] and "4 small focal anchors" in told[1]
    assert "16 patches 5 are dropped and 11 stay" in told[2] and " ms " in told[2]
    assert "After layer 1 of 2 the view is 12 tokens, rows of 16 numbers" in told[3]
    assert f"random anchor's is {studied.similarity[0]:.2f} similar" in told[4] and f"{studied.other:.2f}" in told[4]
    assert studied.assigned is not None and studied.mean is not None
    assert f"Of 8 prototypes the target is nearest to no. {studied.assigned[0].argmax() + 1} (" in told[5]
    assert f"is {entropy(studied.mean):.1f} of at most {math.log(8):.1f}" in told[6]
    assert f"= {studied.loss:.2f} nats" in told[7] and "1 × " in told[7]


def test_every_picture_has_alt_text(headed: Encoder, studied: Walk) -> None:
    for place in range(8):
        page = steps.answer(place, headed, studied, "headed")
        assert f"{place + 1} of 8" in page
        alts = re.findall(r'<img[^>]* alt="([^"]*)"', page)
        assert len(alts) == page.count("<img") and all(len(alt) > 20 for alt in alts)
        assert page.count("<img") == (1, 7, 2, 1, 0, 0, 0, 0)[place]


def test_without_a_head_the_last_steps_say_so(tiny: Encoder, picture: Picture) -> None:
    studied = study(tiny, picture, LearnControls())
    for place, step in enumerate(steps.STEPS):
        page = steps.answer(place, tiny, studied, "<b>mine</b>")
        assert ("has no projector and prototypes" in page) == step.head
        assert "<b>mine" not in page
    assert [step.head for step in steps.STEPS] == [False] * 5 + [True] * 3


def test_dropping_no_patch_is_reported(headed: Encoder, picture: Picture) -> None:
    page = steps.answer(2, headed, study(headed, picture, LearnControls(ratio=0)), "headed")
    assert sentence(page).startswith("Nothing is dropped: all 16 patches")


def test_another_size_is_cut_into_more_patches(headed: Encoder, picture: Picture) -> None:
    page = steps.answer(0, headed, study(headed, picture, LearnControls(size="double")), "headed")
    assert "32 × 32 of them, another size than this model's own, cut into 8 × 8 = 64" in sentence(page)
