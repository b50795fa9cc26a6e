"""The running app for programs: `gradio_client` as documented, and invalid requests."""

from __future__ import annotations

import concurrent.futures
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.app import PATIENCE, Served
from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.look import look
from vitmsn.ui.shared import endpoints, examples


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    client = Client(served.url, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_pretrained()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photographs")
    paths = []
    for example in examples.photographs()[:3]:
        paths.append(str(folder / f"{example.name}.png"))
        example.picture.rgb.save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty files that are no pictures, or should not be opened as such."""
    folder = tmp_path_factory.mktemp("hostile")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    png = buffer.getvalue()
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    made: dict[str, bytes] = {
        "empty.png": b"",
        "text.png": b"hello",
        "bomb.png": huge,
        "svg.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "page.html": b"<html><script>alert(1)</script></html>",
        "document.pdf": b"%PDF-1.7 nothing",
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "phone.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
        "clip.mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp41",
        "archive.png": b"PK\x03\x04" + b"\x00" * 60,
        "zeros.jpg": b"\x00" * 2000,
        "header.jpg": b"\xff\xd8\xff\xe0",
        "only.gif": b"GIF89a",
        "only.webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
        "only.bmp": b"BM" + b"\x00" * 20,
        "only.tif": b"II*\x00\x08\x00\x00\x00",
    }
    for number, cut in enumerate((9, 20, 30, 40, 50, 60, len(png) // 2), 1):
        made[f"cut{number}.png"] = png[:cut]
    for number, cut in enumerate((3, 20, 100, 200, len(jpeg) // 3, 21), 1):
        made[f"cut{number}.jpg"] = jpeg[:cut]
    paths = []
    for name, data in made.items():
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    assert len(paths) == 30
    return paths


def test_endpoints_are_documented(client: Client) -> None:
    named: dict[str, Any] = client.view_api(return_format="dict")["named_endpoints"]  # type: ignore[index]
    assert set(named) == {
        "/classify",
        "/attention",
        "/mask",
        "/mask_curve",
        "/mask_search",
        "/few_shot",
        "/embed",
        "/map",
    }
    parameters = {p["parameter_name"]: p for p in named["/classify"]["parameters"]}
    assert list(parameters) == ["image", "top_k"]
    assert not parameters["image"]["parameter_has_default"] and parameters["top_k"]["parameter_default"] == 5
    assert all(len(endpoint["description"]) > 40 for endpoint in named.values())


def test_every_parameter_and_answer_has_a_name_and_a_description(client: Client, served: Served) -> None:
    info = httpx.get(f"{served.url}gradio_api/info", timeout=PATIENCE).json()
    for name, endpoint in info["named_endpoints"].items():
        for one in [*endpoint["parameters"], *endpoint["returns"]]:
            label, text = one["label"], one["type"]["description"]
            assert re.fullmatch("[A-Z][a-z]+( [a-z]+)*", label), (name, label)
            assert len(text) > 5 and text.endswith(".") and one["python_type"]["description"] == text, (name, label)
        for one in endpoint["parameters"]:
            example = str(one["example_input"])
            assert "://" not in example, (name, one["parameter_name"], example)
            assert one["parameter_has_default"] or one["component"] in ("Image", "File")
    said = client.view_api(print_info=False, return_format="str")
    assert isinstance(said, str) and "-> (map, answer)" in said
    assert "parameter_" not in said and "value_" not in said


def test_the_page_about_the_api_is_up_to_date(served: Served, root: Path) -> None:
    info = httpx.get(f"{served.url}gradio_api/info", timeout=PATIENCE).json()
    assert endpoints.page(info) == (root / "docs" / "api.md").read_text(encoding="utf-8"), "run: make api"
    assert info["version"] == endpoints.VERSION


def test_classify_matches_the_library(client: Client, encoder: Encoder, photographs: list[str]) -> None:
    for path in photographs:
        answer = client.predict(image=handle_file(path), top_k=3, api_name="/classify")
        [result] = encoder.classify([path], top_k=3)
        expected = result.to_dict()
        assert [entry["label"] for entry in answer["labels"]] == result.labels
        given = [entry["probability"] for entry in answer["labels"]]
        np.testing.assert_allclose(given, result.probabilities, atol=1e-4)
        assert {**answer, "labels": []} == {**expected, "labels": []}


def test_classify_gives_five_unless_asked(client: Client, photographs: list[str]) -> None:
    answer = client.predict(image=handle_file(photographs[0]), api_name="/classify")
    assert len(answer["labels"]) == 5 and set(answer["labels"][0]) == {"label", "probability"}


@pytest.mark.parametrize("top_k", [0, -3, 1001])
def test_classify_refuses_an_invalid_count(client: Client, photographs: list[str], top_k: int) -> None:
    with pytest.raises(AppError, match=r"top_k is .*from 1 to 1000"):
        client.predict(image=handle_file(photographs[0]), top_k=top_k, api_name="/classify")


def test_embed_matches_the_library(client: Client, encoder: Encoder, photographs: list[str]) -> None:
    answer = client.predict(images=[handle_file(path) for path in photographs], api_name="/embed")
    assert answer["dim"] == encoder.config.hidden_size and answer["model"] == encoder.name
    assert answer["files"] == [Path(path).name for path in photographs] and answer["skipped"] == []
    np.testing.assert_allclose(answer["embeddings"], encoder.embed(photographs), rtol=1e-3, atol=1e-3)


def test_attention_and_mask_match_the_library(client: Client, encoder: Encoder, photographs: list[str]) -> None:
    file = handle_file(photographs[0])
    _, found = client.predict(image=file, kind="relevance", head=-1, keep=60, api_name="/attention")
    expected = look(encoder, photographs[0], "relevance")
    assert found["label"] == expected.label
    np.testing.assert_allclose(found["map"], expected.values / expected.values.sum(), atol=1e-4)
    _, hidden = client.predict(image=file, kind="block", ratio=0.5, seed=3, api_name="/mask")
    assert hidden["kept"] == 32 and hidden["cross_entropy_least"] < hidden["cross_entropy"]
    _, decided = client.predict(image=file, api_name="/mask_search")
    assert decided["answer"] == encoder.classify(photographs[0])[0].labels[0] and decided["keeps"]
    curve = client.predict(image=file, seeds=1, api_name="/mask_curve")
    assert len(curve["mask_ratio"]) == 20 and curve["kept"][0] == 64


def test_thirty_hostile_files_get_a_message_each_and_the_app_goes_on(
    client: Client, served: Served, hostile: list[Path], photographs: list[str]
) -> None:
    for path in hostile:
        with pytest.raises(AppError) as refused:
            client.predict(image=handle_file(path), api_name="/classify")
        message = str(refused.value)
        assert path.name in message and len(message) < 400 and "\n" not in message, message
        assert "Traceback" not in message and "/" not in message.replace("GIF/", ""), message
    answer = client.predict(images=[handle_file(path) for path in [photographs[0], *hostile]], api_name="/embed")
    assert answer["files"] == [Path(photographs[0]).name]
    assert [entry["file"] for entry in answer["skipped"]] == [path.name for path in hostile]
    assert "Traceback" not in served.said()


def test_concurrent_visitors_get_their_own_results(served: Served, encoder: Encoder) -> None:
    """Eight clients at once, each with a picture of its own."""
    pictures = [Image.effect_mandelbrot((64, 64), (-2 + n / 8, -1, 1, 1), 50 + n) for n in range(8)]
    wanted = [result.labels for result in encoder.classify(pictures)]

    def ask(picture: Image.Image, folder: Path) -> list[str]:
        folder.mkdir(exist_ok=True)
        path = folder / "same-name.png"
        picture.save(path)
        mine = Client(served.url, verbose=False)
        answer = mine.predict(image=handle_file(path), api_name="/classify")
        mine.close()
        return [entry["label"] for entry in answer["labels"]]

    folders = [served.log.parent / f"visitor{n}" for n in range(len(pictures))]
    with concurrent.futures.ThreadPoolExecutor(len(pictures)) as pool:
        assert list(pool.map(ask, pictures, folders)) == wanted


# As it should not be


def answer_of(served: Served, name: str, data: Any) -> str:
    """The response of an endpoint over the queue, as text of events; the error where it is not queued."""
    joined = httpx.post(f"{served.url}gradio_api/call/{name}", json={"data": data}, timeout=30)
    if joined.status_code != 200:
        assert joined.status_code == 422
        return f"event: error\ndata: {joined.text}"
    return httpx.get(f"{served.url}gradio_api/call/{name}/{joined.json()['event_id']}", timeout=60).text


def test_every_argument_of_a_wrong_type_gets_a_sentence(client: Client, served: Served, photographs: list[str]) -> None:
    with open(photographs[0], "rb") as file:
        [path] = httpx.post(f"{served.url}gradio_api/upload", files={"files": file}).json()
    entry = {"path": path, "meta": {"_type": "gradio.FileData"}}
    named: dict[str, Any] = client.view_api(return_format="dict")["named_endpoints"]  # type: ignore[index]
    wrong = [["a"], {}, "a" * 50_000, 10**19]
    tried = 0
    for endpoint, about in named.items():
        good = [parameter["parameter_default"] for parameter in about["parameters"]]
        good[0] = [entry] if endpoint == "/embed" else entry
        tries: list[Any] = [[]]
        tries += [
            [*good[:place], wrong[(place + len(good)) % len(wrong)], *good[place + 1 :]] for place in range(len(good))
        ]
        for data in tries:
            said = answer_of(served, endpoint.strip("/"), data)
            tried += 1
            if "event: complete" not in said:
                sentence = said.rpartition("data: ")[2]
                assert "event: error" in said and '"error": null' not in said, (endpoint, str(data)[:300], said)
                assert 20 < len(sentence) < 1500 and "aaaaaaaaaaaa" * 10 not in sentence, (endpoint, sentence)
    assert tried > 30 and "Traceback" not in served.said()


@pytest.mark.parametrize("door", ["run/predict", "api/predict", "queue/join"])
def test_private_handlers_answer_with_a_sentence(served: Served, door: str) -> None:
    functions = httpx.get(f"{served.url}config").json()["dependencies"]
    for function in functions[:: 4 if "run" in door else 17]:
        for data in ([], [{"a": 1}] * 30):
            body = {"data": data, "fn_index": function["id"], "session_hash": f"odd{function['id']}"}
            said = httpx.post(f"{served.url}gradio_api/{door}", json=body, timeout=60)
            assert said.status_code in (200, 404, 422, 503), said.text
            assert said.status_code == 200 or len(said.json()["detail"]) > 10
    assert "Traceback" not in served.said()


def test_a_spoofed_host_is_in_no_response(served: Served) -> None:
    for path in ("", "config", "gradio_api/info"):
        for header in ("host", "x-forwarded-host"):
            assert "evil.example" not in httpx.get(served.url + path, headers={header: "evil.example"}).text.replace(
                "the name 'evil.example'", ""
            )


def test_every_response_has_the_security_headers(served: Served) -> None:
    for path in ("", "config", "gradio_api/info", "nothing-here"):
        headers = httpx.get(served.url + path, timeout=PATIENCE).headers
        assert headers["x-content-type-options"] == "nosniff" and "content-security-policy" in headers


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "https://example.com/a.png"},
        {"path": None, "url": "data:image/png;base64,iVBORw0KGgo="},
        {"path": "data:image/png;base64,iVBORw0KGgo="},
    ],
)
def test_pictures_from_elsewhere_are_not_fetched(served: Served, entry: dict[str, Any]) -> None:
    body = {"data": [{**entry, "meta": {"_type": "gradio.FileData"}}], "fn_index": 0, "session_hash": "x"}
    refused = httpx.post(served.url + "gradio_api/queue/join", json=body, timeout=PATIENCE)
    assert refused.status_code == 422 and "uploads" in refused.json()["detail"]


@pytest.mark.parametrize("fn_index", [-1, 10**6, "x", None, 1.5])
def test_unknown_functions_cause_no_server_error(served: Served, fn_index: Any) -> None:
    body = {"data": [], "fn_index": fn_index, "session_hash": "x"}
    assert httpx.post(served.url + "gradio_api/queue/join", json=body, timeout=PATIENCE).status_code in (400, 422)


@pytest.mark.parametrize(
    "path", ["gradio_api/call/nothing", "gradio_api/run/classify", "gradio_api/api/nothing", "gradio_api/mcp"]
)
def test_unknown_and_disabled_routes_are_refused(served: Served, path: str) -> None:
    assert httpx.post(served.url + path, json={"data": []}, timeout=PATIENCE).status_code in (404, 422)


def test_large_requests_are_refused(served: Served) -> None:
    text = b'{"data": ["' + b"a" * limits.MAX_JSON_BYTES + b'"]}'
    headers = {"content-type": "application/json"}
    assert (
        httpx.post(served.url + "gradio_api/queue/join", content=text, headers=headers, timeout=PATIENCE).status_code
        == 413
    )


def test_other_peoples_files_are_not_served(served: Served) -> None:
    for path in ("/etc/passwd", str(Path(__file__)), "https://example.com/a.png"):
        assert httpx.get(f"{served.url}gradio_api/file={path}", timeout=PATIENCE).status_code in (403, 404)
