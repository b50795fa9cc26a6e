"""The languages of the page. English is the source: its sentences are the keys of the catalogues beside this file.

    tr("{shown} of {total} patches", shown=3, total=9)            in the language of whoever is asking
    tr_count(many, "{n} picture", "{n} pictures")                 the same for one and for several
    tr_html('<p aria-label="Classes">{}</p>')                     a template of HTML: its texts and spoken attributes
    TITLE = later("Picture")  ...  tr(TITLE)                      a constant, made before anybody asks

`tr_said` does the same for what the library says in English, `Retold` keeps a text that somebody may want in the other
language later. A catalogue is JSON, `NAME.de.json`: {English: German};
`tr_count` has a key with "|". What is missing in a catalogue stays English. tests/ui/locale has the rules.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

ENGLISH, GERMAN = "en", "de"
LANGUAGES = {ENGLISH: "English", GERMAN: "Deutsch"}  # each in its own words
COOKIE = "vitmsn_language"
PARAMETER = "lang"  # of the address: ?lang=de
LIBRARY, SCRIPTS = "library", "scripts"  # the catalogues of what the library says, and of the page's JavaScript
NARROW, NO_BREAK = "\u202f", "\u00a0"  # spaces that do not break: between a number and "%" in German, in English
SPOKEN = ("aria-label", "aria-valuetext", "alt", "title", "placeholder", "data-say")  # attributes that people meet
HERE = Path(__file__).parent

_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


# ------------------------------------------------------------------------------------------------------- which language


def current() -> str:
    """The language of whoever is asking: "en" or "de"."""
    return _language.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Inside, texts are in this language; English for one that is not offered."""
    token = _language.set(language if language in LANGUAGES else ENGLISH)
    try:
        yield
    finally:
        _language.reset(token)


def speak(language: str) -> None:
    """From here to the end of this request or job, texts are in this language."""
    _language.set(language if language in LANGUAGES else ENGLISH)


