"""The Attention tab as plain functions: one visitor, one click at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.ui import changes, event
from vitmsn import attention as rows
from vitmsn.config import VARIANTS, ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.ui.attention import map_view, tab
from vitmsn.ui.attention.map_view import AttentionControls
from vitmsn.ui.models import EMBEDDED, RANDOM, Models
from vitmsn.ui.shared.html import share
from vitmsn.ui.visits import Call

START = AttentionControls(layer=2)  # what the page sends first: the last of the tiny model's two layers
new_values = partial(changes, AttentionControls)


def answered(
    call: Call, ask: AttentionControls = START, fn: Callable[..., dict[str, Any]] = tab.answer
) -> dict[str, Any]:
    return fn(call, ask)


# The maps


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 0), (1, 2), (2, 1)])
def test_the_map_shows_the_chosen_layer_and_head(call: Callable[..., Call], layer: int, head: int) -> None:
    encoder, picture = call().encoder, call().picture
    found = map_view.see(encoder, picture, AttentionControls(layer=layer, head=head))
    maps = rows.cls_attention(encoder.model, encoder.tokens(picture))[0].numpy()
    expected = maps[layer - 1].mean(0) if head == 0 else maps[layer - 1, head - 1]
    np.testing.assert_allclose(found.values.ravel(), expected, rtol=1e-5)
    assert found.maps.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(found.maps[0, 1].ravel(), maps[0, 1], rtol=1e-5)


def test_the_map_of_a_patch_and_of_rollout(call: Callable[..., Call]) -> None:
    encoder, picture = call().encoder, call().picture
    tokens = encoder.tokens(picture)
    found = map_view.see(encoder, picture, AttentionControls("patch", 1, 2, row=2, column=3))
    np.testing.assert_allclose(found.values.ravel(), rows.patch_attention(encoder.model, tokens, 6, 0)[0, 1], rtol=1e-5)
    found = map_view.see(encoder, picture, AttentionControls("rollout", start=2))
    np.testing.assert_allclose(found.values.ravel(), rows.rollout(encoder.model, tokens, 1)[0], rtol=1e-5)


def test_a_larger_input_gives_more_patches(call: Callable[..., Call]) -> None:
    assert map_view.see(call().encoder, call().picture, AttentionControls(size=32)).grid == (8, 8)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (
            AttentionControls("eyes"),
            "kind is 'eyes'; choose one of cls, rollout, relevance, patch, to, similar, colors",
        ),
        (AttentionControls(layer=3), "layer is 3; it must be from 0 to 2"),
        (AttentionControls(layer=-1), "layer is -1"),
        (AttentionControls(head=3), "head is 3"),
        (AttentionControls(head=float("nan")), "head is nan"),  # type: ignore[arg-type]
        (AttentionControls(row=5), "row is 5; it must be from 1 to 4"),
        (AttentionControls(column=0), "column is 0"),
        (AttentionControls(size=18), "whole patches of 4 x 4"),
        (AttentionControls(size=4096), "at most"),
        (AttentionControls(start=0), "start is 0"),
    ],
)
def test_a_missing_layer_or_head_is_refused(call: Callable[..., Call], ask: AttentionControls, why: str) -> None:
    with pytest.raises(InputError, match=why):
        map_view.see(call().encoder, call().picture, ask)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VARIANTS["tiny-8-64"], [("64", 0), ("128", 128), ("192", 192), ("256", 256)]),
        (
            replace(VARIANTS["tiny-8-64"], image_size=224, patch_size=16),
            [("112", 112), ("224", 0), ("336", 336), ("448", 448)],
        ),
        (replace(VARIANTS["tiny-8-64"], image_size=224, patch_size=4), [("112", 112), ("224", 0)]),
        (
            ViTMSNConfig(**{**vars(VARIANTS["tiny-8-64"]), "image_size": (16, 24), "patch_size": 8}),
            [("16 × 24", 0), ("24", 24), ("48", 48), ("72", 72), ("96", 96)],
        ),
        (replace(VARIANTS["tiny-8-64"], image_size=(32, 64), patch_size=(8, 16)), [("32 × 64", 0)]),
    ],
    ids=["64/8", "224/16", "224/4", "oblong", "oblong patches"],
)
def test_offered_sizes_are_multiples_of_the_patch(config: ViTMSNConfig, expected: list[tuple[str, int]]) -> None:
    config = replace(config, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    assert map_view.sizes(Encoder.random(config, device="cpu")) == expected


# The sentences


def test_the_sentence_has_numbers(call: Callable[..., Call]) -> None:
    tokens = call().encoder.tokens(call().picture)
    values = np.full((4, 4), 0.02, dtype=np.float32)
    values[2, 1] = 0.25
    found = map_view.Sight(AttentionControls("cls", 2, 1), values, np.stack([[values], [values]]), tokens)
    assert map_view.sentence(found, 1.0) == (
        "In layer 2, head 1, CLS looks most at row 3, column 2: 25\xa0% of its attention, 7\xa0× the average patch."
    )
    assert map_view.sentence(found, 0.4).endswith("; 40\xa0% of the attention on patches is on 1 of 16 patches.")
    patch = replace(found, ask=AttentionControls("patch", 1, 0, row=4, column=2))
    assert "In layer 1, mean of heads, the patch at row 4, column 2 looks most" in map_view.sentence(patch, 1.0)
    rollout = replace(found, ask=AttentionControls("rollout", start=1))
    assert map_view.sentence(rollout, 1.0).startswith(
        "Through layers 1 to 2, row 3, column 2 reaches CLS most: 25\xa0%"
    )


def test_the_overlay_has_alt_text_and_a_legend(call: Callable[..., Call]) -> None:
    out = answered(call(), replace(START, layer=1, head=2))
    found = map_view.see(call().encoder, call().picture, AttentionControls(layer=1, head=2))
    row, column = np.argwhere(found.values == found.values.max())[0] + 1
    assert out["overlay"]["alt_text"] == f"Attention of layer 1, head 2, peak at row {row}, column {column}"
    assert isinstance(out["overlay"]["value"], Image.Image) and out["overlay"]["value"].size == (256, 256)
    assert share(float(found.values.max())) in out["legend"]
    assert "Layer 1, head 2" in out["heads"] and out["heads"].count("data-x=") == 4


def test_strength_and_mass_change_the_picture(call: Callable[..., Call]) -> None:
    photo = np.asarray(call().picture.rgb)
    assert (np.asarray(answered(call(), replace(START, strength=0))["overlay"]["value"]) == photo).all()
    full = np.asarray(answered(call())["overlay"]["value"])
    some = np.asarray(answered(call(), replace(START, keep=40))["overlay"]["value"])
    assert not (full == photo).all() and not (full == some).all()


@pytest.mark.parametrize(
    "ask",
    [
        START,
        replace(START, head=1, size=32),
        replace(START, head=-1, some=[2], aspect=True),
        AttentionControls("rollout", 2, start=2),
        AttentionControls("patch", 1, row=4),
        AttentionControls("to", 1, some=[1, 2], row=2, column=3),
        AttentionControls("similar", 1, row=2),
        AttentionControls("relevance", start=2, label="teapot"),
        AttentionControls("colors", 2),
    ],
)
def test_the_python_lines_give_the_same_map(
    call: Callable[..., Call],
    ask: AttentionControls,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visit = call()
    visit.picture.rgb.save(tmp_path / "gradient.png")
    monkeypatch.chdir(tmp_path)
    code = answered(visit, ask)["code"].split("<code>")[1].split("</code>")[0].unescape()
    lines = [line for line in code.splitlines() if not line.startswith("encoder =")]
    scope: dict[str, Any] = {"encoder": visit.encoder}
    exec("\n".join(lines), scope)
    assert capsys.readouterr().out
    found = map_view.see(visit.encoder, visit.picture, ask)
    values = scope["found"].values
    values = values / values.sum() if ask.kind == "relevance" else values
    np.testing.assert_allclose(values, found.values, atol=1e-6)


# Controls


def test_the_first_answer_sets_the_ranges_of_the_controls(call: Callable[..., Call]) -> None:
    visit = call()
    out = answered(visit, replace(START, layer=64, head=9))
    assert out["layer"]["maximum"] == 2 and out["layer"]["value"] == 2
    assert out["head"]["choices"] == tab.head_choices(2) and out["head"]["value"] == 0
    assert out["size"]["choices"][0] == ("16", 0) and out["column"]["label"] == "Column (1 to 4)"
    assert new_values(answered(visit)) == {}, "and the next one leaves them alone"


def test_the_last_layer_stays_the_last_with_another_model(models: Models, call: Callable[..., Call]) -> None:
    deep = Encoder.random(replace(call().encoder.config, num_hidden_layers=5), device="cpu")
    visit = call()
    answered(visit)
    models._loaded[RANDOM] = deep
    visit.visit.model = RANDOM
    assert answered(visit)["layer"] == {
        "__type__": "update",
        "value": 5,
        "maximum": 5,
        "interactive": True,
        "info": "Layers run one after another; 5 is the last.",
    }
    visit.visit.model = EMBEDDED
    assert answered(visit, replace(START, layer=1))["layer"]["value"] == 1


def test_a_larger_input_widens_the_ranges_of_rows_and_columns(call: Callable[..., Call]) -> None:
    visit = call()
    answered(visit)
    out = answered(visit, replace(START, size=32))
    assert out["row"]["label"] == "Row (1 to 8)"
    out = answered(visit, replace(START, row=7))
    assert out["row"]["label"] == "Row (1 to 4)" and out["row"]["value"] == 4


def test_rollout_takes_no_layer_and_no_head(call: Callable[..., Call]) -> None:
    visit = call()
    answered(visit)
    out = answered(visit, replace(START, kind="rollout"))
    assert [out[name]["interactive"] for name in ("layer", "head", "start")] == [False, False, True]
    assert 'aria-pressed="true"' not in out["heads"]


@pytest.mark.parametrize("empty", [None, 0])
def test_an_empty_number_means_the_first(call: Callable[..., Call], empty: Any) -> None:
    assert "row 1, column 1" in answered(call(), replace(START, kind="patch", row=empty, column=empty))["sentence"]


@pytest.mark.parametrize(
    "ask",
    [
        replace(START, layer="2"),  # type: ignore[arg-type]
        replace(START, layer=None),  # type: ignore[arg-type]
        replace(START, head=[1]),  # type: ignore[arg-type]
        replace(START, keep=0),
        replace(START, keep=101),
        replace(START, strength=-1),
        replace(START, start=None),  # type: ignore[arg-type]
        replace(START, row=-3),
        replace(START, column=1.5),  # type: ignore[arg-type]
        replace(START, kind=None),  # type: ignore[arg-type]
    ],
)
def test_a_tampered_control_is_refused(call: Callable[..., Call], ask: AttentionControls) -> None:
    with pytest.raises(InputError):
        answered(call(), ask)


# Clicks


def test_a_small_map_is_shown_large(call: Callable[..., Call]) -> None:
    visit = event(call(), layer=1, head=2)
    answered(visit)
    out = answered(visit, fn=tab.enlarge)
    assert "In layer 1, head 2, CLS" in out["sentence"] and new_values(out) == {"layer": 1, "head": 2}
    out = answered(visit, replace(START, kind="rollout"), fn=tab.enlarge)
    assert new_values(out)["kind"] == "cls"
    out = answered(visit, replace(START, kind="patch", row=2), fn=tab.enlarge)
    assert "the patch at row 2" in out["sentence"]


@pytest.mark.parametrize(
    "values", [{}, {"layer": 0, "head": 1}, {"layer": 1, "head": 0}, {"layer": "1", "head": 1}, {"layer": 3, "head": 1}]
)
def test_a_missing_map_is_refused(call: Callable[..., Call], values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"(layer|head) is"):
        answered(event(call(), **values), fn=tab.enlarge)


@pytest.mark.parametrize("fn", [tab.point, tab.point_in_whole])
def test_a_click_shows_what_that_patch_attends_to(call: Callable[..., Call], fn: Callable[..., list[Any]]) -> None:
    visit = event(call(), index=[130, 250])
    answered(visit)
    out = answered(visit, fn=fn)
    assert new_values(out) == {"kind": "patch", "row": 4, "column": 3}
    assert "the patch at row 4, column 3 looks most at" in out["sentence"]
    assert "the patch at row 4, column 3" in out["heads"]


def test_typing_a_row_is_the_same_as_a_click(call: Callable[..., Call]) -> None:
    visit = call()
    answered(visit)
    out = answered(visit, replace(START, row=4, column=3), fn=tab.choose)
    assert new_values(out) == {"kind": "patch"} and "the patch at row 4, column 3" in out["sentence"]


def test_a_missing_picture_is_reported(call: Callable[..., Call]) -> None:
    with pytest.raises(InputError, match="No picture yet"):
        answered(call(picture=None))


# Links


def test_links_name_layers_and_heads_of_any_model() -> None:
    assert tab._widened("12", 1, 64, maximum=64) == {"__type__": "update", "value": 12, "maximum": 64}
    for text in ("0", "65", "x", "", "1e3", "9" * 5000):
        with pytest.raises(ValueError):  # noqa: PT011 (no one reads its message)
            tab._widened(text, 1, 64)
    assert tab._heads("1,3")["value"] == [1, 3] and tab._heads("")["value"] == []
    for text in ("0", "1,65", "a", "1;2"):
        with pytest.raises(ValueError):  # noqa: PT011 (no one reads its message)
            tab._heads(text)
