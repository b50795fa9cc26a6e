"""The middleware in front of Gradio: sizes, files from elsewhere, closed routes, headers, the temporary folder."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.exceptions import HTTPException

from tests.support import async_calls
from vitmsn import limits
from vitmsn.ui import guard

JOIN = "/gradio_api/queue/join"
ANSWERS = {
    "/gradio_api/run/null": (500, b'{"error": null}'),
    "/gradio_api/run/said": (500, b'{"error": "top_k is 0; it must be from 1 to 10."}'),
    "/gradio_api/run/echo": (422, b'{"detail": [{"loc": ["body"], "input": "aaaa"}]}'),
    "/gradio_api/run/text": (500, b"Internal Server Error"),
    "/gradio_api/run/closed": (404, b'{"detail": "Join the queue."}'),
}
META = {"meta": {"_type": "gradio.FileData"}}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of bytes received; raise for .../broken, and in the middle of the answer for .../half."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["path"] == "/gradio_api/run/broken":
        raise KeyError("fn_index")
    if scope["path"] in ANSWERS:
        status, body = ANSWERS[scope["path"]]
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    if scope["path"] == "/config":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": repr(scope["headers"]).encode()})
        return
    headers = [(b"content-type", b"text/plain"), (b"x-content-type-options", b"sniff")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/gradio_api/run/half":
        raise KeyError("later")
    if scope["path"] == "/gradio_api/queue/data":
        await send({"type": "http.response.body", "body": b"data: 404\n\n", "more_body": True})
        raise RuntimeError("the response has already started") from HTTPException(404)
    await send({"type": "http.response.body", "body": str(length).encode()})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_JSON_BYTES", 1000)
    monkeypatch.setattr(limits, "MAX_UPLOAD_BYTES", 5000)


async def ask(method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(guard.Guard(echo))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **more)


@pytest.fixture
def request_() -> Iterator[Any]:
    """Send a request to the guarded echo, in its own thread: Playwright keeps a loop running in the tests' thread."""
    with start_blocking_portal() as portal:

        def run(method: str, path: str, **more: Any) -> httpx.Response:
            return portal.call(partial(ask, method, path, **more))

        yield run


async def chunks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b" " * 500 if number else b"{}" + b" " * 498


def test_every_answer_has_the_headers_once(request_: Any) -> None:
    for path in ("/", "/monitoring/summary"):
        headers = request_("GET", path).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
@pytest.mark.parametrize(("path", "cap"), [(JOIN, 1000), ("/gradio_api/upload", 5000)])
def test_bodies_are_capped(request_: Any, path: str, cap: int, announced: bool) -> None:
    fits, too_large = cap // 500, cap // 500 + 1
    body = (lambda n: b" " * 498 + b"{}" + b" " * 500 * (n - 1)) if announced else chunks
    assert request_("POST", path, content=body(fits)).text == (str(cap) if "upload" in path else "2")
    refused = request_("POST", path, content=body(too_large))
    assert refused.status_code == 413 and "larger than" in refused.json()["detail"]


@pytest.mark.parametrize(("path", "bounded"), [("/gradio_api/run/x", True), ("/gradio_api/call/x", False)])
def test_functions_outside_the_queue_are_bounded_for_each_visitor(
    path: str, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VISITOR_EVENTS", 3)

    async def flood() -> list[httpx.Response]:
        transport = httpx.ASGITransport(guard.Guard(echo))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            ones = [await client.post(path, json={"session_hash": "one"}) for _ in range(5)]
            return [*ones, await client.post(path, json={"session_hash": "two"})]

    with start_blocking_portal() as portal:
        *answers, other = portal.call(flood)
    assert [answer.status_code for answer in answers] == [200] * 3 + [429 if bounded else 200] * 2
    assert other.status_code == 200
    if bounded:
        assert answers[-1].headers["retry-after"] == str(limits.RETRY_SECONDS)
        assert "too many requests within a minute" in answers[-1].json()["detail"]


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "https://example.com/a.png", **META},
        {"path": " HTTPS://example.com/a.png", **META},
        {"path": "data:image/png;base64,AAAA"},
        {"path": None, "url": "data:image/png;base64,AAAA", **META},
        {"url": "data:image/png;base64,AAAA"},
        {"path": "//example.com/a.png"},
        {"path": "file:///etc/passwd"},
        {"path": "/etc/passwd", **META},
        {"path": "{uploads}/../../etc/passwd", **META},
        {"path": "{uploads}/a\0.png"},
        {"path": ["https://example.com/a.png"]},
        {"path": "{uploads}/a.png", "url": "https://example.com/a.png"},
        {"path": "{uploads}/a.png", "url": "http://test/gradio_api/file=/etc/passwd"},
        {"path": "{uploads}/a.png", "url": 7},
    ],
)
def test_files_from_elsewhere_are_refused_however_deep(request_: Any, uploads: Path, entry: dict[str, Any]) -> None:
    entry = {k: v.replace("{uploads}", str(uploads)) if isinstance(v, str) else v for k, v in entry.items()}
    for data in ([entry], [[{"image": entry}]], [{"background": None, "layers": [entry]}]):
        refused = request_("POST", JOIN, json={"data": data, "fn_index": 1})
        assert refused.status_code == 422 and "uploads" in refused.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [{"\\u0070ath": "http://example.com/a.png"}]}',
        '{"data": [{"path": "http://example.com/a.png"}]}'.encode("utf-16"),
        '{"data": [{"path": "http://example.com/a.png"}]}'.encode("utf-32-le"),
        b'\xef\xbb\xbf{"data": [{"path": "http://example.com/a.png"}]}',
        b'{"path": "x", "path": "http://example.com/a.png"}',
    ],
)
def test_a_file_cannot_hide_in_the_encoding(request_: Any, body: bytes) -> None:
    assert request_("POST", JOIN, content=body).status_code == 422


