"""The endpoints as tools for agents, by the Model Context Protocol (MCP), at `/gradio_api/mcp`.

Gradio's server lists the tools. What it does with a call is replaced here: it would fetch the web address that comes as
a picture, and send each call to itself once more, so that all agents would be one visitor. Here a picture is a data URL
or an upload of this server, nothing is fetched, and a call waits in the same queue as everybody's, under the address
that it comes from.
"""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio.mcp
from anyio.to_thread import run_sync
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.server_messages import ProcessCompletedMessage, ProgressMessage, UnexpectedErrorMessage
from gradio.utils import get_upload_folder
from mcp import types
from mcp.server import Server
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

import vitmsn
from vitmsn.errors import InputError
from vitmsn.ui import uploads
from vitmsn.ui.faults import BROKEN, NO_ROOM, sentence
from vitmsn.ui.request_body import API, FILE, is_upload
from vitmsn.ui.shared.checks import cut
from vitmsn.ui.shared.endpoints import REQUIRED, Endpoint, Taken

INSTRUCTIONS = """A small vision transformer (ViT-MSN), to classify pictures, to see where it looks, to hide parts of a
picture from it, and to teach it classes from a few examples. A picture or a zip is a data URL
(data:image/png;base64,...), or the path that this server answered to an upload (POST /gradio_api/upload, a form with
the field "files"). Web addresses are not fetched and no other files are read."""
FILE_FORM = "a data URL like data:image/png;base64,..., or the path that an upload to /gradio_api/upload answered"


