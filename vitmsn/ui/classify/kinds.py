"""The kinds of classes that come with the embedded model, in the language of the page; others stay as they are."""

from __future__ import annotations

from dataclasses import replace

from vitmsn.classification import Classification
from vitmsn.ui.locale import later, tr

KINDS = frozenset({
    *(later("dog"), later("cat"), later("wild cat"), later("bear or panda"), later("ape or monkey")),
    *(later("hoofed animal"), later("large mammal"), later("bird"), later("fish"), later("frog or salamander")),
    *(later("reptile"), later("spider or scorpion"), later("insect"), later("butterfly"), later("sea animal")),
    *(later("snail or slug"), later("car"), later("bus or van"), later("vehicle"), later("train"), later("boat")),
    *(later("building"), later("bridge"), later("landscape"), later("clothes"), later("food")),
    *(later("fruit or vegetable"), later("drink or bottle"), later("ball or sport"), later("furniture")),
    *(later("musical instrument"), later("kitchen thing"), later("machine or device")),
    later("tool or household thing"),
})  # fmt: skip


def in_words(kind: str) -> str:
    """A kind of thing in the language of the page."""
    return tr(kind) if kind in KINDS else kind


def spoken(result: Classification) -> Classification:
    """The same answer with its kind in the language of the page."""
    return result if result.kind is None else replace(result, kind=in_words(result.kind))