def test_uploaded_files_and_text_pass(request_: Any, uploads: Path) -> None:
    ours = {"path": f"{uploads}/x/a.png", "url": f"http://test/gradio_api/file={uploads}/x/a.png", **META}
    for data in ([ours], ["see https://example.com and data: too"], [{"path": None, "url": None}]):
        body = json.dumps({"data": data}).encode()
        assert request_("POST", JOIN, content=body).text == str(len(body))
    assert request_("POST", "/gradio_api/reset", content=b"").text == "0"


@pytest.mark.parametrize("body", [b"{nope", b"[" * 900, b'{"path":' * 100, b"\xff\xfe path", b'"path"', b"[1]"])
def test_a_body_that_is_not_a_json_object_is_refused(request_: Any, body: bytes) -> None:
    refused = request_("POST", JOIN, content=body)
    assert refused.status_code == 422 and "one JSON object in UTF-8" in refused.json()["detail"]


def test_all_uploads_together_are_bounded(request_: Any, uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UPLOADS_BYTES", 1000)
    (uploads / "a.png").write_bytes(b" " * 600)
    assert request_("POST", "/gradio_api/upload", content=b" " * 400).status_code == 200
    refused = request_("POST", "/gradio_api/upload", content=b" " * 401)
    assert refused.status_code == 507 and "try again" in refused.json()["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(request_: Any, number: str) -> None:
    assert request_("POST", JOIN, content=f'{{"data": [{number}]}}'.encode()).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/dev/reload",
        "/gradio_api/file=https://example.com/a.png",
        "/gradio_api/file=https%3A//example.com/a.png",
        "/gradio_api/file=//example.com/a.png",
        "/gradio_api/file=HTTPS://example.com/a.png",
        "/gradio_api/file/http://example.com/a.png",
        "/gradio_api/file/https:/example.com/a.png",
        "/gradio_api/file/tmp/a.png",
        "/gradio_api/proxy=https://example.com",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/vibe-code",
        "/login",
        "/docs",
        "/anything",
        "/gradio_api/runs",
    ],
)
def test_routes_that_the_page_does_not_need_are_closed(request_: Any, path: str) -> None:
    assert request_("GET", path).status_code == request_("POST", path, content=b"{}").status_code == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(request_: Any, method: str) -> None:
    assert request_(method, "/config").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/assets/a.js", "/gradio_api/info", "/gradio_api/file=/tmp/a.png", "/theme.css", "/?tab=learn"],
)
def test_what_the_page_needs_passes(request_: Any, path: str) -> None:
    assert request_("GET", path).status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/class", 200), ("/class/now?board=1", 200), ("/class/other", 404)])
def test_a_server_may_offer_more_addresses(path: str, status: int) -> None:
    """A phone asks for them by this machine's address in its network; nothing may be sent there."""

    async def ask() -> tuple[int, ...]:
        transport = httpx.ASGITransport(guard.Guard(echo, more=("/class", "/class/now")))
        async with httpx.AsyncClient(transport=transport, base_url="http://192.168.1.5:7860") as client:
            return (await client.get(path)).status_code, (await client.post(path)).status_code

    assert async_calls.call(ask) == (status, 404)


@pytest.mark.parametrize("path", ["/class", "/class/now"])
def test_a_class_has_no_address_unless_asked_for(request_: Any, path: str) -> None:
    assert request_("GET", path).status_code == 404


def test_the_health_route_answers_without_gradio(request_: Any) -> None:
    assert request_("GET", "/healthz").json() == {"status": "ready"}


def test_a_closed_page_is_noticed_without_gradio() -> None:
    left: list[str] = []
    sent: list[Any] = []

    async def closing() -> None:
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                gone.set()

        scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/abc", "headers": []}
        await asyncio.wait_for(guard.Guard(never, leave=left.append)(scope, receive, send), 10)

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("Gradio was asked")

    async_calls.call(closing)
    assert left == ["abc"] and sent[0]["status"] == 200 and b"ALIVE" in sent[1]["body"]


