"""The Masking tab as plain functions: one visitor, one click at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.ui import changes, event
from vitmsn import draw
from vitmsn import masking as masks
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError
from vitmsn.robustness import Comparison
from vitmsn.timing import timings
from vitmsn.ui.app import SKIP
from vitmsn.ui.masking import tab
from vitmsn.ui.masking.controls import MOST_SEED, MaskingControls, kept_grid
from vitmsn.ui.models import RANDOM
from vitmsn.ui.shared import html
from vitmsn.ui.visits import Call

CONTROLS = [field.name for field in fields(MaskingControls)]
RESULTS = ["film", "curves", "search", "batch"]
START = MaskingControls()
new_values = partial(changes, MaskingControls)


def answered(
    call: Call, ask: MaskingControls = START, fn: Callable[..., dict[str, Any]] = tab.answer
) -> dict[str, Any]:
    return fn(call, ask)


def gray(out: dict[str, Any]) -> int:
    """How many patches of the picture (256 x 256, 4 x 4 patches) are grayed out."""
    pixels = np.asarray(out["view"]["value"]).reshape(4, 64, 4, 64, 3)
    return int((pixels == draw.HIDDEN).all(axis=(1, 3, 4)).sum())


# Masks


@pytest.mark.parametrize(
    ("kind", "function"), [("random", masks.random_mask), ("focal", masks.focal_mask), ("block", masks.block_mask)]
)
def test_a_seed_is_the_librarys_mask_of_that_seed(kind: str, function: Callable[..., torch.Tensor]) -> None:
    kept = kept_grid(MaskingControls(kind, 55, 7), (8, 8))
    expected = function((8, 8), 0.55, torch.Generator().manual_seed(7))[0]
    assert np.flatnonzero(kept).tolist() == expected.tolist()


def test_a_painted_mask_follows_its_text() -> None:
    kept = kept_grid(MaskingControls("painted", paint="1.1-2.2, 4.4"), (4, 4))
    assert np.flatnonzero(~kept).tolist() == [0, 1, 4, 5, 15]


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (MaskingControls("eyes"), "kind is 'eyes'; choose one of random, focal, block, painted"),
        (MaskingControls(ratio=96), "from 0"),
        (MaskingControls(ratio=-1), "from 0"),
        (MaskingControls(ratio=float("nan")), "from 0"),
        (MaskingControls(ratio="70"), "from 0"),  # type: ignore[arg-type]
        (MaskingControls(ratio=True), "from 0"),
        (MaskingControls(seed=-1), "seed is -1"),
        (MaskingControls(seed=1.5), "seed is 1.5"),  # type: ignore[arg-type]
        (MaskingControls(seed=2**31), "seed is 2147483648"),
        (MaskingControls("painted", paint="5.1"), "outside the grid"),
        (MaskingControls("painted", paint="1.1-4.4"), "leave at least one"),
    ],
)
def test_an_impossible_mask_is_refused(call: Callable[..., Call], ask: MaskingControls, why: str) -> None:
    with pytest.raises(InputError, match=why):
        answered(call(), ask)


# The sentences


def test_the_view_hides_as_many_patches_as_the_numbers_say(call: Callable[..., Call]) -> None:
    out = answered(call(), MaskingControls(ratio=50))
    assert gray(out) == 8
    assert out["view"]["alt_text"] == "Random mask: 8 of 16 patches are left"
    assert "8 of 16" in out["figures"] and out["sentence"].count("With 8 of 16 patches left") == 1


def test_the_similarity_is_that_of_the_embeddings(call: Callable[..., Call]) -> None:
    visit = call()
    encoder, picture = visit.encoder, visit.picture
    kept = kept_grid(MaskingControls(ratio=60, seed=3), (4, 4))
    found = tab.compare(encoder, picture, kept)
    full, view = encoder.embed(picture)[0], encoder.embed(picture, keep_indices=np.flatnonzero(kept))[0]
    assert found.similarity == pytest.approx(float(full @ view / np.linalg.norm(full) / np.linalg.norm(view)), abs=1e-5)
    assert found.similarity < 1
    assert tab.compare(encoder, picture, np.ones((4, 4), bool)).similarity == pytest.approx(1)


def test_a_model_with_a_feature_mean_shows_the_centered_similarity(call: Callable[..., Call], mean: np.ndarray) -> None:
    visit, ask = call(), MaskingControls(ratio=60, seed=3)
    encoder, picture = visit.encoder, visit.picture
    found = tab.compare(encoder, picture, kept_grid(ask, (4, 4)))
    full, view = encoder.embed(picture)[0] - mean, encoder.embed(picture, keep_indices=found.keep_indices)[0] - mean
    expected = float(full @ view / np.linalg.norm(full) / np.linalg.norm(view))
    assert found.centered == pytest.approx(expected, abs=1e-5)
    out = answered(visit, ask)
    around = html.similar(expected)
    assert f"similarity {around}" in out["sentence"].replace(" is ", " ") and "pictures: 0)" in out["sentence"]
    assert f"full picture</dt><dd>{around}<" in out["figures"] and "0 = unrelated" in out["figures"]
    assert f"this mask {around} at 62\xa0%" in out["chart"] and "unrelated pictures, 0." in out["chart"]
    assert "robustness.centered(encoder, full, masked)" in out["code"]


def test_a_model_without_a_mean_shows_the_plain_similarity_and_says_so(call: Callable[..., Call]) -> None:
    out = answered(call(RANDOM))
    assert "random weights has no feature mean" in out["figures"]
    assert "unrelated pictures: 0" not in out["sentence"]
    assert "centered" not in out["chart"] and "robustness" not in out["code"]


def test_the_sentence_says_whether_the_answer_stays(call: Callable[..., Call], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = call().encoder
    kept = np.arange(16).reshape(4, 4) < 5
    weight = encoder.classifier.weight.detach().numpy()  # type: ignore[union-attr]
    cat, fish = 9 * weight[:1], 9 * weight[2:3]
    said = tab.sentence(encoder, Comparison(kept, cat, cat, 0.871), (8.4, 3.1))
    assert said == ("With 5 of 16 patches left it still says tabby (similarity 0.87). 2.7\N{NO-BREAK SPACE}× faster.")
    said = tab.sentence(encoder, Comparison(kept, cat, cat, 0.93, 0.871), (3.1, 3.1))
    assert said == "With 5 of 16 patches left it still says tabby (similarity 0.87; unrelated pictures: 0)."
    said = tab.sentence(encoder, Comparison(kept, cat, fish, 0.2), (8.4, 3.1))
    assert (
        said
        == "With 5 of 16 patches left, similarity is 0.20. Answer: tabby → goldfish. 2.7\N{NO-BREAK SPACE}× faster."
    )
    said = tab.sentence(encoder, Comparison(kept, cat, 0.001 * fish, 0.2, 0.1), (8.4, 3.1))
    assert "0.10 (unrelated pictures: 0). Closest match: tabby → goldfish, now unsure." in said
    unsure = tab.sentence(encoder, Comparison(kept, 0 * cat, 0 * cat, 0.2), (8.4, 3.1))
    assert "the closest match is still tabby, not sure (similarity 0.20)" in unsure


def test_nothing_hidden_says_what_to_do(call: Callable[..., Call]) -> None:
    out = answered(call(), MaskingControls("painted"))
    assert "Nothing is hidden. Click patches" in out["sentence"] and gray(out) == 0


def test_bars_are_paired_and_include_the_new_answer(call: Callable[..., Call]) -> None:
    encoder = call().encoder
    weight = encoder.classifier.weight.detach().numpy()  # type: ignore[union-attr]
    found = Comparison(np.ones((4, 4), bool), 9 * weight[:1], 9 * weight[3:4], 0.5)
    html = tab.pairs(encoder, found, "tiny")
    labels = [piece.split("<")[0] for piece in html.split('msn-bar-label">')[1:]]
    assert labels[0] == "tabby" and "&lt;b&gt;shark&lt;/b&gt;" in labels and "<b>" not in html
    assert html.count("msn-bar-value") == 2 * len(labels)
    assert html.index("full picture") < html.index("masked picture")


def test_a_model_without_a_classifier_shows_only_the_similarity(call: Callable[..., Call]) -> None:
    out = answered(call(RANDOM))
    assert "random weights has no classifier" in out["bars"] and "msn-pairs" not in out["bars"]
    assert "patches left, similarity is" in out["sentence"]


def test_the_curve_goes_through_this_view(call: Callable[..., Call]) -> None:
    visit = call()
    out = answered(visit, MaskingControls(ratio=70, seed=2))
    found = tab.compare(visit.encoder, visit.picture, kept_grid(MaskingControls(ratio=70, seed=2), (4, 4)))
    ring = out["chart"].split('class="here"')[1]
    dots = out["chart"].split('class="here"')[0]
    place = ring.split('cy="')[1].split('"')[0]
    assert f'cy="{place}" r="3"' in dots, "seed 2 is one of the measured views"
    assert f"this mask {html.similar(found.similarity)} at 69\xa0%" in out["chart"]
    assert "random masks" in out["chart"] and "focal masks" in answered(visit, MaskingControls("focal"))["chart"]


def test_the_status_line_is_about_the_masked_view(call: Callable[..., Call]) -> None:
    with timings() as forwards:
        answered(call(), MaskingControls(ratio=75))
    assert forwards[-1].patches == 4


@pytest.mark.parametrize(
    "ask", [MaskingControls(ratio=35), MaskingControls(seed=9), MaskingControls("painted", paint="1.1-2.2")], ids=str
)
def test_a_mask_that_moves_costs_few_forwards(call: Callable[..., Call], ask: MaskingControls) -> None:
    """Its embedding and, where that many patches are new, once more for the time; the chart and the full view are
    known from before."""
    visit = call()
    answered(visit)
    with timings() as forwards:
        answered(visit, ask)
    patches = int(kept_grid(ask, (4, 4)).sum())
    run = [(forward.pictures, forward.patches) for forward in forwards]
    assert run == [(1, patches)] * (1 if patches == int(kept_grid(START, (4, 4)).sum()) else 2)


@pytest.mark.parametrize(
    "ask",
    [
        MaskingControls(ratio=35, seed=4),
        MaskingControls("focal"),
        MaskingControls("block", 20),
        MaskingControls("painted", paint="1.1-3.3"),
    ],
)
def test_the_python_lines_give_the_same_similarity(
    call: Callable[..., Call],
    ask: MaskingControls,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visit = call()
    visit.picture.rgb.save(tmp_path / "gradient.png")
    monkeypatch.chdir(tmp_path)
    code = answered(visit, ask)["code"].split("<code>")[1].split("</code>")[0].unescape()
    exec("\n".join(line for line in code.splitlines() if not line.startswith("encoder =")), {"encoder": visit.encoder})
    printed = float(capsys.readouterr().out.replace("tensor([", "").replace("])", ""))
    found = tab.compare(visit.encoder, visit.picture, kept_grid(ask, (4, 4)))
    assert printed == pytest.approx(found.similarity, abs=1e-3)


# Controls


def test_only_the_controls_of_this_kind_are_visible(call: Callable[..., Call]) -> None:
    out = answered(call())
    assert new_values(out) == {}
    visible = {name: out[name].get("visible") for name in (*CONTROLS[1:], "again", "invert", "clear")}
    assert visible == {"ratio": True, "seed": True, "paint": False, "again": True, "invert": False, "clear": False}
    out = answered(call(), MaskingControls("painted"))
    visible = {name: out[name].get("visible") for name in visible}
    assert visible == {"ratio": False, "seed": False, "paint": True, "again": False, "invert": True, "clear": True}


def test_a_new_mask_is_the_next_seed_and_wraps_around(call: Callable[..., Call]) -> None:
    assert new_values(answered(call(), MaskingControls(seed=4), tab.again)) == {"seed": 5}
    assert new_values(answered(call(), MaskingControls(seed=MOST_SEED), tab.again)) == {"seed": 0}


def test_an_empty_seed_is_zero(call: Callable[..., Call]) -> None:
    assert new_values(answered(call(), MaskingControls(seed=None))) == {"seed": 0}  # type: ignore[arg-type]
    assert new_values(answered(call(), MaskingControls(seed=None), tab.again)) == {"seed": 1}  # type: ignore[arg-type]


@pytest.mark.parametrize("fn", [tab.toggle, tab.toggle_in_whole])
def test_a_click_hides_a_patch_and_shows_it_again(call: Callable[..., Call], fn: Callable[..., list[Any]]) -> None:
    visit = event(call(), index=[130, 250])
    out = answered(visit, MaskingControls("painted", paint="1.1"), fn)
    assert new_values(out) == {"paint": "1.1, 4.3"} and gray(out) == 2
    assert new_values(answered(visit, MaskingControls("painted", paint="1.1, 4.3"), fn)) == {"paint": "1.1"}


def test_a_click_on_a_drawn_mask_starts_from_it(call: Callable[..., Call]) -> None:
    visit = event(call(), index=[0, 0])
    before = kept_grid(MaskingControls(ratio=50, seed=1), (4, 4))
    out = answered(visit, MaskingControls(ratio=50, seed=1), tab.toggle)
    assert new_values(out)["kind"] == "painted"
    after = ~masks.read_painted(new_values(out)["paint"], (4, 4))
    assert np.argwhere(before != after).tolist() == [[0, 0]]


def test_a_stroke_hides_all_it_crossed_or_shows_them_again(call: Callable[..., Call]) -> None:
    visit = event(call(), cells=[[0, 0], [0, 1], [1, 1]])
    out = answered(visit, MaskingControls("painted", paint="4.4"), tab.stroke)
    assert new_values(out) == {"paint": "1.1-1.2, 2.2, 4.4"} and 'data-rows="4" data-columns="4"' in out["brush"]
    out = answered(visit, MaskingControls("painted", paint="1.1, 4.4"), tab.stroke)
    assert new_values(out) == {"paint": "4.4"}, "it began on a hidden one"
    assert new_values(answered(visit, MaskingControls(ratio=50), tab.stroke))["kind"] == "painted"


@pytest.mark.parametrize("cells", [None, [], "x", [[0]], [[0, 4]], [[-1, 0]], [["a", 0]], [[0, 0]] * 17])
def test_an_invalid_stroke_is_refused(call: Callable[..., Call], cells: Any) -> None:
    with pytest.raises(InputError):
        answered(event(call(), cells=cells), MaskingControls("painted"), tab.stroke)


def test_leaving_the_text_field_answers_only_if_the_text_is_new(call: Callable[..., Call]) -> None:
    visit = call()
    answered(visit, MaskingControls("painted", paint="1.1"))
    assert tab.leave(visit, MaskingControls("painted", paint="1.1")) is SKIP
    assert new_values(answered(visit, MaskingControls("painted", paint="1.2"), tab.leave)) == {}
    visit.visit.model = RANDOM
    assert tab.leave(visit, MaskingControls("painted", paint="1.2")) is not SKIP


def test_the_last_patch_cannot_be_hidden(call: Callable[..., Call]) -> None:
    visit = event(call(), index=[255, 255])
    with pytest.raises(InputError, match="leave at least one"):
        answered(visit, MaskingControls("painted", paint="1.1-4.3, 1.4-3.4"), tab.toggle)


def test_painting_starts_from_the_last_mask(call: Callable[..., Call]) -> None:
    visit = call()
    drawn = answered(visit, MaskingControls("block", 40, 5))
    out = answered(visit, MaskingControls("painted", 40, 5), tab.choose)
    assert (np.asarray(out["view"]["value"]) == np.asarray(drawn["view"]["value"])).all()
    kept = answered(visit, MaskingControls("painted", 40, 5, paint="2.2"), tab.choose)
    assert new_values(kept) == {} and gray(kept) == 1, "what was painted before stays"


def test_invert_and_show_all(call: Callable[..., Call]) -> None:
    assert new_values(answered(call(), MaskingControls("painted", paint="1.1-4.2"), tab.invert)) == {"paint": "1.3-4.4"}
    assert new_values(answered(call(), MaskingControls("painted", paint="1.1-4.2"), tab.clear)) == {"paint": ""}
    with pytest.raises(InputError, match="leave at least one"):
        answered(call(), MaskingControls("painted"), tab.invert)


def test_a_missing_picture_is_reported(call: Callable[..., Call]) -> None:
    with pytest.raises(InputError, match="No picture yet"):
        answered(call(picture=None))


@pytest.mark.parametrize("text", ["1.1; drop", "x" * 10_000, "eyes"])
def test_a_link_with_invalid_patches_is_ignored(text: str) -> None:
    assert tab._painted("1.1-2.2, 4.4") == "1.1-2.2, 4.4"
    with pytest.raises(ValueError):  # noqa: PT011 (no one reads its message)
        tab._painted(text)


# The endpoint


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((300, 200)).save(path)
    return str(path)


def test_the_endpoint_gives_a_picture_and_plain_numbers(call: Callable[..., Call], file: str) -> None:
    shown, found = tab.mask(call(), file, ratio=0.75, seed=2)
    assert shown.size == (300, 200)
    assert list(found) == [
        *("kept", "total", "similarity", "similarity_centered", "similarity_others"),
        *("milliseconds_full", "milliseconds_masked", "top_before", "top_after"),
        *("cross_entropy", "cross_entropy_least", "cross_entropy_even", "prototypes"),
    ]
    assert (found["kept"], found["total"]) == (4, 16)
    assert all(type(found[name]) is float for name in ("similarity", "milliseconds_full", "milliseconds_masked"))
    assert found["milliseconds_full"] > 0 and found["milliseconds_masked"] > 0
    assert len(found["top_before"]) == len(found["top_after"]) == 5
    assert all(set(entry) == {"label", "probability"} for entry in found["top_after"])
    assert [type(value) for value in found["top_after"][0].values()] == [str, float]


def test_the_endpoint_gives_baselines_for_the_similarity(
    call: Callable[..., Call], file: str, mean: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tab.mask(call(), file, "painted", hidden="1.1-2.4")[1]
    encoder = call().encoder
    full, view = encoder.embed(file)[0], encoder.embed(file, keep_indices=np.arange(8, 16))[0]
    one, two = full - mean, view - mean
    expected = float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert found["similarity_centered"] == pytest.approx(expected, abs=1e-4)
    assert found["similarity_others"] == pytest.approx(float(full @ mean / (full @ full)), abs=1e-4)
    monkeypatch.setattr(encoder, "feature_mean", None)
    found = tab.mask(call(), file)[1]
    assert found["similarity_centered"] is None and found["similarity_others"] is None


def test_the_endpoint_takes_every_kind(call: Callable[..., Call], file: str) -> None:
    for kind in ("random", "focal", "block"):
        assert tab.mask(call(), file, kind, 0.5)[1]["kept"] < 16
    assert tab.mask(call(), file, "painted", hidden="1.1-2.4")[1]["kept"] == 8
    assert tab.mask(call(), file, ratio=0)[1]["similarity"] == pytest.approx(1)
    assert tab.mask(call(RANDOM), file)[1]["top_before"] is None


@pytest.mark.parametrize("ratio", [1, 0.96, -0.1, float("nan"), None, "much"])
def test_the_endpoint_refuses_a_ratio_out_of_range(call: Callable[..., Call], file: str, ratio: Any) -> None:
    with pytest.raises(InputError, match="ratio"):
        tab.mask(call(), file, ratio=ratio)


def test_the_endpoint_refuses_a_file_that_is_no_picture(call: Callable[..., Call], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`image`"):
        tab.mask(call(), None)  # type: ignore[arg-type]
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"no\.png"):
        tab.mask(call(), str(tmp_path / "no.png"))


def test_a_mask_that_hides_nothing_has_no_time_of_its_own(tiny: Encoder, call: Callable[..., Call]) -> None:
    found = tab.compare(tiny, call().picture, np.ones((4, 4), bool), timed=True)
    assert found.milliseconds is not None
    full, masked = found.milliseconds
    assert found.count == found.total == 16 and full == masked > 0
    assert "as fast" not in tab.figures(found, (full, masked))


def test_a_time_that_could_not_be_measured_is_left_out(tiny: Encoder, call: Callable[..., Call]) -> None:
    found = tab.compare(tiny, call().picture, np.arange(16).reshape(4, 4) < 8)
    assert "2.0\xa0×" in tab.figures(found, (8.0, 4.0)) and "faster" in tab.sentence(tiny, found, (8.0, 4.0))
    without = tab.figures(found, None)
    assert "8 of 16" in without and "as fast" not in without
    assert "faster" not in tab.sentence(tiny, found, None)
