"""Explore as plain functions, then its endpoint on the running app."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.support.app import Served
from tests.support.ui import event, pictures, png
from tests.support.zips import zipped
from vitmsn import limits, projection
from vitmsn.errors import ArchiveError, GalleryError, InputError, ViTMSNError
from vitmsn.training import shapes
from vitmsn.ui.explore import map as map_
from vitmsn.ui.explore import tab
from vitmsn.ui.explore.tab import ExploreControls
from vitmsn.ui.shared.workspace import WorkspaceState, opened
from vitmsn.ui.visits import Call, Stopped

Calls = Callable[..., Call]
UMAP = ExploreControls("umap")


@pytest.fixture
def call(call: Calls) -> Calls:
    """A visitor with a link to the textures, which are few."""
    return lambda: replace(call(), query={"set": "textures"})


def attribute(page: str, name: str) -> Any:
    found = re.search(f'data-{name}="([^"]*)"', page)
    assert found is not None
    return json.loads(html.unescape(found[1]))


def wanted(page: str) -> str:
    found = re.search('data-wanted="([^"]*)"', page)
    assert found is not None
    return found[1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Replace UMAP, which compiles for half a minute; records the requested shapes, seeds and neighbors."""
    asked: list[tuple[int, ...]] = []

    def umap(X: np.ndarray, seed: int = 0, n_neighbors: int = 15, min_dist: float = 0.1, progress: Any = None) -> Any:
        asked.append((*X.shape, seed, n_neighbors))
        if progress:
            progress(1, 2)
        return np.stack([np.arange(len(X)), np.zeros(len(X))], axis=1).astype(np.float32)

    monkeypatch.setattr(projection, "umap", umap)
    return asked


def test_it_opens_with_a_pca_map_of_examples_and_queries(call: Calls) -> None:
    words, page = tab.answer(call())
    points = attribute(page, "points")
    assert len(points) == 48 and sum(point["q"] for point in points) == 24
    assert len({point["id"] for point in points}) == 48
    assert {point["n"].rpartition(", ")[2]: point["l"] for point in points} == {
        "brick": "A",
        "grass": "B",
        "gravel": "C",
        "query": "?",
    }
    assert all(-1 <= point[axis] <= 1 for point in points for axis in "xy")
    assert max(abs(point["x"]) for point in points) == pytest.approx(1, abs=1e-3)  # wider than high
    assert "of 24 examples have their most similar neighbor in the same class" in words and "PCA" in words
    assert not wanted(page)
    buttons = re.findall(r'<button type="button" data-id="(\w+)"', page)
    assert buttons == [point["id"] for point in points]


def test_without_a_wish_it_opens_with_the_drawn_shapes(call: Calls) -> None:
    one = replace(call(), query={})
    _, page = tab.answer(one)
    points = attribute(page, "points")
    assert len(points) == 80 and {point["n"].rpartition(", ")[2] for point in points} == {*shapes.KINDS, "query"}
    with opened(one) as (shown, _):
        assert shown.starter == "shapes"


def test_the_map_projects_the_embeddings_of_the_classifiers(call: Calls) -> None:
    one = call()
    _, page = tab.answer(one, ExploreControls(queries=False))
    with opened(one) as (shown, _):
        points = projection.pca(tab._unit(shown.gallery.X, None))
    drawn = np.array([[point["x"], point["y"]] for point in attribute(page, "points")])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    drawn_apart = np.linalg.norm(drawn[:, None] - drawn[None], axis=2)
    np.testing.assert_allclose(drawn_apart / drawn_apart.max(), apart / apart.max(), atol=1e-3)


def test_umap_is_shown_when_ready_and_cached(call: Calls, quick: list[tuple[int, ...]]) -> None:
    one = call()
    words, page = tab.answer(one, UMAP)
    assert "PCA" in words and wanted(page)  # PCA at once, and UMAP requested
    tab.lay_out(one, UMAP)
    words, page = tab.answer(one, UMAP)
    assert "15 neighbors, least distance 0.1, seed 0" in words and not wanted(page)
    assert quick == [(48, 16, 0, 15)]
    _, page = tab.answer(one, ExploreControls("umap", seed=1))
    assert wanted(page)  # another seed needs another map
    with opened(one) as (shown, encoder):
        shown.start(encoder, "digits")
    _, page = tab.answer(one, UMAP)
    assert wanted(page)  # and so do other examples


