"""Few-shot as plain functions, then its endpoint on the running app."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.app import Served
from tests.support.ui import event, pictures, png, workspace_of
from tests.support.zips import zipped
from vitmsn import bundle, limits
from vitmsn.errors import ArchiveError, FewShotError, GalleryError, InputError, ViTMSNError
from vitmsn.ui.fewshot import tab
from vitmsn.ui.fewshot.controls import FewShotControls
from vitmsn.ui.models import Models
from vitmsn.ui.shared import workspace
from vitmsn.ui.shared.workspace import WorkspaceState
from vitmsn.ui.visits import Call, Stopped

Calls = Callable[..., Call]
NASTY = "<b>&$x^2$ ${1+1} {{value}}"


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], list[str]]:
    """Files as the page's upload leaves them on the server; their paths."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    folder = Path(get_upload_folder()).resolve()

    def send(files: dict[str, bytes]) -> list[str]:
        paths = []
        for number, (name, data) in enumerate(files.items()):
            path = folder / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            paths.append(str(path))
        return paths

    return send


def files_of(color: str, count: int, seed: int = 0) -> dict[str, bytes]:
    return {picture.name: png(picture) for picture in pictures(color, count, seed)}


# The page


def test_the_tab_opens_with_answers(call: Calls) -> None:
    cards, trust, tried, code = tab.answer(call())
    assert cards.count('class="msn-card"') == 3 and 'value="brick"' in cards
    assert " right (" in trust and "guessing gets 33\xa0%" in trust and "Confusion matrix" in trust
    assert "new pictures named correctly" in tried and "Download as CSV" in tried
    assert "fewshot.learn(examples.X, examples.y," in code


def test_from_two_names_to_predictions(own: Call, sent: Callable[..., list[str]]) -> None:
    _, trust, _, _ = tab.answer(own)
    assert "Add pictures to two classes" in trust
    tab.receive(event(own, to="red", paths=sent(files_of("red", 4))))
    _, trust, _, _ = tab.answer(own)
    assert "4 pictures waiting: add a second class." in trust
    _, trust, _, _ = tab.receive(event(own, to="blue", paths=sent(files_of("blue", 4))))
    assert "8 of 8 right (100\xa0%). On new pictures expect 68\N{EN DASH}100\xa0%; guessing gets 50\xa0%." in trust
    *_, tried, _ = tab.ask(event(own, to="queries", paths=sent(files_of("blue", 2, seed=1))))
    assert tried.count("<tr><td>") == 2 and ">blue</strong>" in tried
    assert not own.message


def test_bad_and_duplicate_files_are_reported_and_the_others_added(own: Call, sent: Callable[..., list[str]]) -> None:
    files = {**files_of("red", 2), "notes.txt": b"hello", "moves.gif": b""}
    gif = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    files["moves.gif"] = gif.getvalue()
    tab.receive(event(own, to="red", paths=sent(files)))
    assert workspace_of(own).gallery.counts["red"] == 3
    assert [line.partition(" ")[0] for line in own.details] == ["notes.txt", "moves.gif:"]  # a list, one line each
    assert own.message == ""
    tab.receive(event(own, to="blue", paths=sent(files_of("red", 1))))
    assert own.message == "red-0.png is the same picture as red-0.png in red."
    assert workspace_of(own).gallery.counts["blue"] == 0
    tab.receive(event(own, to="red", paths=sent(files_of("red", 2))))
    assert own.message.startswith("2 pictures were here already (red-0.png is")


def test_only_uploads_of_this_page_are_read(own: Call, sent: Callable[..., list[str]], tmp_path: Path) -> None:
    [good] = sent(files_of("red", 1))
    outside = tmp_path / "outside.png"
    outside.write_bytes(Path(good).read_bytes())
    link = Path(good).with_name("link.png")
    link.symlink_to(outside)
    traversal = f"{Path(good).parent}/../../../outside.png"
    for paths in ([str(outside)], [good, str(outside)], [str(link)], [traversal], ["/etc/passwd"], [good + "\0"]):
        with pytest.raises(InputError, match="sent through this page"):
            tab.receive(event(own, to="red", paths=paths))
    for paths in (None, [], "text", [1], {"a": 1}):
        with pytest.raises(InputError, match="No pictures came"):
            tab.receive(event(own, to="red", paths=paths))
    with pytest.raises(InputError, match="go at once"):
        tab.receive(event(own, to="red", paths=[good] * (limits.MAX_EXAMPLES + 1)))
    assert len(workspace_of(own).gallery) == 0


def test_a_deleted_upload_is_reported(own: Call, sent: Callable[..., list[str]]) -> None:
    [path] = sent(files_of("red", 1))
    Path(path).unlink()
    tab.receive(event(own, to="red", paths=[path]))
    assert "no longer here" in own.message


