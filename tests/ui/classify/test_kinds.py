"""Kinds of classes in the language of the page."""

from __future__ import annotations

from vitmsn import checkpoint
from vitmsn.classification import Classification
from vitmsn.ui.classify import kinds, tab
from vitmsn.ui.locale import NARROW, speaking, tr_said


def test_every_kind_of_the_embedded_model_has_words() -> None:
    assert checkpoint.load(checkpoint.embedded()).card["kinds"].keys() == kinds.KINDS


def test_a_kind_is_said_in_the_language_of_the_page() -> None:
    doubt = Classification(["lemon", "plate"], [0.4, 0.1], False, "fruit or vegetable", 0.54)
    assert kinds.spoken(doubt) == doubt
    with speaking("de"):
        assert tr_said(kinds.spoken(doubt).sentence()) == (
            f"Wahrscheinlich: Obst oder Gemüse (54{NARROW}%). Am ehesten: lemon (40{NARROW}%)."
        )
        for kind in kinds.KINDS:
            assert tr_said(kinds.spoken(Classification(["x"], [0.4], False, kind, 0.7)).named()) == (
                f"wahrscheinlich: {kinds.in_words(kind)} (70{NARROW}%)"
            )


def test_the_kinds_of_another_model_stay_as_they_are() -> None:
    with speaking("de"):
        assert kinds.in_words("Open") == "Open", "a word of the page, but not of the list"


def test_a_class_is_found_by_its_kind_in_both_languages() -> None:
    with speaking("de"):
        listed = tab._class("tabby", ["cat"])
    assert 'data-words="tabby cat katze"' in listed and "<small>Katze</small>" in listed