def preferred(accepted: str) -> str:
    """The language for an Accept-Language header, "de-AT,de;q=0.9,en;q=0.8": the first of its best that is offered."""
    wishes = []
    for place, part in enumerate(accepted[:200].split(",")):
        name, _, weight = part.partition(";q=")
        try:
            wishes.append((-float(weight or 1), place, name.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    return next((name for _, _, name in sorted(wishes) if name in LANGUAGES), ENGLISH)


# ---------------------------------------------------------------------------------------------------------------- texts


def later(text: str) -> str:
    """Mark a constant as a text that `tr` translates when it is used."""
    return text


def tr(text: str, /, **values: Any) -> str:
    """The text in the current language, with its named fields filled in; numbers get the language's decimal sign."""
    found = _unbroken(_catalogue(current()).get(text, text))
    return _Form().vformat(found, (), values) if values else found


def tr_count(n: int, one: str, several: str, /, **values: Any) -> str:
    """`one` or `several` in the current language, by the number `n`, which both can show as {n}."""
    text = one if n == 1 else several
    forms = _catalogue(current()).get(f"{one}|{several}")
    if forms is not None:
        text = forms.split("|")[0 if n == 1 else 1]
    return _Form().vformat(_unbroken(text), (), {"n": n, **values})


def tr_html(template: str) -> Markup:
    """A template of HTML with its texts in the current language, to be filled in with `.format`, which escapes."""
    return Markup(_unbroken(template if current() == ENGLISH else _translated(template, current())))


def tr_said(text: str) -> str:
    """What the library says, an error or an answer, in the current language; as it is where no catalogue has it.

    A text of several sentences is translated one by one, and so are the values that a sentence holds.
    """
    if current() == ENGLISH or not text or len(text) > 4 * LONGEST:
        return _unbroken(text)
    if found := _pattern(text, current()):
        return _unbroken(found)
    return _unbroken(" ".join(_matched(part, current()) or part for part in SENTENCES.split(text)))


def _pattern(text: str, language: str, deep: int = 0) -> str | None:
    """The sentence of the library's catalogue that `text` is, in that language; None if it is none of them."""
    if len(text) > LONGEST or deep > DEEPEST:
        return None
    for pattern, template in _patterns(language):
        if match := pattern.fullmatch(text):
            values = [_matched(value, language, deep + 1) or _value(value) for value in match.groups()]
            return template.format(*values)
    return None


def _matched(text: str, language: str, deep: int = 0) -> str | None:
    """The same, also for sentences with "; " between them."""
    found = _pattern(text, language, deep)
    parts = text.removesuffix(".").split("; ")
    if found is not None or len(parts) == 1:
        return found
    told = [_pattern(part, language, deep + 1) for part in parts]
    if not any(told):
        return None
    return "; ".join(one or part for one, part in zip(told, parts, strict=True)) + "." * text.endswith(".")


def tr_number(text: str) -> str:
    """A number written in English, "8.4 %", as the current language writes it."""
    if current() != ENGLISH:
        text = re.sub(r"(?<=\d)[.,](?=\d)", lambda dot: ",."[dot[0] == ","], text)
    return _unbroken(text)


def _unbroken(text: str) -> str:
    """The same with spaces that do not break a line, before each "%" and around each "×" of numbers or of fields for
    them."""
    text = BEFORE_PERCENT.sub(NO_BREAK if current() == ENGLISH else NARROW, text)
    return AROUND_TIMES.sub(NO_BREAK, text)


def scripts() -> dict[str, str]:
    """The texts of the page's JavaScript in the current language, for words.js."""
    return catalogues(current()).get(SCRIPTS, {})


class Retold:
    """A piece of the page that is kept, like a result that took long: as text in the language of whoever asks.

    `make` writes it in the current language; it is asked once for each language.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._made = {current(): make()}

    @property
    def text(self) -> str:
        if current() not in self._made:
            self._made[current()] = self._make()
        return self._made[current()]

    @property
    def nbytes(self) -> int:
        return sum(len(text) for text in self._made.values())


class _Form(string.Formatter):
    """Fields of text keep it; numbers are written as the current language writes them."""

    def format_field(self, value: Any, format_spec: str) -> str:
        written = format(value, format_spec)
        whole = isinstance(value, int) and "," not in format_spec
        return written if whole or isinstance(value, str) else tr_number(written)


def _value(text: str) -> str:
    """A number, or a list of names with a percentage each, as the current language writes numbers."""
    if re.fullmatch(r"(< )?[\d.,\N{EN DASH}]+( %)?", text):
        return tr_number(text)
    return SHARES.sub(lambda found: f" {_matched(found[1], current()) or tr_number(found[1])}", text)


# ----------------------------------------------------------------------------------------------------------- catalogues


def catalogues(language: str) -> dict[str, dict[str, str]]:
    """The catalogues of a language by name; English has none."""
    suffix = f".{language}.json"
    files = sorted(HERE.glob(f"*{suffix}"))
    return {path.name.removesuffix(suffix): json.loads(path.read_text(encoding="utf-8")) for path in files}


@lru_cache
def _catalogue(language: str) -> Mapping[str, str]:
    """All texts of the page in a language."""
    found: dict[str, str] = {}
    for name, texts in catalogues(language).items():
        if name != LIBRARY:
            found |= texts
    return found


@lru_cache
def _patterns(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """What the library says: a pattern that finds the values in a sentence, and the sentence to put them into."""
    texts = catalogues(language).get(LIBRARY, {})
    return tuple(
        (re.compile("([^;]+?)".join(re.escape(part) for part in english.split("{}")), re.DOTALL), other)
        for english, other in sorted(texts.items(), key=lambda pair: -len(pair[0].replace("{}", "")))
    )


AROUND_TIMES = re.compile(r"(?<=[\d}]) (?=×)|(?<=×) (?=[\d{])")
BEFORE_PERCENT = re.compile(r"(?<=[\d}]) (?=%)")
SHARES = re.compile(r" ((?:over |< )?[\d.]+ %)(?=, |$)")
TAGS = re.compile(r"(<[^>]*>)")
ATTRIBUTES = re.compile(rf"""((?:{"|".join(SPOKEN)})=(["']))(.*?)(\2)""", re.DOTALL)
SENTENCES = re.compile(r"(?<=[.!?]) (?=\S)")
LONGEST, DEEPEST = 700, 4  # of a sentence of the library: characters, and sentences inside it
LETTERS = re.compile(r"[^\W\d_]{2}")


def texts_of(template: str) -> list[str]:
    """The texts of a template of HTML that people read or hear, as they stand in a catalogue."""
    found = []
    for place, part in enumerate(TAGS.split(template)):
        pieces = [match[3] for match in ATTRIBUTES.finditer(part)] if place % 2 else [part]
        found += [piece.strip() for piece in pieces if LETTERS.search(_without_fields(piece))]
    return found


def _without_fields(text: str) -> str:
    return re.sub(r"\{[^}]*\}|&\w+;", "", text)


@lru_cache(maxsize=512)
def _translated(template: str, language: str) -> str:
    known = _catalogue(language)

    def piece(text: str) -> str:
        inner = text.strip()
        return text.replace(inner, known.get(inner, inner), 1) if inner else text

    parts = TAGS.split(template)
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = ATTRIBUTES.sub(lambda match: f"{match[1]}{piece(match[3])}{match[4]}", part)
        else:
            parts[place] = piece(part)
    return "".join(parts)
