"""Agents: the official MCP client over streamable HTTP, and what it may not make the server do."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import httpx
import pytest
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from starlette.requests import Request

from tests.support import async_calls
from tests.support.app import PATIENCE, free_port
from vitmsn import checkpoint, limits
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.ui import agents, faults, guard, uploads
from vitmsn.ui.fair_queue import FairQueue
from vitmsn.ui.models import EMBEDDED, Models
from vitmsn.ui.page import build
from vitmsn.ui.server import _inside_a_loop, launch
from vitmsn.ui.visits import Visitors

T = TypeVar("T")
PAGE = Image.radial_gradient("L").convert("RGB")


@dataclass
class Place:
    """The page with tools for agents."""

    url: str
    page: gr.Blocks

    @property
    def mcp(self) -> str:
        return f"{self.url}gradio_api/mcp"


@pytest.fixture(scope="module")
def place(tiny: Encoder) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch, guard.private_temp_folder():
        patch.delenv("GRADIO_SERVER_PORT", raising=False)
        patch.setattr(checkpoint, "embedded", lambda name=EMBEDDED: Path(name))
        models = Models(opener=lambda key, source: tiny)
        app = _inside_a_loop(lambda: build(models))
        url = _inside_a_loop(lambda: launch(app.page, port=free_port(), agents=True))
        try:
            yield Place(url, app.page)
        finally:
            app.page.close(verbose=False)


@pytest.fixture
def picture() -> str:
    return data_url(PAGE)


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def with_agent(place: Place, work: Callable[[ClientSession], Awaitable[T]]) -> T:
    """Connect as an agent does, and do something."""

    async def connected() -> T:
        async with streamable_http_client(place.mcp) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return await work(session)

    return async_calls.call(connected)


def ask(place: Place, tool: str, **arguments: Any) -> types.CallToolResult:
    return with_agent(place, lambda session: session.call_tool(tool, arguments))


def said(result: types.CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, types.TextContent)
    return content.text


def test_tools_are_the_public_endpoints_and_read_well(place: Place) -> None:
    tools = with_agent(place, lambda session: session.list_tools()).tools
    public = {fn.api_name for fn in place.page.fns.values() if hasattr(fn.fn, "endpoint")}
    assert {tool.name for tool in tools} == public and len(public) == 8
    for tool in tools:
        assert tool.description and " Answers: " in tool.description and tool.description.endswith(".")
        text = f"{tool.description} {json.dumps(tool.inputSchema)}"
        assert "://" not in text and "Gradio" not in text and "upload_file" not in text
        assert tool.inputSchema["required"]
        for name, schema in tool.inputSchema["properties"].items():
            assert len(schema["description"]) > 5, (tool.name, name)
    classify = next(tool for tool in tools if tool.name == "classify")
    assert classify.inputSchema["required"] == ["image"]
    assert classify.inputSchema["properties"]["image"]["type"] == "string"
    assert "data URL" in classify.inputSchema["properties"]["image"]["description"]
    assert classify.inputSchema["properties"]["top_k"]["maximum"] == 1000
    few_shot = next(tool for tool in tools if tool.name == "few_shot")
    assert few_shot.inputSchema["properties"]["method"]["enum"][0] == "auto"
    assert few_shot.inputSchema["properties"]["queries"]["items"]["type"] == "string"


def test_the_server_introduces_itself(place: Place) -> None:
    async def introduced(session: ClientSession) -> types.InitializeResult:
        return await session.initialize()

    about = with_agent(place, introduced)
    assert about.serverInfo.name == "vitmsn" and about.instructions == agents.INSTRUCTIONS


def test_a_data_url_is_classified(place: Place, tiny: Encoder, picture: str) -> None:
    answer = json.loads(said(ask(place, "classify", image=picture, top_k=2)))
    [expected] = tiny.classify([PAGE], top_k=2)
    assert [one["label"] for one in answer["labels"]] == expected.labels


def test_an_upload_is_classified_by_its_path_or_address(place: Place, tiny: Encoder) -> None:
    buffer = io.BytesIO()
    PAGE.save(buffer, "PNG")
    upload = {"files": ("page.png", buffer.getvalue())}
    [path] = httpx.post(f"{place.url}gradio_api/upload", files=upload, timeout=PATIENCE).json()
    [expected] = tiny.classify([PAGE], top_k=1)
    for image in (path, f"{place.url}gradio_api/file={path}"):
        answer = json.loads(said(ask(place, "classify", image=image, top_k=1)))
        assert [one["label"] for one in answer["labels"]] == expected.labels


def test_pictures_come_back_as_pictures_and_lists_of_files_are_taken(place: Place, picture: str) -> None:
    shown, answer = ask(place, "mask", image=picture, ratio=0.5).content
    assert isinstance(shown, types.ImageContent) and isinstance(answer, types.TextContent)
    image = Image.open(io.BytesIO(base64.b64decode(shown.data)))
    assert Image.MIME[str(image.format)] == shown.mimeType and json.loads(answer.text)["kept"] == 8
    embedded = json.loads(said(ask(place, "embed", images=[picture, picture])))
    assert embedded["dim"] == 16 and len(embedded["embeddings"]) == 2


ELSEWHERE = ["file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.1/x", " HTTPS://127.0.0.1/x"]
NOT_HERE = [
    "/etc/passwd",
    "README.md",
    "../../etc/passwd",
    "",
    "data:image/png,abc",
    "data:image/png;base64,%%%%",
    "\0",
]


@pytest.mark.parametrize("image", [*ELSEWHERE, *NOT_HERE, {"path": "/etc/passwd"}, 7])
def test_nothing_but_uploads_and_data_urls_are_read(place: Place, image: Any) -> None:
    result = ask(place, "classify", image=image)
    assert result.isError and "root:" not in said(result)
    assert "data URL" in said(result) and len(said(result)) < 400


@pytest.mark.parametrize("image", [*ELSEWHERE, *NOT_HERE])
def test_the_tools_refuse_the_same_without_the_guard(place: Place, image: str) -> None:
    with pytest.raises(InputError, match=r"^image is .*data URL"):
        agents._file(image, "image")


def test_no_address_is_ever_fetched(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/x.png"
        trick = f"{address}?/gradio_api/file="
        for arguments in ({"image": address}, {"image": trick}, {"image": {"path": trick, "url": trick}}):
            result = ask(place, "classify", **arguments)
            assert result.isError and "data URL" in said(result)
        result = ask(place, "embed", images=[address])
        assert result.isError and said(result).startswith("Nothing is fetched")
        with pytest.raises(TimeoutError):
            listening.accept()


def test_mistakes_are_answered_in_sentences(place: Place, picture: str) -> None:
    for tool, arguments, sentence in (
        ("classify", {}, "classify needs image: the picture; a data URL"),
        ("classify", {"image": picture, "top_k": "many"}, "top_k is 'many'; it must be a number."),
        ("classify", {"image": picture, "top_k": 0}, "top_k is 0; it must be from 1 to 1000."),
        ("classify", {"image": picture, "size": 3}, "classify has no parameter 'size'; it has image, top_k."),
        ("embed", {"images": picture}, "it must be a list of files"),
        ("paint", {}, "There is no tool 'paint'; the tools are "),
        ("classify", {"image": "data:image/png;base64,AAAA"}, "unknown format"),
    ):
        result = ask(place, tool, **arguments)
        assert result.isError and sentence in said(result), said(result)


def test_a_fault_of_the_server_is_told_without_its_details(
    place: Place, picture: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(*_: Any, **more: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/secret/folder")

    def full(size: int) -> None:
        raise uploads.NoRoom

    def broken(size: int) -> None:
        raise RuntimeError("/secret/folder")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", read_only)
        assert said(ask(place, "classify", image=picture)) == faults.NO_ROOM
    assert "Traceback" not in caplog.text
    monkeypatch.setattr(uploads, "take_room", full)
    assert said(ask(place, "classify", image=picture)) == faults.NO_ROOM
    monkeypatch.setattr(uploads, "take_room", broken)
    assert said(ask(place, "classify", image=picture)) == faults.BROKEN
    assert "/secret/folder" in caplog.text


@pytest.mark.parametrize(("outside", "root"), [("", ""), ("/msn", "/msn")])
def test_a_call_knows_where_the_app_is_behind_a_prefix(outside: str, root: str) -> None:
    scope = {"type": "http", "method": "POST", "path": f"{outside}/gradio_api/mcp/", "app_root_path": root}
    headers = [(b"host", b"example.org")]
    request = agents._as_of_a_page(Request({**scope, "headers": headers, "query_string": b"", "server": ("x", 1)}))
    assert request.url.path == f"{outside}/gradio_api/queue/join" and request.scope["root_path"] == root


def test_calls_wait_in_the_queue_under_their_own_address(
    place: Place, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, str]] = []
    check = FairQueue._check_room

    def note(queue: FairQueue, slow: bool, session: str | None, address: str) -> None:
        asked.append((slow, address))
        check(queue, slow, session, address)

    monkeypatch.setattr(FairQueue, "_check_room", note)
    ask(place, "classify", image=picture)
    ask(place, "embed", images=[picture])
    assert asked == [(False, "127.0.0.1"), (True, "127.0.0.1")]
    monkeypatch.setattr(limits, "VISITOR_JOBS", 0)
    result = ask(place, "classify", image=picture)
    assert result.isError and said(result).startswith("0 requests of yours are waiting or running")
    queue: Any = place.page._queue
    assert not queue.pending_messages_per_session and not any(queue.pending_event_ids_session.values())


def test_an_agent_that_goes_ends_its_job(place: Place, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Any] = []
    abandoned = FairQueue.abandoned

    def note(queue: FairQueue, event_id: str | None) -> bool:
        gone = abandoned(queue, event_id)
        ends.extend([gone] if gone else [])
        return gone

    monkeypatch.setattr(FairQueue, "abandoned", note)

    async def leave(session: ClientSession) -> None:
        call = asyncio.create_task(session.call_tool("mask_curve", {"image": picture, "seeds": 16}))
        while not place.page._queue.active_jobs or not any(place.page._queue.active_jobs):
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])

    with_agent(place, leave)
    deadline = async_calls.call(_until, lambda: bool(ends) or not any(place.page._queue.active_jobs))
    assert deadline and ends


async def _until(true: Callable[[], bool]) -> bool:
    for _ in range(6000):
        if true():
            return True
        await asyncio.sleep(0.01)
    return False


def test_progress_is_told_to_those_who_ask(place: Place, picture: str) -> None:
    steps: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total))

    async def measure(session: ClientSession) -> types.CallToolResult:
        return await session.call_tool("mask_curve", {"image": picture, "seeds": 1}, progress_callback=note)

    assert not with_agent(place, measure).isError
    assert steps and all(total == 20 for _, total in steps)


def test_a_person_is_told_what_this_address_is_for(place: Place) -> None:
    answer = httpx.get(place.mcp, timeout=PATIENCE)
    assert answer.status_code == 405 and "by POST" in answer.json()["detail"]
    for path in ("/sse", "/schema", "/messages/"):
        assert httpx.get(place.mcp + path, timeout=PATIENCE).status_code == 404


def test_large_requests_are_refused(place: Place) -> None:
    body = b'{"params": "' + b"a" * limits.MAX_TOOL_BYTES + b'"}'
    answer = httpx.post(place.mcp, content=body, timeout=PATIENCE)
    assert answer.status_code == 413 and "4 MB" in answer.json()["detail"]


def test_pictures_are_deleted_as_uploads_are(place: Place, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(Visitors, "read_upload", lambda visitors, path: read.append(path))
    ask(place, "classify", image=picture)
    assert len(read) == 1 and read[0].is_file()