@pytest.mark.parametrize("name", [NASTY, "=1+1", "猫", "a" * 200])
def test_names_are_text_whatever_they_hold(call: Calls, name: str) -> None:
    made = call()
    tab.start(made, "")
    out = tab.add_class(made, name)
    cleared, cards = out["name"], out["cards"]
    [kept] = [label for label in workspace_of(made).gallery.classes if label not in workspace.BLANK]
    assert cleared == "" and kept == name[: limits.MAX_NAME_LENGTH]
    assert "<b>" not in cards
    tab.act(event(made, act="rename", id=kept, text="plain"))
    assert "plain" in workspace_of(made).gallery.classes


def test_the_small_buttons(own: Call, sent: Callable[..., list[str]]) -> None:
    tab.receive(event(own, to="red", paths=sent(files_of("red", 3))))
    shown = workspace_of(own)
    first = shown.gallery.examples[0].id
    cards, *_ = tab.act(event(own, act="remove", id=first))
    assert shown.gallery.counts["red"] == 2 and "Undo: removed red-0.png from red" in cards
    tab.act(event(own, act="undo"))
    assert shown.gallery.counts["red"] == 3
    tab.act(event(own, act="move", id=first, text="blue"))
    assert shown.gallery.counts == {"red": 2, "blue": 1}
    tab.act(event(own, act="remove-class", id="red"))
    assert shown.gallery.counts == {"blue": 1}
    tab.act(event(own, act="undo"))
    assert shown.gallery.counts == {"red": 2, "blue": 1}
    tab.ask(event(own, paths=sent(files_of("red", 1, seed=1))))
    tab.act(event(own, act="clear"))
    assert not len(shown.queries)


@pytest.mark.parametrize(
    "values",
    [
        {"act": "remove", "id": "e99"},
        {"act": "remove", "id": None},
        {"act": "remove", "id": {"a": 1}},
        {"act": "remove-class", "id": "nobody"},
        {"act": "move", "id": "e99", "text": "red"},
        {"act": "format", "id": "c:"},
        {},
    ],
)
def test_an_invalid_request_is_refused_with_a_message(own: Call, values: dict[str, Any]) -> None:
    before = workspace_of(own).gallery.classes
    with pytest.raises(ViTMSNError):
        tab.act(event(own, **values))
    assert workspace_of(own).gallery.classes == before


def test_a_duplicate_name_is_refused_and_the_page_is_drawn_again(own: Call) -> None:
    before = workspace_of(own).version
    cards, *_ = tab.act(event(own, act="rename", id="blue", text="RED"))
    assert "a class red already" in own.message and 'value="blue"' in cards
    assert f'data-version="{before + 1}"' in cards  # another value, so that the page updates


def test_an_expired_page_gets_a_message(call: Calls, sent: Callable[..., list[str]]) -> None:
    paths = sent(files_of("red", 1))
    for function, values in (
        (tab.act, {"act": "remove", "id": "e1"}),
        (tab.receive, {"to": "red", "paths": paths}),
    ):
        slept = event(call(), **values)
        cards, *_ = function(slept)
        assert slept.message == tab.SLEPT and 'value="brick"' in cards
    slept = call()
    tab.add_class(slept, "cats")
    assert slept.message == tab.SLEPT


def test_a_zip_of_folders(call: Calls, tmp_path: Path) -> None:
    made = call()
    tab.answer(made)
    path = tmp_path / "set.zip"
    files = {f"{c}/{name}": data for c in ("red", "blue") for name, data in files_of(c, 3).items()}
    path.write_bytes(zipped({**files, "red/notes.txt": b"hello"}))
    shown = tab.unzip(made, str(path))
    assert "6 of 6" in shown["trust"] and 'value="red"' in shown["cards"]
    assert made.message.startswith("notes.txt is ")
    path.write_bytes(b"PK\x03\x04 no zip at all")
    with pytest.raises(ArchiveError, match=r"set.zip is damaged"):
        tab.unzip(made, str(path))
    with pytest.raises(InputError, match="No zip came"):
        tab.unzip(made, None)


def test_files_skipped_for_one_reason_are_reported_once(call: Calls, tmp_path: Path) -> None:
    made = call()
    tab.answer(made)
    shades = {f"c{n:02d}/{n}.png": png(picture) for n, picture in enumerate(pictures("red", limits.MAX_CLASSES + 5))}
    (tmp_path / "many.zip").write_bytes(zipped(shades))
    tab.unzip(made, str(tmp_path / "many.zip"))
    assert len(workspace_of(made).gallery.classes) == limits.MAX_CLASSES
    assert made.message == "5 files, 50.png among them: A gallery holds at most 50 classes: remove or merge some first."


