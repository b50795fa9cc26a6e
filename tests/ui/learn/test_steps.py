"""The steps as HTML: their numbers, their pictures, and what they say for a model without a head."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from PIL import Image

from vitmsn.draw import HIDDEN
from vitmsn.encoder import Encoder
from vitmsn.image import Picture, ViTMSNImageProcessor, decode
from vitmsn.nearest import kept
from vitmsn.ui.learn import picture_steps, steps
from vitmsn.ui.learn.walkthrough import LearnControls, Walk, study
from vitmsn.ui.shared import picture_gallery


@pytest.fixture
def studied(headed: Encoder, picture: Picture) -> Walk:
    return study(headed, picture, LearnControls(layer=1))


def sentence(page: str) -> str:
    found = re.search('<p class="msn-sentence" data-say>(.*?)</p>', page)
    assert found is not None
    return html.unescape(found[1]).replace("\N{NO-BREAK SPACE}", " ")


def test_every_step_has_its_numbers(headed: Encoder, studied: Walk) -> None:
    told = [sentence(steps.answer(place, headed, studied, "headed")) for place in range(8)]
    found = studied.assigned
    assert found is not None and studied.index is not None
    assert "256 × 256 pixels become 16 × 16" in told[0] and "4 × 4 = 16 patches of 4 × 4" in told[0]
    assert "becomes 6 views" in told[1] and "4 close-ups" in told[1] and "The teacher sees the full view" in told[1]
    assert "16 patches 5 are dropped and 11 stay" in told[2] and " ms " in told[2]
    assert "The 11 patches that are left become 11 tokens" in told[3] and "In layer 1 of 2 CLS looks most" in told[3]
    counts = [kept(studied.near[0], near) for near in studied.near]
    assert f"the masked view finds {counts[1]}, the close-ups {min(counts[2:6])} to {max(counts[2:6])}" in told[4]
    assert f"another picture (a cup of espresso) {counts[6]}" in told[4]
    first = found.views[0].argmax()
    assert f"Of 8 prototypes the full view belongs most to prototype {first + 1} (" in told[5]
    assert f"Sharpening takes prototype {first + 1} from" in told[6]
    terms = re.search(r"The loss is ([−\d.]+) − 1 × ([−\d.]+) = ([−\d.]+) nats", told[7])
    assert terms is not None
    surprise, spread, loss = (float(term.replace("−", "-")) for term in terms.groups())
    assert surprise - spread == pytest.approx(loss, abs=1e-9) and loss == pytest.approx(studied.loss, abs=0.011)


def test_the_first_step_says_that_the_middle_is_cut_out(
    headed: Encoder, monkeypatch: pytest.MonkeyPatch, picture: Picture
) -> None:
    monkeypatch.setattr(headed, "processor", ViTMSNImageProcessor({"shortest_edge": 18}, crop=16))
    wide = decode(picture.rgb.crop((0, 0, 240, 160)))
    told = sentence(steps.picture(headed, study(headed, wide, LearnControls(layer=1))))
    assert told.startswith("Your picture's 240 × 160 pixels become 27 × 18; the network gets the 16 × 16 in the middle")


def test_every_picture_has_alt_text(headed: Encoder, studied: Walk) -> None:
    pictures = [1, 7, 2, 1 + len(studied.looks) - 1, 7, 0, 0, 6]
    for place in range(8):
        page = steps.answer(place, headed, studied, "headed")
        assert f"{place + 1} of 8" in page
        alts = re.findall(r'<img[^>]* alt="([^"]*)"', page)
        assert len(alts) == page.count("<img") == pictures[place]
        assert place == 7 or all(alts)  # in the table the name stands beside the picture


def test_without_a_head_the_last_steps_say_so(tiny: Encoder, picture: Picture) -> None:
    studied = study(tiny, picture, LearnControls())
    for place, step in enumerate(steps.STEPS):
        page = steps.answer(place, tiny, studied, "<b>mine</b>")
        assert ("has no prototypes, so this step cannot be shown" in page) == step.head
        assert "<b>mine" not in page
    assert [step.head for step in steps.STEPS] == [False] * 5 + [True] * 3


def test_dropping_no_patch_is_reported(headed: Encoder, picture: Picture) -> None:
    page = steps.answer(2, headed, study(headed, picture, LearnControls(ratio=0)), "headed")
    assert sentence(page).startswith("Nothing is dropped: all 16 patches")


def test_another_size_is_cut_into_more_patches(headed: Encoder, picture: Picture) -> None:
    page = steps.answer(0, headed, study(headed, picture, LearnControls(size="double")), "headed")
    assert "32 × 32, another size than this model's own, cut into 8 × 8 = 64" in sentence(page)


def test_prototypes_are_strips_with_the_probabilities_under_them(headed: Encoder, studied: Walk) -> None:
    found = studied.assigned
    assert found is not None
    first = int(found.views[0].argmax())
    page = steps.answer(5, headed, studied, "headed")
    assert page.count('class="msn-proto') == 4 + 1 and page.count('class="msn-proto msn-first"') == 1
    assert f"Pictures nearest to Prototype {first + 1}: " in page and "masked view" in page
    page = html.unescape(steps.answer(6, headed, studied, "headed"))
    for shares in (found.views[0], found.sharp, found.balanced):
        assert picture_steps.percent(shares[first]) in page
    assert "The whole batch: your picture and 288 of the gallery" in page


def test_the_loss_is_a_table_of_views_and_prototypes(headed: Encoder, studied: Walk) -> None:
    page = steps.answer(7, headed, studied, "headed")
    assert studied.assigned is not None
    assert page.count('<th scope="row">') == 6 and page.count('<th scope="col">') == 2 + picture_steps.COLUMNS
    for value in studied.assigned.cross_entropies:
        assert f"<td>{value:.2f}</td>" in page
    assert "<td>teacher</td>" in page


def test_the_masked_view_is_shown_with_its_dropped_patches_gray(headed: Encoder, studied: Walk) -> None:
    seen = picture_steps._seen(studied, studied.views[1])
    gray = (np.asarray(seen.resize((4, 4), Image.Resampling.NEAREST)) == HIDDEN).all(-1)
    assert gray.sum() == studied.patches - len(studied.kept) and not gray.flat[studied.kept].any()
    assert picture_steps._seen(studied, studied.views[0]) is studied.views[0].picture.rgb


def test_a_spotlight_is_brightest_where_attention_is_highest() -> None:
    values = np.array([[0.1, 0.4], [np.nan, 0.0]])
    lit = picture_steps.spotlight(Image.new("RGB", (8, 8), "white"), values)
    middle = [lit.getpixel((x, y)) for y in (2, 6) for x in (2, 6)]
    assert middle[1] == (255, 255, 255) and middle[2] == HIDDEN
    assert middle[3][0] == int(255 * picture_steps.DARKEST) < middle[0][0] < 255


def test_a_model_too_large_for_the_gallery_shows_numbers(
    headed: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_gallery, "WORK", 1)
    alone = study(headed, picture, LearnControls(layer=1))
    assert alone.index is None and alone.near == []
    for place in range(4, 7):
        page = steps.answer(place, headed, alone, "headed")
        assert "numbers stand in for pictures" in page and "msn-tile" not in page
