"""Examples come from the installed packages, offline, with their credits."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from vitmsn.errors import InputError
from vitmsn.ui.shared import examples


@pytest.fixture
def fresh() -> Iterator[None]:
    """Clear the caches: these tests change what is read."""
    cached = (examples.photographs, examples.starter_sets, examples._strip)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_all_listed_photographs_are_installed_and_credited() -> None:
    found = examples.photographs()
    assert [example.name for example in found] == [name for name, *_ in examples.PHOTOGRAPHS]
    for example in found:
        assert min(example.picture.rgb.size) >= 256 and example.picture.rgb.mode == "RGB"
        assert re.search(r"CC0|CC BY|public domain|from \w+.* \((Apache-2\.0|BSD-3-Clause)\)", example.credit)


def test_the_strip_has_a_button_and_credit_for_each_example() -> None:
    strip = examples.strip()
    for example in examples.photographs():
        assert f'data-name="{example.name}"' in strip and f'alt="Example: {example.title}"' in strip
        assert example.credit in examples.credit()
    assert "http" not in strip  # nothing is fetched


def test_unknown_names_are_refused_with_a_list_of_names() -> None:
    assert examples.by_name("coffee").title == "A cup of espresso"
    with pytest.raises(InputError, match="coffee, cat"):
        examples.by_name("../../etc/passwd")
    with pytest.raises(InputError, match="textures"):
        examples.starter_set("nothing")


def test_without_the_packages_there_is_a_generated_example(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "installed", lambda package, name: None)
    [only] = examples.photographs()
    assert only.name == "stripes" and np.asarray(only.picture.rgb).std() > 10
    assert [made.name for made in examples.starter_sets()] == ["digits", "shapes"]


@pytest.mark.parametrize(
    ("name", "classes", "shots", "held_out"),
    [("textures", 3, 8, 24), ("photographs", 4, 6, 12), ("digits", 10, 6, 20), ("shapes", 8, 6, 32)],
)
def test_starter_sets_teach_and_test_with_different_pictures(
    name: str, classes: int, shots: int, held_out: int
) -> None:
    made = examples.starter_set(name)
    assert len(made.support) == classes and len(made.queries) == held_out
    assert {len(pictures) for pictures in made.support.values()} == {shots}
    assert {label for label, _ in made.queries} == set(made.support)
    learned = {picture.digest for pictures in made.support.values() for picture in pictures}
    asked = {picture.digest for _, picture in made.queries}
    assert len(learned) == classes * shots and len(asked) == held_out and not learned & asked
    assert made.credit


def test_a_starter_set_is_made_when_its_pictures_are_asked_for(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = examples.shapes.draw
    monkeypatch.setattr(examples.shapes, "draw", lambda *given, **more: drawn.append(1) or draw(*given, **more))
    made = examples.starter_set("shapes")
    assert made.title and made.credit and not drawn
    assert made.support and made.queries and drawn == [1]


def test_digits_are_dark_on_light() -> None:
    for pictures in examples.starter_set("digits").support.values():
        pixels = np.asarray(pictures[0].rgb)
        assert pixels.shape == (64, 64, 3) and np.median(pixels) > 128 and pixels.min() < 80


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("A photographer", "a photographer"),
        ("An astronaut", "an astronaut"),
        ("A Chinese temple", "a Chinese temple"),
        ("Eine Tasse Espresso", "eine Tasse Espresso"),
        ("Stripes", "Stripes"),
        ("A", "A"),
    ],
)
def test_a_title_inside_a_sentence(title: str, words: str) -> None:
    assert examples.inside(title) == words
