"""Hide patches until the answer changes: the sentence and the steps."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vitmsn import robustness
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.ui.masking import deciding_patches
from vitmsn.ui.models import RANDOM
from vitmsn.ui.visits import Call


@pytest.mark.parametrize("by", deciding_patches.BY)
def test_every_step_can_be_scrubbed_to(call: Callable[..., Call], by: str) -> None:
    encoder, picture = call().encoder, call().picture
    found = deciding_patches.run(encoder, picture, by)
    shown = deciding_patches.shown(encoder, picture, found)
    ways = [json.loads(html.unescape(data)) for data in re.findall(r'data-steps="([^"]*)"', shown)]
    expected = [steps for steps in (found.flip_steps if found.flip is not None else None, found.keep_steps) if steps]
    assert [len(way) for way in ways] == [len(steps) for steps in expected]
    for way, steps in zip(ways, expected, strict=True):
        for told, step in zip(way, steps, strict=True):
            bits = np.array([[int(bit) for bit in f"{int(digit, 16):04b}"] for digit in told["hidden"]]).ravel()
            assert np.flatnonzero(bits).tolist() == sorted(step.hidden.tolist())
            doubt = "" if step.sure else "not sure, closest match "
            assert told["said"].startswith(
                f"{len(step.hidden)} of 16 hidden: {doubt}{'still' if step.same else 'now'} {step.answer} "
            )
    assert shown.count("msn-gone") == sum(len(steps[-1].hidden) for steps in expected)


def test_the_sentence_states_certainty_and_counts(call: Callable[..., Call]) -> None:
    encoder, picture = call().encoder, call().picture
    step = robustness.SearchStep(np.array([1, 2]), "goldfish", 0.8, 0.2, same=False, sure=True)
    found = robustness.Search(
        "tabby", "class", (4, 4), np.array([1, 2]), np.array([3]), [step], [step], [5, None, 9], [2, 3, 4]
    )
    said = deciding_patches.sentence(encoder, picture, found)
    sure = encoder.classify(picture)[0].sure
    assert ("Not sure" in said) == (not sure)
    assert "Hiding 2 patches of 16 changes it to goldfish (in random order: 5, never and 9)." in said
    assert "1 patch alone can keep it (in random order: 2, 3 and 4)." in said
    doubt = replace(step, probability=0.3, sure=False)
    said = deciding_patches.sentence(encoder, picture, replace(found, flip_steps=[doubt], keep_steps=[doubt]))
    assert "Hiding 2 patches of 16 makes goldfish the closest match, not sure (in random order" in said
    assert "1 patch alone can keep it the closest match, not sure (in random order" in said
    nothing = robustness.Search("prototype 4", "prototype", (4, 4), None, np.array([3]), [], [step], [1], [1])
    said = deciding_patches.sentence(encoder, picture, nothing)
    assert "nearest prototype: prototype 4. Hiding all patches but one does not change it." in said


def test_an_impossible_search_is_reported(call: Callable[..., Call]) -> None:
    with pytest.raises(InputError, match="by is 'eyes'; choose one of attention, relevance"):
        deciding_patches.run(call().encoder, call().picture, "eyes")
    with pytest.raises(MissingHeadError, match="neither a classifier nor prototypes"):
        deciding_patches.run(call(RANDOM).encoder, call().picture, "attention")