def test_a_map_of_examples_that_changed_meanwhile_is_dropped(call: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    one = call()
    tab.answer(one, UMAP)

    def umap(X: np.ndarray, *_: Any, **__: Any) -> Any:
        with opened(one) as (shown, encoder):
            shown.start(encoder, "digits")
        return np.zeros((len(X), 2), np.float32)

    monkeypatch.setattr(projection, "umap", umap)
    tab.lay_out(one, UMAP)
    _, page = tab.answer(one, UMAP)
    assert wanted(page) and len(attribute(page, "points")) == 80


def test_stop_ends_a_umap_job(call: Calls, quick: list[tuple[int, ...]]) -> None:
    one = call()
    tab.answer(one, UMAP)
    one.visit.stopped = one.began + 1
    with pytest.raises(Stopped):
        tab.lay_out(one, UMAP)


def test_names_are_escaped(call: Calls) -> None:
    one = call()
    name = '"><img src=x onerror=alert(1)> ${1+1} {{x}}'
    with opened(one) as (shown, encoder):
        shown.start(encoder, "")
        shown.name_class(name)
        shown.add(encoder, name, pictures("red", 3))
        shown.add(encoder, "Class 2", pictures("blue", 3))
    words, page = tab.answer(one)
    assert "<img src=x" not in page + words
    assert attribute(page, "points")[0]["n"] == f"red-0.png, {name}"


def test_too_few_pictures_give_a_message(call: Calls) -> None:
    one = call()
    with opened(one) as (shown, encoder):
        shown.start(encoder, "")
        shown.add(encoder, "Class 1", pictures("red", 1))
    words, page = tab.answer(one)
    assert "needs two pictures" in words and page == ""
    with opened(one) as (shown, encoder):
        shown.add(encoder, "Class 1", pictures("red", 2))
    words, page = tab.answer(one)
    assert "2 pictures on the map" in words and len(attribute(page, "points")) == 2
    tab.answer(one, UMAP)
    with pytest.raises(InputError, match="at least 4"):
        tab.lay_out(one, UMAP)


def test_chosen_points_are_moved_removed_and_restored(call: Calls) -> None:
    one = call()
    tab.answer(one)
    with opened(one) as (shown, _):
        first, query = [example.id for example in shown.gallery.examples[:2]], shown.queries.examples[0]
    event(one, act="move", ids=first, text="grass")
    tab.act(one)
    with opened(one) as (shown, _):
        assert shown.gallery.counts == {"brick": 6, "grass": 10, "gravel": 8}
    event(one, act="move", ids=[*first, f"q{query.id}"], text=" <b>new</b> ")
    _, page = tab.act(one)
    with opened(one) as (shown, _):
        assert shown.gallery.counts == {"brick": 6, "grass": 8, "gravel": 8, "<b>new</b>": 3}
        assert shown.gallery.examples[-1].digest == query.digest
    assert "Undo: moved 3 pictures to &lt;b&gt;new&lt;/b&gt;" in page and "<b>new" not in page
    event(one, act="undo")
    tab.act(one)
    event(one, act="remove", ids=[*first, f"q{query.id}"])
    tab.act(one)
    assert "Queries stay" in one.message
    with opened(one) as (shown, _):
        assert shown.gallery.counts == {"brick": 6, "grass": 8, "gravel": 8} and len(shown.queries) == 24


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"act": "move", "ids": ["e1"], "text": ""}, "visible character"),
        ({"act": "move", "ids": ["e999"], "text": "x"}, "no example"),
        ({"act": "move", "ids": "e1", "text": "x"}, "something unknown"),
        ({"act": "burn", "ids": ["e1"]}, "something unknown"),
        ({"act": "remove", "ids": ["qe1"]}, "These are queries"),
        ({"act": "move", "ids": [1], "text": "x"}, "something unknown"),
    ],
    ids=str,
)
def test_a_refused_action_gives_an_error_and_changes_nothing(call: Calls, values: dict[str, Any], words: str) -> None:
    one = call()
    tab.answer(one)
    event(one, **values)
    with pytest.raises(ViTMSNError, match=words):
        tab.act(one)
    with opened(one) as (shown, _):
        assert shown.gallery.counts == {"brick": 8, "grass": 8, "gravel": 8}


def test_color_by_probability_and_by_doubt(call: Calls) -> None:
    one = call()
    with opened(one) as (shown, _):
        wrong = shown.gallery.examples[0]
        shown.gallery.move([wrong.id], "gravel")
    with opened(one) as (shown, encoder):
        lesson = shown.lesson(encoder, "auto", 5, 0.05)
    _, page = tab.answer(one, ExploreControls(colour="probability"))
    points = {point["id"]: point for point in attribute(page, "points")}
    sure = lesson.judged.probabilities[0].max()
    assert points[wrong.id]["l"] == str(int(10 * sure)) and points[wrong.id]["n"].endswith("% sure")
    _, page = tab.answer(one, ExploreControls(colour="doubt", faces=True))
    points = {point["id"]: point for point in attribute(page, "points")}
    named = lesson.judged.predictions != lesson.judged.labels
    assert [points[e.id]["l"] == "!" for e in lesson.examples] == named.tolist()
    assert f"{named.sum()} example" in page and 'data-faces="yes"' in page
    assert f"looks like {lesson.judged.predictions[0]}" in points[wrong.id]["n"]
    with pytest.raises(InputError, match="colour is 'mood'"):
        tab.answer(one, ExploreControls(colour="mood"))
    with opened(one) as (shown, encoder):
        shown.gallery.remove_class("brick")
        shown.gallery.remove_class("grass")
        shown.changed()
    assert "Add pictures to two classes first" in tab.answer(one, ExploreControls(colour="doubt"))[1]