def test_the_connection_of_an_open_page_closes_when_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LISTEN_SECONDS", 0.01)
    ended, sent = threading.Event(), []

    async def waiting() -> None:
        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)
            ended.set()

        scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/abc", "headers": []}
        await asyncio.wait_for(guard.Guard(echo, ended=ended)(scope, receive, send), 10)

    async_calls.call(waiting)
    assert sent[-1] == {"type": "http.response.body", "body": b""}


def test_a_stream_for_a_session_without_jobs_ends_without_a_traceback(
    request_: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = request_("GET", "/gradio_api/queue/data?session_hash=nobody")
    assert answer.status_code == 200 and answer.text == "data: 404\n\n"
    assert "GET /gradio_api/queue/data was not understood: HTTPException" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def test_a_request_that_makes_gradio_raise_gets_422(request_: Any, caplog: pytest.LogCaptureFixture) -> None:
    refused = request_("POST", "/gradio_api/run/broken", content=b"{}")
    assert refused.status_code == 422 and refused.json()["detail"] == guard.NOT_UNDERSTOOD
    assert "POST /gradio_api/run/broken was not understood: KeyError" in caplog.text
    with pytest.raises(KeyError):  # the answer has begun: too late for a sentence
        request_("POST", "/gradio_api/run/half", content=b"{}")


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("null", 422, guard.NOT_UNDERSTOOD),
        ("said", 422, "top_k is 0; it must be from 1 to 10."),
        ("echo", 422, guard.NOT_UNDERSTOOD),
        ("text", 422, guard.NOT_UNDERSTOOD),
        ("closed", 404, "Join the queue."),
    ],
)
def test_errors_of_gradio_become_a_sentence(request_: Any, name: str, status: int, sentence: str) -> None:
    refused = request_("POST", f"/gradio_api/run/{name}", content=b"{}")
    assert refused.status_code == status and refused.json() == {"detail": sentence, "error": sentence}


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": 1}',
        b'{"data": {"0": 1}}',
        b'{"fn_index": "1"}',
        b'{"fn_index": true}',
        b'{"trigger_id": [1]}',
        b'{"session_hash": 1}',
        b'{"session_hash": ""}',
        b'{"session_hash": "' + b"a" * 65 + b'"}',
        b'{"data": [1e400]}',
        b'{"data": [' + b"9" * 300 + b"]}",
        b'{"data": ["\\ud800"]}',
    ],
)
def test_wrong_outer_fields_and_enormous_numbers_are_refused_in_a_sentence(request_: Any, body: bytes) -> None:
    refused = request_("POST", JOIN, content=body)
    assert refused.status_code == 422 and 10 < len(refused.json()["detail"]) < 120


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_name_is_refused(request_: Any, host: str) -> None:
    for path in ("/", "/config", "/gradio_api/info"):
        assert request_("GET", path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST"])
def test_local_host_names_are_answered(request_: Any, host: str) -> None:
    assert request_("GET", "/config", headers={"host": host}).status_code == 200


def test_untrusted_forwarded_headers_are_dropped(request_: Any) -> None:
    said = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-gradio-server": "http://evil.example"}
    seen = request_("GET", "/config", headers=said).text
    assert "evil" not in seen and "https" not in seen


def test_a_proxy_is_trusted_by_a_setting(request_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMSN_PROXY", "1")
    monkeypatch.setenv("VITMSN_HOSTS", "school.example, www.school.example")
    said = {
        "x-forwarded-host": "school.example",
        "x-forwarded-proto": "https",
        "x-gradio-server": "http://evil.example",
    }
    seen = request_("GET", "/config", headers=said).text
    assert "(b'host', b'school.example')" in seen and "b'https'" in seen and "evil" not in seen
    assert request_("GET", "/config", headers={"x-forwarded-host": "evil.example"}).status_code == 421


def test_the_temporary_folder_is_private_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "new"))
    with guard.private_temp_folder() as folder:
        assert folder.parent == tmp_path / "new" and os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "upload.png").write_bytes(b"x")
    assert not folder.exists() and os.environ["GRADIO_TEMP_DIR"] == str(tmp_path / "new")


def test_an_unwritable_temporary_folder_gives_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "inside"))
    with pytest.raises(OSError, match=r"cannot be written .* set GRADIO_TEMP_DIR"), guard.private_temp_folder():
        pass


@pytest.mark.parametrize("host", ["192.168.1.20:7860", "10.0.0.3", "[fe80::1]:7860", "localhost:7860"])
def test_an_ip_address_as_host_is_answered(request_: Any, host: str) -> None:
    assert request_("GET", "/config", headers={"host": host}).status_code == 200
