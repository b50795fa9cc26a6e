"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import vitmsn

# What a newcomer reads first has an example.
EXPECTED = [
    "vitmsn.encoder.Encoder.embed",
    "vitmsn.fewshot",
    "vitmsn.fewshot.lesson.learn",
    "vitmsn.image.decode.decode",
    "vitmsn.look.look",
    "vitmsn.masking.random_mask",
    "vitmsn.model.ViTMSNModel",
    "vitmsn.projection.pca",
    "vitmsn.robustness.masked_views.compare",
]


def modules() -> list[str]:
    """The library's; pages and commands have no examples of this kind."""
    found = [module.name for module in pkgutil.walk_packages(vitmsn.__path__, "vitmsn.")]
    return [name for name in found if not name.startswith(("vitmsn.ui", "vitmsn.cli", "vitmsn.__main__"))]


def examples(name: str) -> list[doctest.DocTest]:
    # by its full name, as packages here offer functions named like their modules
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_examples_run(name: str) -> None:
    for test in examples(name):
        said: list[str] = []
        failed, _ = doctest.DocTestRunner().run(test, out=said.append)
        assert not failed, "".join(said)


def test_what_a_newcomer_reads_first_has_an_example() -> None:
    found = {test.name for name in modules() for test in examples(name)}
    assert not set(EXPECTED) - found
