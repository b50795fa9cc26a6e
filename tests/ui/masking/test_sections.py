"""The sections of the Masking tab: what each shows, when it is out of date, and how it is stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitmsn import image, robustness
from vitmsn.errors import InputError
from vitmsn.robustness import masked_views
from vitmsn.ui.locale import speaking
from vitmsn.ui.masking import sections, tab
from vitmsn.ui.masking.controls import MaskingControls
from vitmsn.ui.masking.controls import draw as draw_mask
from vitmsn.ui.masking.state import MaskingState
from vitmsn.ui.models import EMBEDDED, RANDOM
from vitmsn.ui.visits import Call, Stopped

PLAIN = MaskingControls(ratio=50)


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round is enough here: a busy machine has times along its curves, too, and soon."""
    for name, value in (("QUICK", np.inf), ("ROUNDS", 1), ("FEWEST_ROUNDS", 1)):
        monkeypatch.setattr(masked_views, name, value)


def test_the_curves_come_point_by_point(call: Callable[..., Call]) -> None:
    shown = list(sections.curves(call(), PLAIN))
    assert len(shown) == len(robustness.RATIOS)
    assert [html.count("<svg") for html in (shown[0], shown[-1])] == [3, 3]  # no prototypes here
    assert shown[0].count('r="3"') < shown[-1].count('r="3"')
    assert "With 50\xa0% hidden: similarity" in shown[-1] and "With 95\xa0% hidden" in shown[-1]
    [bare] = {html.count("<svg") for html in sections.curves(call(RANDOM), PLAIN)}
    assert bare == 2


def test_a_model_with_a_mean_has_a_centered_curve(call: Callable[..., Call], mean: np.ndarray, file: str) -> None:
    *_, last = sections.curves(call(), PLAIN)
    assert last.count("<svg") == 3 and "Dashes: unrelated pictures." in last and "point.views.centered.mean()" in last
    assert "0 = unrelated" in last
    found = sections.mask_curve(call(), file, seeds=2)
    assert np.shape(found["similarity_centered"]) == (20, 2)
    assert found["similarity_centered"][0] == pytest.approx([1, 1])
    kept = np.stack([draw_mask(call().encoder, "random", 50, seed) for seed in (0, 1)])
    views = robustness.views(call().encoder, file, kept)
    assert views.centered is not None and found["similarity_others"] == pytest.approx(views.others, abs=1e-5)
    assert found["similarity_centered"][10] == pytest.approx(views.centered.tolist(), abs=1e-3)


def test_stopping_keeps_the_curve_so_far(call: Callable[..., Call]) -> None:
    visit = call()
    shown = []
    for html in sections.curves(visit, PLAIN):
        shown.append(html)
        if len(shown) == 3:
            visit.visit.stopped = time.monotonic()
    assert len(shown) == 4 and "msn-sentence" in shown[-1]
    assert visit.message == "Stopped at 15\xa0% hidden; the curve so far stays."


@pytest.mark.parametrize("change", ["picture", "model", "kind"])
def test_a_curve_ends_when_the_page_shows_something_else(call: Callable[..., Call], change: str) -> None:
    visit, ask = call(), MaskingControls(ratio=50)
    running = sections.curves(visit, PLAIN)
    assert "<svg" in next(running)
    if change == "picture":
        visit.visit.picture = image.decode(Image.new("RGB", (30, 30), "red"))
    elif change == "model":
        visit.visit.model = RANDOM
    else:
        ask = MaskingControls("block", 50)
    tab.answer(visit, ask)
    assert list(running) == [""], "nothing of what is no longer there"
    assert "something else" in visit.message


