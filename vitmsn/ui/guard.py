"""What stands before Gradio: limits on request bodies, files by upload only, fewer doors, safer headers.

Plain ASGI, so that uploads stream through without being gathered here.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitmsn import limits

log = logging.getLogger("vitmsn.ui")

# Gradio's pages bring inline scripts and styles and compile functions from text, so those stay allowed; everything else
# comes from this server alone. Spaces show the page inside huggingface.co.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space",
    )
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", POLICY.encode()),
    (b"permissions-policy", b"microphone=(), geolocation=()"),
)
# Routes of Gradio's that this page does not use, each of which reads, writes or fetches more than it should.
CLOSED = (
    "/gradio_api/deep_link",
    "/gradio_api/dev/",
    "/gradio_api/process_recording",
    "/gradio_api/proxy=",
    "/gradio_api/run-history",
    "/gradio_api/runs",
    "/gradio_api/vibe-",
    "/monitoring",
)


class Guard:
    """The outermost layer. Refusals are one sentence of JSON, `{"detail": ...}`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._admit(scope, receive, answer)
        except Exception as error:
            if answer.begun:
                raise
            # Gradio meets some requests (an unknown function, an odd header) with an exception.
            log.warning("%s %s was not understood: %r", scope["method"], scope["path"], error)
            await refuse(answer, 422, "This request could not be understood.")

    async def _admit(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        path = scope["path"]
        if path.startswith(CLOSED) or path.startswith(("/gradio_api/file=http:", "/gradio_api/file=https:")):
            await refuse(send, 404, "There is nothing at this address.")
            return
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        upload = path.startswith("/gradio_api/upload")
        cap = limits.MAX_UPLOAD_BYTES if upload else limits.MAX_JSON_BYTES
        if _length(headers) > cap:
            await refuse(send, 413, f"This request is larger than {cap // limits.MIB} MB; send less at once.")
        elif upload:
            await self._stream(scope, receive, send, cap)
        else:
            await self._judge(scope, receive, send, cap)

    async def _stream(self, scope: Scope, receive: Receive, send: _Answer, cap: int) -> None:
        """Pass an upload on, counting: a length that was not announced, or was a lie, ends it."""
        passed = 0

        async def counted() -> Message:
            nonlocal passed
            message = await receive()
            passed += len(message.get("body", b""))
            if passed > cap:
                raise _TooLarge
            return message

        try:
            await self.app(scope, counted, send)
        except _TooLarge:
            if not send.begun:
                await refuse(send, 413, f"This upload is larger than {cap // limits.MIB} MB; send less at once.")

    async def _judge(self, scope: Scope, receive: Receive, send: _Answer, cap: int) -> None:
        """Gather a small body and refuse pictures inside it and files from elsewhere, before Gradio fetches them."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > cap:
                await refuse(send, 413, f"This request is larger than {cap // limits.MIB} MB; send files as uploads.")
                return
        if foreign_file(body):
            await refuse(send, 422, "Send files as uploads; data: and web addresses are not fetched.")
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


class _Answer:
    """`send` with our headers on every answer, remembering whether one has begun."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            names = {name for name, _ in HEADERS}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message = {**message, "headers": [*kept, *HEADERS]}
        await self._send(message)


class _TooLarge(Exception):
    pass


def foreign_file(body: bytes) -> bool:
    """Whether a JSON body hands Gradio a file that is not an upload: a data: URL, or a path on the web."""
    if b"path" not in body and b"url" not in body and b"data:" not in body:
        return False
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False  # Gradio answers 422 itself
    return any(_foreign(entry) for entry in _dicts(value))


def _foreign(entry: dict[str, Any]) -> bool:
    path, url = entry.get("path"), entry.get("url")
    web = ("http:", "https:", "ftp:", "data:", "file:", "//")
    return (isinstance(path, str) and path.strip().lower().startswith(web)) or (
        isinstance(url, str) and url.strip().lower().startswith("data:")
    )


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _length(headers: dict[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


async def refuse(send: _Answer, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def middleware() -> list[Middleware]:
    """What `launch(app_kwargs={"middleware": ...})` takes."""
    return [Middleware(Guard)]


@contextmanager
def private_temp_folder() -> Iterator[Path]:
    """A fresh folder for Gradio's uploads, of this process alone, under GRADIO_TEMP_DIR or the system's; gone after.

    Raises OSError with a sentence when it cannot be written. Must be entered before the page is built: components
    remember the folder.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR")
    where = parent or tempfile.gettempdir()
    try:
        Path(where).mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="vitmsn-", dir=where)
    except OSError as error:
        raise OSError(
            f"{where} cannot be written ({error.strerror}) and uploads need a folder; set GRADIO_TEMP_DIR to another."
        ) from None
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if parent is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = parent