def test_stop_keeps_the_old_set(own: Call, sent: Callable[..., list[str]]) -> None:
    tab.receive(event(own, to="red", paths=sent(files_of("red", 3))))
    own.visit.stopped = own.began + 1
    with pytest.raises(Stopped):
        tab.receive(event(own, to="blue", paths=sent(files_of("blue", 3))))
    assert workspace_of(own).gallery.counts == {"red": 3, "blue": 0}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("magic", 5, 5), "method is 'magic'"),
        (("knn", 0, 5), "k is 0"),
        (("knn", 2.5, 5), "k is 2.5"),
        (("knn", None, 5), "k is None"),
        (("auto", 5, 101), "from 0 to 100"),
        (("auto", 5, float("nan")), "from 0 to 100"),
        (("auto", 5, "x"), "from 0 to 100"),
    ],
)
def test_settings_from_outside_are_checked(call: Calls, settings: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tab.answer(call(), FewShotControls(*settings))


def test_every_classifier_answers_and_its_python_is_python(call: Calls) -> None:
    made = call()
    for method in workspace.METHODS:
        _, trust, tried, code = tab.answer(made, FewShotControls(method, 3, 5))
        assert " right (" in trust and "msn-answers" in tried
        source = code.split("<code>")[1].split("</code>")[0].unescape()
        compile(source, method, "exec")


def test_more_caution_rejects_more_queries(call: Calls) -> None:
    made = call()
    counts = [
        tab.answer(made, FewShotControls(caution=caution))[2].count("<strong>none of these") for caution in (0, 5, 90)
    ]
    assert counts == sorted(counts) and counts[-1] > counts[0]


# The endpoint as a function


def folder_of_zips(tmp_path: Path, files: dict[str, bytes], name: str = "support.zip") -> str:
    path = tmp_path / name
    path.write_bytes(zipped(files))
    return str(path)


def support(count: int = 4) -> dict[str, bytes]:
    return {f"{c}/{name}": data for c in ("red", "blue") for name, data in files_of(c, count).items()}


def test_the_endpoint_answers_in_plain_json(call: Calls, tmp_path: Path) -> None:
    queries = []
    for name, data in {**files_of("red", 1, seed=1), **files_of("lime", 1), "bad.txt": b"x"}.items():
        (tmp_path / name).write_bytes(data)
        queries.append(str(tmp_path / name))
    answer = tab.few_shot(call(), folder_of_zips(tmp_path, support(6)), queries, "auto", 2)
    each = {"examples": 6, "different": 6, "accuracy": 1.0}
    assert answer["classes"] == [{"label": "blue", **each}, {"label": "red", **each}]
    assert answer["method"] == "ridge" and answer["near_copies"] == "" and 0.5 < answer["sure_from"] < 0.8
    assert answer["leave_one_out"]["guessing"] == 0.5 and answer["leave_one_out"]["better_than_guessing"]
    assert answer["leave_one_out"]["accuracy"] == 1 and answer["leave_one_out"]["total"] == 12
    assert answer["leave_one_out"]["interval"][0] == pytest.approx(0.757, abs=1e-3)
    red, lime = answer["predictions"]
    assert (red["file"], red["label"]) == ("red-0.png", "red") and 0.5 < red["probability"] < 1
    assert [near["label"] for near in red["neighbors"]] == ["red", "red"]
    assert red["neighbors"][0]["similarity"] >= red["neighbors"][1]["similarity"]
    assert lime["label"] is None and lime["closest"] in ("red", "blue")
    assert lime["reason"] == "none of these" and lime["distance"] > lime["limit"] and red["reason"] == ""
    assert "%" not in lime["sentence"] and sum(lime["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert [refused["file"] for refused in answer["skipped"]] == ["bad.txt"]


def test_unreadable_files_are_skipped_by_name(call: Calls, tmp_path: Path) -> None:
    names = ("notes.txt", "Thumbs.db", "no", "raw.cr3")
    odd = {f"{folder}/{name}": b"x" for folder in ("red", "blue") for name in names}
    path = folder_of_zips(tmp_path, support() | odd)
    made = call()
    tab.unzip(made, path)
    assert made.message == ""
    for name in ("notes.txt", "no", "raw.cr3"):
        assert sum(detail.startswith(f"{name} is a file of unknown format") for detail in made.details) == 2
    assert "hidden files and those of systems are left out (Thumbs.db)" in made.details
    answer = tab.few_shot(call(), path)
    assert answer["notes"] == ["hidden files and those of systems are left out (Thumbs.db)"]
    assert sorted(one["file"] for one in answer["skipped"]) == [
        "no",
        "no",
        "notes.txt",
        "notes.txt",
        "raw.cr3",
        "raw.cr3",
    ]


def test_splits_in_a_zip_are_reported(call: Calls, tmp_path: Path) -> None:
    files = {f"pets/{split}/{name}": data for split in ("train", "val") for name, data in support().items()}
    made = call()
    tab.unzip(made, folder_of_zips(tmp_path, files))
    assert made.message == f"the classes are the folders in train; {len(support())} files in val left out."
    assert {"red", "blue"} <= set(workspace_of(made).gallery.counts)


def test_the_endpoint_takes_a_saved_set(call: Calls, tmp_path: Path) -> None:
    made = call()
    tab.start(made, "textures")
    path = bundle.save(workspace_of(made).gallery, tmp_path / "few-shot.zip")
    answer = tab.few_shot(call(), str(path))
    counts = {one["label"]: one["examples"] for one in answer["classes"]}
    assert counts == {"brick": 8, "grass": 8, "gravel": 8} and answer["skipped"] == []


def test_single_examples_are_not_judged(call: Calls, tmp_path: Path) -> None:
    answer = tab.few_shot(call(), folder_of_zips(tmp_path, support(1)))
    assert answer["leave_one_out"]["accuracy"] is None and answer["predictions"] == []
    assert "too few to judge" in answer["leave_one_out"]["sentence"]


def test_the_endpoint_refuses_with_a_message(call: Calls, tmp_path: Path) -> None:
    one = {name: data for name, data in support().items() if name.startswith("red")}
    for values, error, words in (
        (("",), InputError, "No zip came"),
        ((folder_of_zips(tmp_path, one, "one.zip"),), FewShotError, "at least two"),
        ((folder_of_zips(tmp_path, {"../up.png": b"x"}, "up.zip"),), ArchiveError, "points outside"),
        ((folder_of_zips(tmp_path, support()), [], "magic"), FewShotError, "no method 'magic'"),
        ((folder_of_zips(tmp_path, support()), [], "knn", 0), InputError, "k is 0"),
        ((folder_of_zips(tmp_path, support()), ["x"] * 201), InputError, "201 queries"),
    ):
        with pytest.raises(error, match=words):
            tab.few_shot(call(), *values)


def test_the_endpoint_leaves_the_visit_alone(call: Calls, tmp_path: Path) -> None:
    made = call()
    tab.few_shot(made, folder_of_zips(tmp_path, support()))
    assert made.visit.state(WorkspaceState).workspace is None


# The endpoint on the running app


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    return Client(served.url, verbose=False)


def test_the_running_app_learns_from_a_zip(client: Client, tmp_path: Path) -> None:
    for picture in pictures("red", 1, seed=1):
        (tmp_path / picture.name).write_bytes(png(picture))
    answer = client.predict(
        support_zip=handle_file(folder_of_zips(tmp_path, support(6))),
        queries=[handle_file(tmp_path / "red-0.png")],
        api_name="/few_shot",
    )
    labels = [one["label"] for one in answer["classes"]]
    assert labels == ["blue", "red"] and answer["leave_one_out"]["total"] == 12
    [one] = answer["predictions"]
    assert one["file"] == "red-0.png" and one["closest"] in labels and len(one["neighbors"]) == 5


def test_a_hostile_zip_gets_one_clear_sentence_and_the_app_goes_on(client: Client, tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in "ab":
            archive.writestr(f"{label}/bomb.png", bytes(30_000_000))
    for name, data, words in (
        ("broken.zip", b"PK\x03\x04 broken", "broken.zip is damaged or not a zip"),
        ("up.zip", zipped({"../../up.png": b"x"}), "points outside"),
        ("inner.zip", zipped({"a/b.zip": zipped({})}), "holds another archive"),
        ("bomb.zip", bomb.getvalue(), "at least two"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AppError, match=words) as caught:
            client.predict(support_zip=handle_file(tmp_path / name), api_name="/few_shot")
        assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value).strip()
    test_the_running_app_learns_from_a_zip(client, tmp_path)


def test_the_docstring_is_the_tool_description(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/few_shot"]  # type: ignore[index,call-overload]
    assert "Learn classes from a few examples" in described["description"]
    assert "one folder of pictures for each class" in described["parameters"][0]["type"]["description"]
    assert [p["parameter_name"] for p in described["parameters"]] == ["support_zip", "queries", "method", "k"]
    defaults = {p["parameter_name"]: p["parameter_default"] for p in described["parameters"]}
    assert defaults["method"] == "auto" and defaults["k"] == 5


def test_the_tab_is_on_the_page(models: Models) -> None:
    from vitmsn.ui import page

    app = page.build(models)
    assert {"fewshot", "explore"} <= set(app.items) and {"classifier", "k", "map"} <= set(app.links)


def test_two_visitors_share_nothing(call: Calls) -> None:
    one, other = call(), call()
    tab.start(one, "")
    tab.add_class(one, "canary")
    tab.answer(other)
    assert "canary" not in tab.answer(other)[0] and "canary" in tab.answer(one)[0]
    with pytest.raises(GalleryError):
        tab.act(event(other, act="remove-class", id="canary"))