def test_a_search_ends_when_the_page_shows_something_else(
    call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = call()

    def leave(*_: object) -> None:
        visit.visit.picture = image.decode(Image.new("RGB", (30, 30), "red"))
        tab.answer(visit, PLAIN)

    monkeypatch.setattr(visit, "progress", leave)
    with pytest.raises(Stopped, match="something else"):
        sections.find(visit, "attention", PLAIN)
    visit = call()
    monkeypatch.setattr(visit, "progress", lambda *_: tab.answer(visit, MaskingControls("block", 50)))
    assert "<" in sections.find(visit, "attention", PLAIN), "another mask is nothing to a search"
    with pytest.raises(Stopped, match="something else"):
        sections.batch_of_examples(visit, PLAIN)


def test_a_page_that_is_loaded_again_gets_the_results_back(call: Callable[..., Call]) -> None:
    visit = call()
    tab.answer(visit, PLAIN)
    film, found = sections.film(visit, PLAIN), sections.find(visit, "attention", PLAIN)
    assert "film" not in tab.answer(visit, PLAIN)  # the page has them
    visit.visit.page.clear()
    out = tab.answer(visit, PLAIN)
    assert out["film"] == film and out["search"] == found and "batch" not in out
    assert visit.visit.state(MaskingState).nbytes > len(film)
    assert "film" not in tab.answer(visit, PLAIN)
    visit.visit.page.clear()
    other = tab.answer(visit, MaskingControls(ratio=60))  # not those of another mask
    assert other["film"] == "" and other["search"] == found


def test_a_page_that_comes_back_in_german_gets_the_results_in_german(call: Callable[..., Call]) -> None:
    visit = call()
    tab.answer(visit, PLAIN)
    sections.film(visit, PLAIN)
    list(sections.curves(visit, PLAIN))
    sections.find(visit, "attention", PLAIN)
    sections.batch_of_examples(visit, PLAIN)
    visit.visit.page.clear()
    with speaking("de"):
        out = tab.answer(visit, PLAIN)
    for name, words in (("film", "Ähnlichkeit"), ("curves", "Ähnlichkeit"), ("search", "Patch"), ("batch", "Masken")):
        assert words in out[name], name
        told = re.sub(r"<code>.*?</code>|<[^>]*>", "", out[name], flags=re.DOTALL)
        assert not re.search(r"similarity|hidden|keep|survives|answer", told), name
    visit.visit.page.clear()
    assert "similarity" in tab.answer(visit, PLAIN)["film"]


def test_names_of_examples_are_in_the_language_of_the_page(call: Callable[..., Call]) -> None:
    visit = call()
    english = sections.batch_of_examples(visit, PLAIN)
    with speaking("de"):
        german = visit.visit.state(MaskingState).results["batch"].text
    assert "A tabby cat" in english and "Eine getigerte Katze" not in english
    names = re.findall(r'<td data-value="([^"]*)">\1</td>', german)  # sorted by what is shown
    assert "Eine getigerte Katze" in names and "A tabby cat" not in re.sub(r"base64,[^\"]*", "", german)


def test_outdated_results_are_emptied(call: Callable[..., Call]) -> None:
    visit = call()

    def results(ask: MaskingControls) -> list[bool]:
        """Which of the film, the curves, the search and the batch this answer empties."""
        out = tab.answer(visit, ask)
        return [out.get(name) == "" for name in ("film", "curves", "search", "batch")]

    assert results(MaskingControls(ratio=50)) == [False] * 4
    sections.film(visit, PLAIN)
    list(sections.curves(visit, PLAIN))
    sections.find(visit, "attention", PLAIN)
    sections.batch_of_examples(visit, PLAIN)
    assert results(MaskingControls(ratio=50, seed=9)) == [False] * 4, "another draw of the same"
    assert results(MaskingControls(ratio=60)) == [True, False, False, True]
    assert results(MaskingControls("block", 50)) == [True, True, False, True]
    visit.visit.model = RANDOM
    assert results(MaskingControls(ratio=50)) == [True] * 4


def test_the_filmstrip_starts_at_the_seed_and_a_click_chooses_one(call: Callable[..., Call]) -> None:
    visit = call()
    assert 'data-seed="5"' in sections.film(visit, MaskingControls(seed=5))
    import gradio as gr

    visit.event = gr.EventData(None, {"seed": 12})
    out = tab.take(visit, MaskingControls("painted", paint="1.1"))
    assert out["kind"]["value"] == "random" and out["seed"]["value"] == 12
    visit.event = gr.EventData(None, {"seed": "x"})
    with pytest.raises(InputError, match="seed is 'x'"):
        tab.take(visit, PLAIN)


def test_no_files_gives_no_table(call: Callable[..., Call]) -> None:
    assert sections.batch(call(), None, PLAIN) == ""
    assert sections.batch_of_examples(call(), PLAIN).count("<tr>") >= 5


# Endpoints


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((300, 200)).save(path)
    return str(path)


def test_the_curve_for_programs(call: Callable[..., Call], file: str) -> None:
    found = sections.mask_curve(call(), file, "focal", seeds=2)
    assert found["mask_ratio"] == list(robustness.RATIOS) and np.shape(found["similarity"]) == (20, 2)
    assert found["similarity_centered"] == [None] * 20 and found["similarity_others"] is None
    assert found["answer_kept"][0] == [True, True] and found["cross_entropy"] == [None] * 20
    assert found["kept"][0] == 16 and all(value > 0 for value in found["milliseconds"])
    for more, why in (({"kind": "painted"}, "kind is 'painted'"), ({"seeds": 17}, "seeds is 17")):
        with pytest.raises(InputError, match=why):
            sections.mask_curve(call(), file, **more)  # type: ignore[arg-type]


def test_the_search_for_programs(call: Callable[..., Call], file: str) -> None:
    shown, found = sections.mask_search(call(EMBEDDED), file, "relevance")
    assert shown.size == (300, 200) and found["kind"] == "class" and found["patches"] == 16
    assert all(1 <= row <= 4 and 1 <= column <= 4 for row, column in found["keeps"])
    assert len(found["keeps_random"]) == robustness.ORDERS