def test_peek_sends_the_picture_of_a_point(call: Calls) -> None:
    one = call()
    tab.answer(one)
    for id in ("e3", "qe2"):
        event(one, id=id)
        assert re.fullmatch(rf'<img data-of="{id}" src="data:image/webp;base64,[\w+/=]+" alt="[^"]+">', tab.peek(one))
    event(one, id="<script>")
    with pytest.raises(GalleryError, match="no example"):
        tab.peek(one)


def test_points_that_coincide_are_drawn(call: Calls) -> None:
    assert map_.leveled(np.zeros((3, 2))).tolist() == [[0, 0]] * 3
    level = map_.leveled(np.array([[0.0, 0], [0, 2], [0, 4]]))
    np.testing.assert_allclose(np.abs(level), [[1, 0], [0, 0], [1, 0]], atol=1e-9)  # rotated to be wider than high
    flat = map_.leveled(np.array([[0.0, 0], [8, 0], [4, 1]]), stretch=3)
    assert np.ptp(flat[:, 0]) == pytest.approx(2) and np.ptp(flat[:, 1]) == pytest.approx(0.75)


def test_the_list_of_pictures_is_bounded_and_says_so(call: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_, "PICTURES", 10)
    _, page = tab.answer(call())
    assert page.count("data-id=") == 10 and "The first 10 of 48 pictures" in page
    assert len(attribute(page, "points")) == 48


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("tsne", True, 15, 0), "map is 'tsne'"),
        (("umap", True, 1, 0), "neighbors is 1"),
        (("umap", True, 15, -1), "seed is -1"),
        (("umap", True, 15, 0.5), "seed is 0.5"),
        ((None, True, 15, 0), "map is 'None'"),
    ],
)
def test_settings_from_outside_are_checked(call: Calls, settings: tuple[Any, ...], words: str) -> None:
    for function in (tab.answer, tab.lay_out):
        with pytest.raises(InputError, match=words):
            function(call(), ExploreControls(*settings))


# The endpoint


def archive(tmp_path: Path, files: dict[str, bytes], name: str = "set.zip") -> str:
    (tmp_path / name).write_bytes(zipped(files))
    return str(tmp_path / name)


def some() -> dict[str, bytes]:
    folders = {f"{c}/{p.name}": png(p) for c in ("red", "blue") for p in pictures(c, 3)}
    return {**folders, **{p.name: png(p) for p in pictures("lime", 1)}, "red/notes.txt": b"x"}


def test_the_endpoint_draws_and_lists_every_file(call: Calls, tmp_path: Path) -> None:
    one = call()
    drawn, answer = tab.map(one, archive(tmp_path, some()))
    assert isinstance(drawn, Image.Image) and min(drawn.size) > 300
    points = {point["file"]: point for point in answer["points"]}
    assert len(points) == 7 and points["red-0.png"]["label"] == "red" and points["lime-0.png"]["label"] is None
    assert all(np.isfinite([point["x"], point["y"]]).all() for point in answer["points"])
    assert [refused["file"] for refused in answer["skipped"]] == ["notes.txt"]
    assert one.visit.state(WorkspaceState).workspace is None


def test_the_endpoint_supports_umap(call: Calls, tmp_path: Path, quick: list[tuple[int, ...]]) -> None:
    _, answer = tab.map(call(), archive(tmp_path, some()), "umap")
    assert answer["method"] == "umap" and quick == [(7, 16, 0, 15)]
    assert [point["x"] for point in answer["points"]] == list(range(7))


def test_the_endpoint_refuses_bad_input(call: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_picture = archive(tmp_path, {"a/x.png": png(pictures("red", 1)[0])}, "one.zip")
    for values, error, words in (
        (("",), InputError, "No zip came"),
        ((one_picture,), InputError, "1 picture came out"),
        ((archive(tmp_path, {"../up.png": b"x"}, "up.zip"),), ArchiveError, "points outside"),
        ((one_picture, "tsne"), InputError, "method is 'tsne'"),
    ):
        with pytest.raises(error, match=words):
            tab.map(call(), *values)
    monkeypatch.setattr(limits, "MAX_EXAMPLES", 3)
    with pytest.raises(InputError, match="holds 8 files and 3 go at once"):
        tab.map(call(), archive(tmp_path, some()))


@pytest.fixture(scope="module")
def client(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(served.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def test_the_running_app_maps_a_zip(client: Client, tmp_path: Path) -> None:
    path, answer = client.predict(images_zip=handle_file(archive(tmp_path, some())), api_name="/map")
    with Image.open(path) as drawn:
        assert len(answer["points"]) == 7 and min(drawn.size) > 300
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/map"]  # type: ignore[index,call-overload]
    assert "plane" in described["description"]
    assert [p["parameter_name"] for p in described["parameters"]] == ["images_zip", "method"]
