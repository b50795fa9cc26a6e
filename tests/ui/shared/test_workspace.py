"""The workspace: changes and undo, another model, and the classifier that learns from it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from tests.support.ui import pictures, png
from tests.support.zips import zipped
from vitmsn import archive, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError, GalleryError, InputError, ViTMSNError
from vitmsn.fewshot import NONE
from vitmsn.gallery import Gallery
from vitmsn.ui.locale import GERMAN, speaking
from vitmsn.ui.models import EMBEDDED, RANDOM, Models
from vitmsn.ui.shared import examples, workspace
from vitmsn.ui.shared.workspace import Workspace, learn, opened, own_class
from vitmsn.ui.visits import Call, Stopped

Calls = Callable[..., Call]


def taught(encoder: Encoder, **counts: int) -> Gallery:
    made = Gallery(encoder)
    for color, count in counts.items():
        made.add(color, pictures(color, count), encoder.embed(pictures(color, count)))
    return made


def test_own_is_true_until_the_pictures_are_saved(tiny: Encoder) -> None:
    made = Workspace(tiny)
    made.start(tiny, "")
    made.name_class("red")
    assert not made.own
    made.add(tiny, "red", pictures("red", 2))
    assert made.own
    made.begun = True
    made.start(tiny, "textures")
    assert not made.own
    made.take_back()
    assert made.own
    made.reopen(tiny, taught(tiny, red=2, blue=2))
    assert not made.own


def test_a_double_click_adds_a_class_once(tiny: Encoder) -> None:
    made = Workspace(tiny)
    made.start(tiny, "")
    made.name_class("red")
    made.name_class("red")
    assert made.gallery.classes[0] == "red" and len(made.gallery.classes) == 2
    made.add(tiny, "red", pictures("red", 1))
    with pytest.raises(GalleryError, match="a class red already"):
        made.name_class("red")


# Learning


@pytest.mark.parametrize(
    ("shots", "method", "chosen"),
    [(1, "auto", "centroid"), (2, "auto", "centroid"), (3, "auto", "ridge"), (3, "knn", "knn"), (1, "ridge", "ridge")],
)
def test_the_method_follows_the_smallest_class(tiny: Encoder, shots: int, method: str, chosen: str) -> None:
    lesson = learn(taught(tiny, red=shots, blue=shots + 4), None, method)
    assert lesson.method == chosen
    assert lesson.counts == {"red": shots, "blue": shots + 4}
    assert lesson.few == (["red"] if shots < 3 else [])


def test_queries_get_a_class_with_neighbors_and_unknown_ones_get_none(tiny: Encoder) -> None:
    lesson = learn(taught(tiny, red=6, blue=6), None)
    asked = [*pictures("red", 3, seed=1), *pictures("blue", 3, seed=1), *pictures("lime", 3, seed=1)]
    said = lesson.answer(tiny.embed(asked), n_neighbors=2)
    assert [one.label for one in said] == ["red"] * 3 + ["blue"] * 3 + [None] * 3
    assert all(one.closest in ("red", "blue") for one in said)
    for one in said[:6]:
        assert one.probability == one.probabilities.max() and 0.5 < one.probability < 1
        assert [lesson.examples[i].label for i, _ in one.neighbors] == [one.label] * 2
        assert one.neighbors[0][1] >= one.neighbors[1][1]


def test_below_three_examples_no_query_is_rejected(tiny: Encoder) -> None:
    lesson = learn(taught(tiny, red=2, blue=2), None)
    assert lesson.rejector is None
    assert NONE not in [one.reason for one in lesson.answer(tiny.embed(pictures("lime", 3)))]


def test_few_examples_are_centered_on_the_feature_mean(tiny: Encoder) -> None:
    center = np.full(16, 0.25, np.float32)
    np.testing.assert_array_equal(learn(taught(tiny, red=2, blue=2), center).classifier.center_, center)
    enough = learn(taught(tiny, red=3, blue=3), center)
    assert not np.allclose(enough.classifier.center_, center)
    np.testing.assert_array_equal(enough.rejector.center_, center)  # type: ignore[union-attr]


def test_a_narrow_set_far_from_the_feature_mean_is_learned(tiny: Encoder) -> None:
    lesson = learn(taught(tiny, red=6, orange=6), np.full(16, 40, np.float32))
    assert lesson.judged.accuracy == 1


def test_learn_refuses_too_few_classes_and_unknown_methods(tiny: Encoder) -> None:
    with pytest.raises(FewShotError, match="at least two"):
        learn(Gallery(tiny), None)
    with pytest.raises(FewShotError, match="at least two"):
        learn(taught(tiny, red=3), None)
    with pytest.raises(ViTMSNError, match=r"no method 'magic'.*centroid"):
        learn(taught(tiny, red=3, blue=3), None, "magic")


def test_own_class_counts_examples_with_a_neighbor_of_their_class() -> None:
    X = np.array([[1, 0.1], [1, -0.1], [-1, 0.1], [-1, -0.1], [1, 0.05]], np.float32)
    assert own_class(X, ["a", "a", "b", "b", "b"], np.zeros(2, np.float32)) == (2, 5)
    assert own_class(X[:1], ["a"], None) == (0, 0)


# A visit


def test_a_visit_starts_with_a_starter_set_without_shared_pictures(call: Calls) -> None:
    with opened(call()) as (shown, encoder):
        assert shown.starter == workspace.FIRST
        made = examples.starter_set(shown.starter)
        assert shown.gallery.counts == {label: len(own) for label, own in made.support.items()}
        assert len(shown.queries) == len(made.queries)
        held = {example.digest for example in shown.gallery.examples}
        assert not held & {query.digest for query in shown.queries.examples}
        truth = {picture.digest: label for label, picture in made.queries}
        assert all(shown.truth[query.id] == truth[query.digest] for query in shown.queries.examples)
        first = [shown.truth[query.id] for query in shown.queries.examples[:3]]
        assert sorted(first) == sorted(made.support)  # the first queries show all classes
        assert shown.gallery.fingerprint == encoder.fingerprint


def test_visits_share_the_examples_of_a_starter_set_and_none_of_their_changes(tiny: Encoder) -> None:
    one, two, other = Workspace(tiny), Workspace(tiny), Workspace(tiny)
    one.start(tiny, "textures")
    two.start(tiny, "textures")
    kept = [(example.id, example.label) for example in two.gallery.examples]
    for mine, theirs in ((one.gallery, two.gallery), (one.queries, two.queries)):
        assert mine is not theirs and len(mine) > 20
        assert all(a is b for a, b in zip(mine.examples, theirs.examples, strict=True))
    assert all(one.url(example) is two.url(example) for example in one.gallery.examples)
    with one.change("all in one class") as gallery:
        gallery.rename("brick", "wall")
        gallery.remove([gallery.examples[-1].id])
    one.ask(tiny, pictures("red", 1), 1)
    assert [(example.id, example.label) for example in two.gallery.examples] == kept and two.truth
    with speaking(GERMAN):
        other.start(tiny, "textures")
    assert other.gallery.classes != two.gallery.classes and len(other.gallery) == len(two.gallery)


def test_a_link_chooses_the_starter_set(call: Calls) -> None:
    linked = call()
    linked.query["set"] = "digits"
    with opened(linked) as (shown, _):
        assert shown.starter == "digits"
    unknown = call()
    unknown.query["set"] = "../etc"
    with opened(unknown) as (shown, _):
        assert shown.starter == workspace.FIRST


def test_a_visit_keeps_one_workspace_and_counts_its_bytes(call: Calls) -> None:
    one = call()
    with opened(one) as (first, _):
        pass
    with opened(one) as (second, encoder):
        assert first is second
        [id] = second.add(encoder, "brick", pictures("red", 1)).ids
        before = one.visit.nbytes
        second.url(second.gallery[id])
        assert one.visit.nbytes > before > second.gallery.nbytes


def test_another_model_embeds_everything_again_or_nothing(call: Calls, tiny: Encoder) -> None:
    one = call()
    other = Encoder.random(tiny.config, seed=1, device="cpu")
    one.models = Models(opener=lambda key, source: tiny if key == EMBEDDED else other)
    with opened(one) as (shown, encoder):
        before, number = shown.gallery.X, shown.version
    one.visit.model = RANDOM
    one.visit.left = True
    with pytest.raises(Stopped), opened(one):
        pass
    assert shown.gallery.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(shown.gallery.X, before)
    one.visit.left = False
    with opened(one) as (shown, _):
        assert shown.gallery.fingerprint == shown.queries.fingerprint == other.fingerprint != encoder.fingerprint
        assert shown.version > number and not np.allclose(shown.gallery.X, before)
    one.visit.model = EMBEDDED
    with opened(one) as (shown, _):
        assert shown.gallery.fingerprint == encoder.fingerprint


@pytest.fixture
def own(call: Calls) -> tuple[Workspace, Encoder]:
    with opened(call()) as (shown, encoder):
        shown.start(encoder, "")
        return shown, encoder


def test_new_classes_replace_the_blank_ones(own: tuple[Workspace, Encoder]) -> None:
    shown, _ = own
    assert shown.gallery.classes == list(workspace.BLANK)
    shown.name_class("cats")
    shown.name_class("dogs")
    shown.name_class("mice")
    assert shown.gallery.classes == ["cats", "dogs", "mice"]
    with pytest.raises(GalleryError, match="a class Cats already"):
        shown.name_class(" Cats ")
    with pytest.raises(GalleryError, match="visible"):
        shown.name_class(" \u200b ")


def test_a_filled_class_keeps_its_name(own: tuple[Workspace, Encoder]) -> None:
    shown, encoder = own
    shown.add(encoder, "Class 1", pictures("red", 1))
    shown.name_class("cats")
    assert shown.gallery.classes == ["Class 1", "cats"]


def test_duplicates_are_reported_and_undo_reverts_one_change(own: tuple[Workspace, Encoder]) -> None:
    shown, encoder = own
    shown.name_class("red")
    added = shown.add(encoder, "red", pictures("red", 3))
    assert len(added.ids) == 3 and shown.undo == "added to red"
    number = shown.version
    again = shown.add(encoder, "Class 2", pictures("red", 2))
    assert not again.ids and "red-0.png in red" in again.skipped[0].reason
    assert shown.version == number  # nothing changed, nothing to undo
    assert shown.take_back() == "added to red"
    assert shown.gallery.counts == {"red": 0, "Class 2": 0}
    with pytest.raises(GalleryError, match="nothing to undo"):
        shown.take_back()


def test_a_change_that_fails_changes_nothing(own: tuple[Workspace, Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    shown, encoder = own
    shown.add(encoder, "Class 1", pictures("red", 2))
    before = (shown.gallery.counts, shown.version)
    monkeypatch.setattr(workspace, "TOGETHER", 2)

    def stopping() -> object:
        yield from pictures("blue", 3)
        raise Stopped("Stopped.")

    with pytest.raises(Stopped):
        shown.add(encoder, "Class 2", stopping())  # type: ignore[arg-type]
    assert (shown.gallery.counts, shown.version) == before
    monkeypatch.setattr(limits, "MAX_EXAMPLES", 4)
    with pytest.raises(GalleryError, match="at most 4"):
        shown.add(encoder, "Class 2", pictures("blue", 3))
    assert (shown.gallery.counts, shown.version) == before


def test_large_pictures_are_decoded_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_PIXELS", 1000)
    sizes = [len(batch) for batch in workspace._batches(pictures("red", 5))]  # of 576 pixels each
    assert sizes == [2, 2, 1]


def test_a_zip_replaces_a_starter_set_and_adds_to_an_own_set(call: Calls) -> None:
    files = {f"all/{p.name.split('-')[0]}/{p.name}": png(p) for c in ("red", "blue") for p in pictures(c, 3)}
    with opened(call()) as (shown, encoder):
        shown.unpack(encoder, archive.read_zip(zipped(files)))
        assert shown.gallery.counts == {"red": 3, "blue": 3}
        assert not len(shown.queries) and not shown.truth and not shown.starter
        more = {f"lime/{p.name}": png(p) for p in pictures("lime", 2)}
        shown.unpack(encoder, archive.read_zip(zipped(more)))
        assert shown.gallery.counts == {"red": 3, "blue": 3, "lime": 2}
        shown.take_back()
        assert shown.gallery.counts == {"red": 3, "blue": 3}


def test_a_zip_without_pictures_keeps_the_starter_set(call: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(call()) as (shown, encoder):
        before = shown.gallery.counts, len(shown.queries)
        with pytest.raises(GalleryError, match="No picture came out"):
            shown.unpack(encoder, archive.read_zip(zipped({"a/notes.txt": b"x"})))
        monkeypatch.setattr(limits, "MAX_EXAMPLES", 3)
        with pytest.raises(GalleryError, match="4 files"):
            shown.unpack(encoder, archive.read_zip(zipped({f"a/{i}.png": b"x" for i in range(4)})))
        assert (shown.gallery.counts, len(shown.queries)) == before
        assert shown.starter == workspace.FIRST


def test_own_queries_replace_those_of_the_starter_set(call: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(call()) as (shown, encoder):
        assert shown.ask(encoder, pictures("red", 3), 3) == 0
        assert len(shown.queries) == 3 and not shown.truth
        assert shown.starter == workspace.FIRST  # the examples are still the set's
        assert shown.ask(encoder, pictures("red", 4), 4) == 3
        assert len(shown.queries) == 4
        monkeypatch.setattr(limits, "MAX_QUERIES", 5)
        with pytest.raises(InputError, match="4 are here and 5 are kept"):
            shown.ask(encoder, pictures("blue", 2), 2)
        shown.clear_queries(encoder)
        assert not len(shown.queries)


def test_undo_restores_an_own_set_after_a_starter_set(own: tuple[Workspace, Encoder]) -> None:
    shown, encoder = own
    shown.begun = True
    shown.add(encoder, "Class 1", pictures("red", 2))
    shown.start(encoder, "digits")
    assert len(shown.gallery.classes) == 10 and shown.undo
    shown.take_back()
    assert shown.gallery.counts == {"Class 1": 2, "Class 2": 0}
    shown.start(encoder, "digits")
    shown.start(encoder, "textures")
    assert not shown.undo  # an untouched starter set needs no undo


def test_a_lesson_is_learned_once_per_version_and_setting(own: tuple[Workspace, Encoder]) -> None:
    shown, encoder = own
    shown.add(encoder, "Class 1", pictures("red", 3))
    shown.add(encoder, "Class 2", pictures("blue", 3))
    first = shown.lesson(encoder, "auto", 5, 0.05)
    assert shown.lesson(encoder, "auto", 7, 0.05) is first  # only kNN uses k
    assert shown.lesson(encoder, "knn", 5, 0.05) is not first
    shown.add(encoder, "Class 2", pictures("blue", 4))
    assert len(shown.lesson(encoder, "auto", 5, 0.05).examples) == 7


def test_changes_of_one_visit_wait_for_each_other(call: Calls) -> None:
    one = call()
    with opened(one):
        waiting = threading.Thread(target=lambda: opened(one).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
    with opened(call()):  # another visit never waits
        pass
