"""Classify: answers, unsure answers, no classifier, tables, and the two endpoints' functions."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.ui import LABELS
from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError, MissingHeadError
from vitmsn.image import Picture
from vitmsn.ui.classify import tab
from vitmsn.ui.locale import speaking
from vitmsn.ui.models import EMBEDDED, RANDOM
from vitmsn.ui.shared import html
from vitmsn.ui.visits import Call

Maker = Callable[..., Call]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two pictures, and one file that only pretends to be one."""
    paths = [tmp_path / name for name in ("=red.png", "bad.png", "blue.png")]
    Image.new("RGB", (20, 30), "red").save(paths[0])
    paths[1].write_bytes(b"not a picture")
    Image.new("RGB", (30, 20), "blue").save(paths[2])
    return [str(path) for path in paths]


def shown(table: str) -> list[list[str]]:
    """The cells of a table, as text."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.S)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)] for row in rows]


def test_the_answer_is_the_encoders(call: Maker, tiny: Encoder, picture: Picture) -> None:
    said, bars, about, code, *_ = tab.answer(call())
    [result] = tiny.classify([picture], top_k=5)
    assert html.text(result.labels[0]) in said and len(re.findall("<li>", bars)) == 5
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", bars)]
    np.testing.assert_allclose(widths, np.array(result.probabilities) * 100, atol=0.01)
    assert "msn-quiet" not in bars
    assert "sees 16\xa0×\xa016 pixels, so expect mistakes" in about and "middle" not in about
    assert "Encoder.from_pretrained()" in code and "gradient.png" in code


def test_a_model_that_crops_says_so(call: Maker, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "processor", tiny.processor.with_recipe("resize-256-crop-224"))
    assert "It looks at the middle of a picture." in tab.modesty(call())


def test_an_unsure_answer_is_shown_as_not_sure(call: Maker, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny.card, "not_sure_below", 1.0)
    said, bars, *_ = tab.answer(call())
    assert "ot sure" in said and "msn-quiet" in bars


def asking(tiny: Encoder, problem_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny.model, "config", replace(tiny.config, problem_type=problem_type))


def test_multi_label_answers_name_several_classes(
    call: Maker, files: list[str], tiny: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(tiny, "multi_label_classification", monkeypatch)
    monkeypatch.setitem(tiny.card, "not_sure_below", 0.01)
    said, bars, *_ = tab.answer(call())
    [result] = tiny.classify([picture], top_k=5)
    assert "This shows: " in said and result.right > 1
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", bars)]
    np.testing.assert_allclose(widths, np.array(result.probabilities) * 100, atol=0.01)
    [red] = tiny.classify([files[0]])
    assert unescape(shown(tab.many(call(), files))[1][2]) == red.named()


def test_a_regression_shows_its_numbers(
    call: Maker, files: list[str], tiny: Encoder, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(tiny, "regression", monkeypatch)
    said, bars, about, *_ = tab.answer(call())
    [result] = tiny.classify([picture], top_k=5)
    assert unescape(said).count(f"{result.labels[0]}: {result.probabilities[0]:.4g}") == 1
    assert not bars and f"{len(tiny.labels)} numbers" in about
    table = tab.many(call(), files)
    [red] = tiny.classify([files[0]])
    assert unescape(shown(table)[1][3]) == f"{red.labels[0]} ({red.probabilities[0]:.4g})"
    [data] = re.findall(r"base64,([^\"]+)\">Download", table)
    assert "value 1" in base64.b64decode(data).decode("utf-8-sig").splitlines()[0]
    assert tab.classify(call(), files[0])["labels"][0] == {
        "label": red.labels[0],
        "value": round(red.probabilities[0], 6),
    }


def test_labels_are_escaped(call: Maker) -> None:
    _, bars, _, _, _, known = tab.answer(call())
    for made in (bars, known):
        assert "<b>shark" not in made
    assert "&lt;b&gt;shark" in known


def test_without_a_classifier_there_are_no_bars(call: Maker) -> None:
    said, bars, hint, code, _, known = tab.answer(call(RANDOM))
    assert "random weights has no classifier" in said and bars == "" and code == ""
    assert "teach it classes of your own" in hint and "recognizes nothing" in known


def test_the_list_of_classes_is_sent_once_for_a_model(call: Maker) -> None:
    one = call()
    known = tab.answer(one)[-1]
    assert isinstance(known, str) and known.count("<li") == len(LABELS)
    assert tab.answer(one)[-1] == {"__type__": "update"}
    one.visit.model = RANDOM
    assert isinstance(tab.answer(one)[-1], str)


def test_class_list_shows_kinds_and_says_no_person_class(tiny: Encoder) -> None:
    known = tab.classes(tiny, "tiny")
    assert 'data-words="tabby cat"' in known and "no class for a person" in known


def test_the_table_names_unreadable_files_and_goes_on(call: Maker, files: list[str], tiny: Encoder) -> None:
    made = tab.many(call(), files)
    _, red, bad, blue = shown(made)
    [first] = tiny.classify([files[0]])
    assert red[1] == "=red.png" and unescape(red[2]) == first.named()
    assert unescape(red[3]).startswith(f"{first.labels[0]} (") and red[3].endswith("%)")
    assert bad[1] == "bad.png" and "save it as JPEG or PNG" in bad[2]
    assert blue[1] == "blue.png"


def test_the_csv_holds_the_table_without_formulas(call: Maker, files: list[str], tiny: Encoder) -> None:
    [data] = re.findall(r"base64,([^\"]+)\">Download", tab.many(call(), files))
    text = base64.b64decode(data).decode("utf-8-sig")
    head, red, bad, blue = csv.reader(io.StringIO(text))
    assert head[:5] == ["file", "answer", "kind", "kind probability", "class 1"] and len(head) == 14
    assert red[0] == "'=red.png" and bad[0] == "bad.png" and bad[2:] == ["", ""]
    [result] = tiny.classify([files[2]])
    assert blue[4] == result.labels[0]
    assert float(blue[5]) == pytest.approx(result.probabilities[0], abs=1e-5)


def test_the_table_takes_more_pictures_than_one_step(call: Maker, tmp_path: Path) -> None:
    paths = []
    for number in range(tab.STEP + 3):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("L", (8, 8), number * 7).save(paths[-1])
    assert [row[1] for row in shown(tab.many(call(), paths))[1:]] == [Path(path).name for path in paths]


def test_too_many_files_no_files_or_no_classifier(
    call: Maker, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tab.many(call(), None) == ""
    with pytest.raises(MissingHeadError, match="random weights has no classifier"):
        tab.many(call(RANDOM), files)
    monkeypatch.setattr(limits, "MAX_QUERIES", 2)
    with pytest.raises(InputError, match="3 files and 2 go at once"):
        tab.many(call(), files)
    with pytest.raises(InputError, match="3 files and 2 go at once"):
        tab.embed(call(), files)


def test_classify_gives_the_top_k(call: Maker, files: list[str], tiny: Encoder) -> None:
    answer = tab.classify(call(), files[0], 3)
    [result] = tiny.classify([files[0]], top_k=3)
    assert answer == result.to_dict() and len(answer["labels"]) == 3
    assert len(tab.classify(call(), files[0], 1000)["labels"]) == len(tiny.labels)  # all labels


@pytest.mark.parametrize("top_k", [0, 1001, -1, 2.5, None, "3", float("nan"), float("inf"), True])
def test_classify_refuses_a_bad_top_k(call: Maker, files: list[str], top_k: Any) -> None:
    with pytest.raises(InputError, match=r"top_k is .* from 1 to 1000"):
        tab.classify(call(), files[0], top_k)


def test_classify_refuses_a_bad_picture(call: Maker, files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"bad\.png"):
        tab.classify(call(), files[1])
    with pytest.raises(ImageError, match="no longer here"):
        tab.classify(call(), str(tmp_path / "gone.png"))
    with pytest.raises(InputError, match="No picture came"):
        tab.classify(call(), None)  # type: ignore[arg-type]
    with pytest.raises(MissingHeadError, match="teach it your own classes"):  # as in Python and on the command line
        tab.classify(call(RANDOM), files[0])


def test_embed_gives_vectors_and_names_skipped_files(call: Maker, files: list[str], tiny: Encoder) -> None:
    answer = tab.embed(call(), files)
    assert answer["model"] == EMBEDDED and answer["dim"] == 16
    assert answer["files"] == ["=red.png", "blue.png"]
    np.testing.assert_array_equal(np.array(answer["embeddings"], np.float32), tiny.embed([files[0], files[2]]))
    [refused] = answer["skipped"]
    assert refused["file"] == "bad.png" and "save it as" in refused["reason"]


def test_embed_of_nothing_is_an_error(call: Maker, files: list[str]) -> None:
    with pytest.raises(InputError, match="No files came"):
        tab.embed(call(), [])
    with pytest.raises(ImageError, match=r"bad\.png"):
        tab.embed(call(), [files[1]])


def test_a_table_comes_back_in_the_language_of_the_page(call: Maker, files: list[str]) -> None:
    visit = call()
    table = tab.many(visit, files)
    assert "Closest match" in table and "save it as JPEG or PNG" in table
    assert visit.visit.nbytes >= len(table)
    visit.visit.page.clear()
    with speaking("de"):
        again = tab.answer(visit).table
    assert "Am ehesten" in again and "speichere es als JPEG oder PNG" in again and "Closest match" not in again
    visit.visit.page.clear()
    assert tab.answer(visit).table == table