class Tools(gradio.mcp.GradioMCPServer):
    """Gradio's MCP server for a page, with calls of our own."""

    def create_mcp_server(self) -> Server[Any, Any]:
        server = super().create_mcp_server()
        server.name, server.version, server.instructions = "vitmsn", vitmsn.__version__, INSTRUCTIONS
        server.call_tool(validate_input=False)(self.call)  # our own checks answer in sentences
        return server

    def get_tool_to_endpoint(self) -> dict[str, str]:
        """A tool has the name of its endpoint, after that of the Space where it is one."""
        named = [fn for fn in self.blocks.fns.values() if hasattr(fn.fn, "endpoint")]
        return {f"{self.tool_prefix}{fn.api_name}": f"/{fn.api_name}" for fn in named}

    def get_fn_description(self, block_fn: BlockFunction, tool_name: str) -> tuple[str, dict[str, str]]:
        one = _endpoint(block_fn)
        return one.told, {taken.name: _told(taken) for taken in one.takes}

    def get_input_schema(
        self, tool_name: str, parameters: dict[str, str] | None = None
    ) -> tuple[dict[str, Any], list[list[str | int]]]:
        """Of our own, since Gradio's says that a file is a web address; there are no places for it to fetch one."""
        block_fn = self.get_block_fn_from_endpoint_name(self.tool_to_endpoint[tool_name])
        assert block_fn is not None
        takes = _endpoint(block_fn).takes
        needed = [taken.name for taken in takes if taken.required]
        return {"type": "object", "properties": {taken.name: _schema(taken) for taken in takes}, "required": needed}, []

    async def call(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """Answer one call; an error is a sentence in the result, which the agent reads."""
        block_fn = self.get_block_fn_from_endpoint_name(self.tool_to_endpoint.get(name, ""))
        if block_fn is None:
            offered = ", ".join(self.tool_to_endpoint)
            return _failed(f"There is no tool {cut(repr(name))}; the tools are {offered}.")
        try:
            values = await run_sync(_values, _endpoint(block_fn), arguments)
            answers = await self._ask(block_fn, values)
        except HTTPException as error:  # from the queue: too many jobs
            return _failed(str(error.detail))
        except (uploads.NoRoom, uploads.NotWritable):
            return _failed(NO_ROOM)
        except Exception as error:
            return _failed(sentence(error, f"the tool {name}"))
        return types.CallToolResult(content=[await run_sync(_content, value) for value in answers])

    async def _ask(self, block_fn: BlockFunction, values: list[Any]) -> list[Any]:
        """Wait in the queue for the answers; InputError with the endpoint's own sentence when it fails."""
        queue, context = self.blocks._queue, self.mcp_server.request_context
        if queue.server_app is None:
            queue.set_server_app(self.blocks.app)
        request: Any = _as_of_a_page(context.request)
        body = PredictBodyInternal(data=values, fn_index=block_fn._id, request=request)
        pushed, event_id, _ = await queue.push(body, request, None)
        if not pushed or not isinstance(event_id, str):
            raise InputError(str(event_id))
        event, messages = queue.event_ids_to_events[event_id], queue.pending_messages_per_session[event_id]
        try:
            while True:
                message = await messages.get()
                if isinstance(message, ProcessCompletedMessage):
                    if message.success:
                        return list(message.output["data"])
                    raise InputError(str(message.output.get("error") or BROKEN))
                if isinstance(message, UnexpectedErrorMessage):
                    raise InputError(BROKEN)
                if isinstance(message, ProgressMessage):
                    await self._report(context, message)
        finally:  # also when the agent has gone
            event.alive = False
            queue.pending_messages_per_session.pop(event_id, None)
            queue.pending_event_ids_session.pop(event_id, None)

    async def _report(self, context: Any, message: ProgressMessage) -> None:
        """Tell an agent that asked for it how far its job is."""
        token = context.meta.progressToken if context.meta is not None else None
        for unit in message.progress_data[:1] if token is not None else ():
            if unit.index is not None:
                await context.session.send_progress_notification(
                    progress_token=token,
                    progress=float(unit.index),
                    total=None if unit.length is None else float(unit.length),
                    message=unit.desc,
                    related_request_id=str(context.request_id),
                )


def install() -> None:
    """Make Gradio use `Tools` for its MCP server."""
    gradio.mcp.GradioMCPServer = Tools  # type: ignore[misc]


def _as_of_a_page(request: Any) -> Request:
    """The agent's request under the address that a page asks at, by which Gradio finds out where the app is."""
    scope = request.scope
    outside = scope["path"].partition(f"{API}mcp")[0]
    path = f"{outside}{API}queue/join"
    return Request({**scope, "path": path, "raw_path": path.encode(), "root_path": scope.get("app_root_path", "")})


def _endpoint(block_fn: BlockFunction) -> Endpoint:
    one: Endpoint = block_fn.fn.endpoint  # type: ignore[union-attr]
    return one


def _schema(taken: Taken) -> dict[str, Any]:
    """A parameter in JSON Schema."""
    kinds: dict[Any, str] = {bool: "boolean", int: "integer", float: "number"}
    of_kind: dict[str, Any] = {"type": kinds.get(taken.kind, "string")}
    if taken.several:
        of_kind = {"type": "array", "items": {"type": "string"}}
    default = {} if taken.default in (REQUIRED, None) else {"default": taken.default}
    return {**of_kind, **taken.about.schema, **default, "description": _told(taken)}


def _told(taken: Taken) -> str:
    if not taken.about.file:
        return taken.text
    return f"{taken.text.rstrip('.')}; {'each ' if taken.several else ''}{FILE_FORM}."


def _values(one: Endpoint, arguments: Mapping[str, Any]) -> list[Any]:
    """The arguments in order, files as Gradio gets them from a page; InputError for others than there are."""
    names = [taken.name for taken in one.takes]
    if strange := [name for name in arguments if name not in names]:
        raise InputError(f"{one.name} has no parameter {cut(repr(strange[0]))}; it has {', '.join(names)}.")
    values = []
    for taken in one.takes:
        if taken.name not in arguments:
            if taken.required:
                raise InputError(f"{one.name} needs {taken.name}: {_told(taken)}")
            values.append(taken.default)
            continue
        value = arguments[taken.name]
        if taken.several and value is not None:
            if not isinstance(value, list):
                raise InputError(f"{taken.name} is {cut(repr(value))}; it must be a list of files, each {FILE_FORM}.")
            value = [_file(each, f"{taken.name} {place}") for place, each in enumerate(value, 1)]
        elif taken.about.file and value is not None:
            value = _file(value, taken.name)
        values.append(value)
    return values


def _file(text: Any, name: str) -> dict[str, Any]:
    """A file in this server's upload folder; InputError for anything that is not already here."""
    if isinstance(text, str) and text.startswith("data:"):
        path = _kept(text, name)
    elif isinstance(text, str) and is_upload(path := text.partition(FILE)[2] or text) and os.path.isfile(path):
        pass
    else:
        raise InputError(
            f"{name} is {cut(repr(text))}; it must be {FILE_FORM}. Web addresses are not fetched, and files of this "
            "server are not read."
        )
    return {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}


def _kept(url: str, name: str) -> str:
    """The file of a data URL, written where uploads are; they have one bound together, and go after a while."""
    head, _, text = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise InputError(f"{name} is {cut(repr(url))}, which is not in base64; send {FILE_FORM}.") from None
    uploads.take_room(len(data))
    with uploads.arriving(len(data)):
        folder = Path(get_upload_folder()) / secrets.token_hex(16)
        folder.mkdir(parents=True)
        path = folder / name.replace(" ", "-")
        path.write_bytes(data)
    return str(path)


def _content(value: Any) -> types.ContentBlock:
    """An answer as the agent gets it: a picture, or JSON."""
    value = value.model_dump() if isinstance(value, BaseModel) else value
    if isinstance(value, dict) and isinstance(path := value.get("path"), str):
        kind = value.get("mime_type") or mimetypes.guess_type(path)[0] or "image/png"
        return types.ImageContent(type="image", data=base64.b64encode(Path(path).read_bytes()).decode(), mimeType=kind)
    return types.TextContent(type="text", text=json.dumps(value, ensure_ascii=False))


def _failed(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], isError=True)
