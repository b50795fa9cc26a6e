"""What the small buttons do, and that each change can be undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ui import event, pictures, workspace_of
from vitmsn.errors import FewShotError, GalleryError
from vitmsn.ui.fewshot import tab
from vitmsn.ui.visits import Call


@pytest.fixture
def taught(own: Call) -> Call:
    """Two classes of four pictures and two queries."""
    shown = workspace_of(own)
    for color in ("red", "blue"):
        shown.add(own.encoder, color, pictures(color, 4))
    shown.ask(own.encoder, pictures("red", 2, seed=1), 2)
    return own


def did(call: Call, **values: Any) -> Any:
    tab.act(event(call, **values))
    return workspace_of(call)


def ids(call: Call, label: str) -> list[str]:
    return [example.id for example in workspace_of(call).gallery.examples if example.label == label]


@pytest.mark.parametrize(
    ("what", "counts", "words"),
    [
        (lambda red, blue: {"act": "remove", "ids": red[:2]}, {"red": 2, "blue": 4}, "removed 2 pictures from red"),
        (lambda red, blue: {"act": "remove", "id": red[0]}, {"red": 3, "blue": 4}, "removed red-0.png from red"),
        (lambda red, blue: {"act": "move", "ids": red[1:], "text": "blue"}, {"red": 1, "blue": 7}, "moved 3 pictures"),
        (lambda red, blue: {"act": "merge", "id": "red", "text": "blue"}, {"blue": 8}, "merged red into blue"),
        (lambda red, blue: {"act": "rest", "id": "red"}, {"red": 0, "blue": 4}, "left out red"),
        (lambda red, blue: {"act": "remove-class", "id": "red"}, {"blue": 4}, "removed the class red"),
        (lambda red, blue: {"act": "rename", "id": "red", "text": "rot"}, {"rot": 4, "blue": 4}, "renamed red"),
        (lambda red, blue: {"act": "correct", "id": "e1", "text": "blue"}, {"red": 4, "blue": 5}, "added red-0.png to"),
    ],
)
def test_each_change_can_be_undone(
    taught: Call, what: Callable[..., dict[str, Any]], counts: dict[str, int], words: str
) -> None:
    shown = did(taught, **what(ids(taught, "red"), ids(taught, "blue")))
    assert shown.gallery.counts == counts and shown.undo.startswith(words)
    assert did(taught, act="undo").gallery.counts == {"red": 4, "blue": 4}


def test_a_class_left_out_stays_out_when_pictures_are_added(taught: Call) -> None:
    shown = did(taught, act="rest", id="red")
    shown.add(taught.encoder, "red", pictures("red", 6))
    assert shown.gallery.counts == {"red": 0, "blue": 4} and len(shown.gallery) == 10
    assert did(taught, act="wake", id="red").gallery.counts == {"red": 6, "blue": 4}


def test_a_corrected_answer_is_an_example_once(taught: Call) -> None:
    shown = did(taught, act="correct", id="e1", text="red")
    assert shown.gallery.examples[-1].digest == shown.queries["e1"].digest and len(shown.queries) == 2
    with pytest.raises(GalleryError, match="is the same picture as"):
        did(taught, act="correct", id="e1", text="blue")


def test_opening_details_changes_no_data(taught: Call) -> None:
    version = workspace_of(taught).version
    _, _, page, _ = tab.act(event(taught, act="look", id="e2"))
    assert page.count("bright where the model looked") == 1
    assert did(taught, act="look", id="e2").kept == {}
    assert did(taught, act="cell", id="red", text="red").cell == ("red", "red")
    assert did(taught, act="cell", id="red", text="red").cell is None
    assert [did(taught, act="sort").order for _ in range(3)] == ["up", "down", ""]
    assert did(taught, act="unfold", id="RED").unfolded == {"red"}
    _, page, _, _ = tab.act(event(taught, act="curve"))
    assert "With 3 examples of each class 100\xa0% are right" in page
    assert workspace_of(taught).version == version
    with pytest.raises(GalleryError, match="there is no class"):
        did(taught, act="cell", id="gone", text="red")
    with pytest.raises(GalleryError, match="there is no example"):
        did(taught, act="look", id="e99")
    did(taught, act="remove-class", id="red")
    with pytest.raises(FewShotError, match="at least two"):
        did(taught, act="curve")
