"""The loss as a picture: the right prototypes, the right number, and a true sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vitmsn import robustness
from vitmsn.encoder import Encoder
from vitmsn.msn_head import MSNHead
from vitmsn.ui.masking import before_after
from vitmsn.ui.models import RANDOM
from vitmsn.ui.visits import Call


@pytest.fixture
def with_prototypes(call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch) -> Encoder:
    torch.manual_seed(0)
    encoder = call().encoder
    monkeypatch.setattr(encoder._heads, "msn_head", MSNHead(16, 8, 6, 12).eval().requires_grad_(False))
    return encoder


def test_main_prototypes_are_shown_in_pairs(with_prototypes: Encoder, call: Callable[..., Call]) -> None:
    encoder, picture = with_prototypes, call().picture
    full, masked = encoder.embed(picture), encoder.embed(picture, keep_indices=[0, 5])
    html = before_after.prototypes(encoder, full, masked, "tiny")
    loss = robustness.assignment(encoder, full, masked)
    names = re.findall(r"msn-bar-label\">prototype (\d+)<", html)
    assert int(names[0]) == loss.target.argmax() + 1 and str(loss.anchor.argmax() + 1) in names
    assert 5 <= len(names) == len(set(names)) <= 8 and html.count("msn-bar-value") == 2 * len(names)
    assert f"Loss (cross-entropy): {loss.cross_entropy:.2f} nats, where {loss.least:.2f}" in html
    assert f"and {math.log(12):.2f} a guess" in html


def test_a_model_without_prototypes_says_so(call: Callable[..., Call]) -> None:
    encoder = call(RANDOM).encoder
    assert "has no prototypes" in before_after.prototypes(encoder, np.zeros((1, 16)), np.zeros((1, 16)), "random")


def test_attention_before_and_after_is_on_one_scale(call: Callable[..., Call]) -> None:
    encoder, picture = call().encoder, call().picture
    kept = np.zeros((4, 4), bool)
    kept[1, 1:3] = True
    html = before_after.attention(encoder, picture, kept)
    assert html.count("<figure>") == 2 and html.count("msn-ramp") == 1
    place = re.search(r"Masked picture: CLS looks most at row (\d), column (\d)", html)
    assert place and place[1] == "2" and place[2] in "23", "among the patches that were kept"
    assert before_after.attention(encoder, picture, np.ones((4, 4), bool)).count("<figure>") == 1
