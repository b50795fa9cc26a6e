"""Texts, numbers and sentences of the library in the language of whoever is asking."""

from __future__ import annotations

import time

import pytest
from markupsafe import Markup

from vitmsn.classification import MULTI, Classification
from vitmsn.ui.locale import (
    NARROW,
    NO_BREAK,
    Retold,
    current,
    later,
    preferred,
    speaking,
    texts_of,
    tr,
    tr_count,
    tr_html,
    tr_number,
    tr_said,
)

PICTURE = "<p title='{}'>{}</p>"


def test_texts_are_english_unless_somebody_speaks_another_language() -> None:
    assert current() == "en" and tr("Answer") == "Answer"
    with speaking("de"):
        assert current() == "de" and tr("Answer") == "Antwort"
        assert tr("in no catalogue") == "in no catalogue"
        assert tr(later("Seed")) == "Startwert"
    with speaking("xx"):
        assert current() == "en"
    assert current() == "en"


def test_fields_are_filled_in_and_numbers_get_their_decimal_sign() -> None:
    assert tr("{value:.2f} nats", value=1.5) == "1.50 nats"
    with speaking("de"):
        assert tr("{value:.2f} nats", value=1.5) == "1,50 nats"
        assert tr("{n:,} files", n=12_345) == "12.345 files"
        assert tr("a file {name}", name="v1.5.png") == "a file v1.5.png"  # a text keeps what it is
        assert tr_number("8.4 %") == f"8,4{NARROW}%"


def test_no_line_ends_between_a_number_and_its_percent_sign() -> None:
    for language, space in (("en", NO_BREAK), ("de", NARROW)):
        with speaking(language):
            written = [
                tr_number("50 %"),
                tr("{hidden:.0f} % hidden", hidden=50),
                tr("{hidden} % hidden").format(hidden=50),
                tr_count(2, "50 % of {n} picture", "50 % of {n} pictures"),
                tr_html("<p>{} % hidden</p>").format(50),
                tr_said("13 of 20 right (50 %)."),
            ]
            assert all(f"50{space}%" in one for one in written), written


def test_one_and_several_have_their_own_words() -> None:
    assert [tr_count(n, "{n} picture", "{n} pictures") for n in (1, 2)] == ["1 picture", "2 pictures"]
    with speaking("de"):
        assert [tr_count(n, "{n} picture", "{n} pictures") for n in (0, 1)] == ["0 Bilder", "1 Bild"]


def test_a_kept_text_is_written_once_in_each_language() -> None:
    asked: list[str] = []

    def answer() -> str:
        asked.append(current())
        return tr("Answer")

    kept = Retold(answer)
    assert kept.text == kept.text == "Answer" and kept.nbytes == 6
    with speaking("de"):
        assert kept.text == kept.text == "Antwort"
    assert kept.text == "Answer" and asked == ["en", "de"] and kept.nbytes == 13


@pytest.mark.parametrize("kind", ["cat", "insect", "clothes"])
def test_every_kind_has_its_german_sentence(kind: str) -> None:
    doubt = Classification(["tabby"], [0.4], sure=False, kind=kind, kind_probability=0.7)
    with speaking("de"):
        assert tr_said(doubt.named()) == f"wahrscheinlich: {kind} (70{NARROW}%)"
        assert tr_said(doubt.sentence()) == (f"Wahrscheinlich: {kind} (70{NARROW}%). Am ehesten: tabby (40{NARROW}%).")


def test_html_is_translated_in_its_texts_and_spoken_attributes_alone() -> None:
    template = '<button title="Close" data-what="Close" class="Close">Close</button> <b>{}</b>'
    assert texts_of(template) == ["Close", "Close"]
    with speaking("de"):
        assert tr_html(template).format("Close <") == Markup(
            '<button title="Schließen" data-what="Close" class="Close">Schließen</button> <b>Close &lt;</b>'
        )


@pytest.mark.parametrize(
    ("said", "german"),
    [
        ("Not sure. Closest match: pretzel (8.4 %).", f"Unsicher. Am ehesten: pretzel (8,4{NARROW}%)."),
        (
            Classification(["espresso"], [0.998], True).sentence(),
            f"Das sieht aus wie: espresso (über 99{NARROW}%).",
        ),
        (
            Classification(["cat", "sofa"], [0.998, 0.084], True, problem_type=MULTI, right=2).sentence(),
            f"Das zeigt: cat über 99{NARROW}%, sofa 8,4{NARROW}%.",
        ),
        (
            Classification(["lakeside", "pier"], [0.38, 0.1], False, "landscape", 0.47).sentence(),
            f"Wahrscheinlich: landscape (47{NARROW}%). Am ehesten: lakeside (38{NARROW}%).",
        ),
        (
            "13 of 20 right (65 %). On new pictures expect 43–82 %; guessing gets 50 %, so this may be luck.",
            f"13 von 20 richtig (65{NARROW}%). Bei neuen Bildern zu erwarten: 43–82{NARROW}%; Raten erreicht "
            f"50{NARROW}%, das kann also Glück sein.",
        ),
        (
            "The 6 pictures of a are near-copies of one another and count as 2; take pictures that differ more.",
            "Die 6 Bilder von a sind fast gleich und zählen als 2; nimm Bilder, die sich mehr unterscheiden.",
        ),
        ("note.txt is empty: save or download it again.", "note.txt ist leer: speichere oder lade es noch einmal."),
        ("Nothing of the kind is in a catalogue.", "Nothing of the kind is in a catalogue."),
        ("", ""),
    ],
)
def test_sentences_of_the_library_are_found_by_their_pattern(said: str, german: str) -> None:
    assert tr_said(said) == said.replace(" %", f"{NO_BREAK}%")
    with speaking("de"):
        assert tr_said(said) == german


@pytest.mark.parametrize("unit", ["not ", "a. ", "; ", " is a", " of  right ()."])
def test_long_texts_take_no_time(unit: str) -> None:
    begun = time.perf_counter()
    with speaking("de"):
        assert tr_said(unit * 50_000) == unit * 50_000
        tr_said((unit * 700)[:700])
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR,fr;q=0.9,en;q=0.8,de;q=0.7", "en"),
        ("fr;q=0.9,de;q=0.7", "de"),
        ("en-US,en;q=0.5", "en"),
        ("de;q=nonsense,*", "en"),
        ("", "en"),
        ("," * 5000, "en"),
    ],
)
def test_the_browsers_first_language_that_is_offered(accepted: str, language: str) -> None:
    assert preferred(accepted) == language
