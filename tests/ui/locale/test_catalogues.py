"""The catalogues of each language hold exactly what the page can say."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

from tests.support import texts
from vitmsn.ui.locale import ENGLISH, LANGUAGES, LIBRARY, SCRIPTS, catalogues

PACKAGE = texts.UI.parent
OTHERS = pytest.mark.parametrize("language", [name for name in LANGUAGES if name != ENGLISH])


def of_page(language: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, held in catalogues(language).items():
        if name in (LIBRARY, SCRIPTS):
            continue
        twice = found.keys() & held.keys()
        assert not twice, f"{name}.{language}.json repeats {sorted(twice)[:3]}; a text stands in one catalogue"
        found |= held
    return found


def strings(path: Path) -> str:
    """All constant strings of a file, one after another."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@OTHERS
def test_every_text_of_the_page_has_a_translation(language: str) -> None:
    held = of_page(language)
    missing = {text: places[0] for text, places in texts.of_page().items() if text not in held}
    assert not missing, f"add to a catalogue in vitmsn/ui/locale: {missing}"


@OTHERS
def test_every_translation_belongs_to_a_text(language: str) -> None:
    unused = of_page(language).keys() - texts.of_page().keys()
    assert not unused, f"the page says none of these any more: {sorted(unused)}"


@OTHERS
def test_the_scripts_have_their_translations_and_no_others(language: str) -> None:
    assert catalogues(language)[SCRIPTS].keys() == texts.of_scripts().keys()


@OTHERS
def test_translations_have_the_fields_of_their_texts(language: str) -> None:
    for name, held in catalogues(language).items():
        for text, translation in held.items():
            assert translation.strip(), f"{name}: {text} is empty"
            assert "<" not in translation, f"{name}: {text} becomes HTML"
            assert translation.count("|") == text.count("|"), text
            if name == LIBRARY:
                assert translation.count("{}") == text.count("{}"), text
            else:
                assert texts.fields(translation) == texts.fields(text), text
            for part, other in zip(text.split("|"), translation.split("|"), strict=True):
                assert part[:1].isspace() == other[:1].isspace(), f"{text!r} begins with a space"
                assert part[-1:].isspace() == other[-1:].isspace(), f"{text!r} ends with a space"


@OTHERS
def test_what_is_translated_of_the_library_is_still_said_there(language: str) -> None:
    places = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "ui"]
    places += [texts.UI / name for name in ("shared/checks.py", "masking/controls.py", "attention/compare.py")]
    places += [texts.UI / "attention" / "tab.py"]
    said = "\n".join(map(strings, places)).lower()
    stale = []
    for text in catalogues(language)[LIBRARY]:
        words = re.sub(r"\{\}", " . ", text.lower()).split()
        pairs = [" ".join(pair) for pair in itertools.pairwise(words) if "." not in pair]
        kept = sum(pair.strip(" .,;:()") in said for pair in pairs)
        if len(pairs) - kept > max(2, 0.3 * len(pairs)):  # some are where two parts of a sentence meet
            stale.append(text)
    assert not stale, f"the library says none of these any more: {stale}"


def test_every_call_names_a_text_that_can_be_found() -> None:
    """A text that is put together before it is translated would never be in a catalogue."""
    for path in sorted(texts.UI.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in texts.MARKS:
                put_together = [one for one in node.args if isinstance(one, ast.JoinedStr | ast.BinOp)]
                assert not put_together, f"{path.name}:{node.lineno}: give the values as fields"
