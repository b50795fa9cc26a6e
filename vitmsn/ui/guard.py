"""Middleware in front of Gradio: limits on request bodies, files by upload only, fewer routes, safer headers.

Plain ASGI, so that uploads stream through and are never held in memory here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui import uploads
from vitmsn.ui.locale import later, speaking, tr
from vitmsn.ui.locale import middleware as language
from vitmsn.ui.rates import Rates
from vitmsn.ui.request_body import API, FILE, is_here, is_uploaded, objects, parse, shape

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
HEALTH = "/healthz"  # for monitoring
# What the page and its clients ask for, by method; everything else Gradio serves gets 404. A name that ends in "/" or
# "=" stands for all below it.
ROUTES = {
    "GET": (
        *(
            "/",
            "/config",
            "/theme.css",
            "/gallery-pictures.webp",
            "/training-pictures.webp",
            "/favicon.ico",
            "/manifest.json",
            "/robots.txt",
            "/pwa_icon",
            "/pwa_icon/",
            HEALTH,
        ),
        *("/assets/", "/static/", "/svelte/"),
        *(f"{API}{name}" for name in ("app_id", "info", "login_check", "openapi.json", "startup-events", "theme.css")),
        *(f"{API}{name}" for name in ("upload_progress", "queue/data", "call/", "heartbeat/", "file=")),
    ),
    "POST": tuple(f"{API}{name}" for name in ("upload", "queue/join", "run/", "api/", "call/", "cancel", "reset")),
}
AGENTS = f"{API}mcp"  # POST only: nothing here speaks before it was asked
QUEUED = (f"{API}queue/join", f"{API}call/")  # bounded by the queue; every other POST by `Rates`
LOCAL = ("localhost", "127.0.0.1", "[::1]")
FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server")
HEARTBEAT_SECONDS = 15.0  # between two messages that keep an open page connected
LISTEN_SECONDS = 1.0  # between two checks whether the server is ending

Headers = Sequence[tuple[bytes, bytes]]
RETRY: Headers = ((b"retry-after", b"60"),)
NOT_UNDERSTOOD = later("This request could not be understood.")


class Guard:
    """The outermost layer. Refusals are one sentence of JSON, `{"detail": ...}`.

    Args:
        leave: called with the session of a page that was closed.
        ended: set when the server ends; connections of open pages are then closed.
        agents: whether agents are answered, see `ui/agents`.
        more: addresses to GET beside those of `ROUTES`.
    """

    def __init__(
        self,
        app: ASGIApp,
        leave: Callable[[str], None] | None = None,
        ended: threading.Event | None = None,
        agents: bool = False,
        more: Sequence[str] = (),
    ) -> None:
        self.app, self._leave, self._ended, self._agents = app, leave, ended or threading.Event(), agents
        self._more = more
        self._hosts, self._proxies = hosts(), proxies()
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            with speaking(language.of_scope(scope)):
                await self._admit(scope, receive, answer)
        except Exception as error:
            reason = error.__cause__ or error
            if answer.begun and not isinstance(reason, HTTPException):
                raise
            # Gradio raises on some requests (an unknown function, an odd header), in a stream after it has said so.
            log.warning("%s %.100s was not understood: %.200r", scope["method"], scope["path"], reason)
            if answer.begun:
                await answer({"type": "http.response.body", "body": b""})
            else:
                await refuse(answer, 422, tr(NOT_UNDERSTOOD))

    async def _admit(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        scope = self._without_proxy(scope)
        host = _host(dict(scope["headers"]).get(b"host", b""))
        if not self._known(host, scope):
            said = f"This server does not answer to the name {host[:80]!r}; its owner can add it to VITMSN_HOSTS."
            await refuse(send, 421, said)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        agent = self._agents and path.rstrip("/") == AGENTS
        if agent and scope["method"] != "POST":
            await refuse(send, 405, "Agents (MCP clients) ask here by POST; a person finds the page at /.")
            return
        more = scope["method"] in ("GET", "HEAD") and path in self._more
        if not (agent or more or _offered(scope["method"], path)):
            await refuse(send, 404, "There is nothing at this address.")
            return
        if path == HEALTH:  # the port opens only after the model is read, so an answer means ready
            await respond(send, 200, {"status": "ending" if self._ended.is_set() else "ready"})
            return
        if path.startswith(f"{API}heartbeat/"):
            await self._heartbeat(path.rpartition("/")[2], receive, send)
            return
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        upload = path.startswith("/gradio_api/upload")
        cap = limits.MAX_UPLOAD_BYTES if upload else limits.MAX_TOOL_BYTES if agent else limits.MAX_JSON_BYTES
        if _length(headers) > cap:
            said = tr("This request is larger than {size} MB; send less at once.", size=cap // limits.MIB)
            await refuse(send, 413, said)
        elif upload:
            await self._stream(scope, receive, send, cap)
        else:
            await self._judge(scope, path, receive, send, cap, agent)

    def _without_proxy(self, scope: Scope) -> Scope:
        """The request with the host, protocol and client address that a trusted proxy reports; other X-Forwarded
        headers are dropped.

        Gradio writes X-Forwarded-Host into the page and into the addresses of files, from any sender.
        """
        headers = dict(scope["headers"])
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in FORWARDED]
        if not self._proxies:
            return {**scope, "headers": kept}
        if outside := headers.get(b"x-forwarded-host", b"").split(b",")[0].strip():
            kept = [pair for pair in kept if pair[0].lower() != b"host"] + [(b"host", outside)]
        if headers.get(b"x-forwarded-proto", b"").split(b",")[0].strip() == b"https":
            kept.append((b"x-forwarded-proto", b"https"))
        client = scope.get("client")
        passed = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for")
        if senders := [text.strip() for text in passed.split(",") if _numeric(text.strip())]:
            client = (senders[-min(self._proxies, len(senders))], 0)  # each proxy adds the address that it sees
        return {**scope, "headers": kept, "client": client}

    def _known(self, host: str, scope: Scope) -> bool:
        """Whether this server answers to that host name. The page repeats the name, so a foreign one must not get in.

        IP addresses are fine: a phone on the same network, or a container, uses one, and nobody can own it as a name.
        """
        server = (scope.get("server") or ("",))[0]
        return "*" in self._hosts or host in self._hosts or host in (*LOCAL, str(server).lower()) or _numeric(host)

    async def _heartbeat(self, session: str, receive: Receive, send: _Answer) -> None:
        """Keep a page's connection open, and notice when it is closed.

        When the connection ends, Gradio's own version builds a whole session for any name that a client sends: two
        hundred of them stopped the server for seconds. Here an unknown name costs nothing.
        """
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone, last = asyncio.ensure_future(_disconnected(receive)), 0.0
        try:
            while not gone.done() and not self._ended.is_set():
                if time.monotonic() - last > HEARTBEAT_SECONDS:
                    last = time.monotonic()
                    await send({"type": "http.response.body", "body": b"data: ALIVE\n\n", "more_body": True})
                await asyncio.wait([gone], timeout=LISTEN_SECONDS)
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            if self._leave is not None:
                self._leave(session)

    async def _stream(self, scope: Scope, receive: Receive, send: _Answer, cap: int) -> None:
        """Pass an upload on and count its bytes; end it at the cap, as its announced length may be missing or false."""
        passed, size = 0, _length(dict(scope["headers"])) or cap

        async def counted() -> Message:
            nonlocal passed
            message = await receive()
            passed += len(message.get("body", b""))
            if passed > cap:
                raise uploads.TooLarge
            return message

        try:
            await asyncio.to_thread(uploads.take_room, size)
            with uploads.arriving(size):
                await self.app(scope, counted, send.gradio)
        except uploads.Refused as refused:
            if not send.begun:
                await refuse(send, refused.status, refused.sentence, RETRY if refused.later else ())

    async def _judge(self, scope: Scope, path: str, receive: Receive, send: _Answer, cap: int, agent: bool) -> None:
        """Read a small body; refuse pictures inside it and files from elsewhere, before Gradio fetches them."""
        body, more, session = b"", True, ""
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > cap:
                await refuse(send, 413, f"This request is larger than {cap // limits.MIB} MB; send files as uploads.")
                return
        if body:
            try:
                value = parse(body)
            except ValueError:
                await refuse(send, 422, "The body must be one JSON object in UTF-8, with finite numbers.")
                return
            if sentence := shape(value):
                await refuse(send, 422, sentence)
                return
            local = all(is_uploaded(entry) for entry in objects(value))
            if agent and not (local and is_here(value.get("params"))):
                sentence = "Nothing is fetched from an address; send a data URL or the path of an upload."
                await _refuse_tool(send, value.get("id"), sentence)
                return
            if not local:
                await refuse(send, 422, "Send files as uploads; data: and web addresses are not fetched.")
                return
            session = value.get("session_hash") or ""
            body = json.dumps(value).encode()  # Gradio gets what was checked, not bytes that it might read differently
            length = (b"content-length", str(len(body)).encode())
            kept = [pair for pair in scope["headers"] if pair[0].lower() not in (b"content-length", b"content-type")]
            scope = {**scope, "headers": [*kept, length, (b"content-type", b"application/json")]}
        if not path.startswith(QUEUED) and not self._rates.take(session, (scope.get("client") or ("",))[0]):
            said = tr("These are too many requests within a minute; wait some seconds, then go on.")
            await refuse(send, 429, said, ((b"retry-after", b"%d" % limits.RETRY_SECONDS),))
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send if agent else send.gradio)


class _Answer:
    """`send` that adds our headers, knows whether an answer has begun, and turns Gradio's errors into a sentence."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False
        self._status, self._error = 0, b""  # of an error from Gradio, held back until it is complete
        self._retry: Headers = []

    async def gradio(self, message: Message) -> None:
        """The same, for Gradio's answer to an upload or a request for a function."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.begun, self._status = True, message["status"]
            self._retry = [(name, value) for name, value in message["headers"] if name.lower() == b"retry-after"]
        elif self._status:
            self._error += message.get("body", b"")[: limits.MAX_JSON_BYTES - len(self._error)]
            if not message.get("more_body", False):
                # Gradio's 500 here comes from a bad value, its 400 from an upload that it cannot read
                status = 422 if self._status in (400, 500) else self._status
                await refuse(self, status, _sentence(self._error), self._retry)
        else:
            await self(message)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            names = {name for name, _ in HEADERS}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message = {**message, "headers": [*kept, *HEADERS]}
        await self._send(message)


def _sentence(body: bytes) -> str:
    """The sentence in an error from Gradio, if there is one: it may also be null, or the whole request repeated."""
    if body.startswith(b"File size"):  # of one file of an upload
        return tr(
            "This file is larger than {size} MB; send a smaller one.", size=limits.MAX_ARCHIVE_BYTES // limits.MIB
        )
    try:
        value = json.loads(body)
        said = value.get("error") or value.get("detail")
    except (ValueError, AttributeError, RecursionError):
        said = None
    return said[: limits.MESSAGE_LENGTH] if isinstance(said, str) else tr(NOT_UNDERSTOOD)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _offered(method: str, path: str) -> bool:
    """Whether the page needs this route."""
    routes = ROUTES.get("GET" if method == "HEAD" else method, ())
    if "://" in path or path.startswith((f"{FILE}//", f"{FILE}http:", f"{FILE}https:")):
        return False  # Gradio would fetch it
    short = path.rstrip("/") or "/"
    below = (name for name in routes if name.endswith(("/", "=")) and name != "/")
    return short in routes or path.startswith(tuple(below))


def hosts() -> frozenset[str]:
    """Host names that this server answers to, besides local ones, in lower case; "*" means any."""
    named = f"{os.environ.get('VITMSN_HOSTS', '')},{os.environ.get('SPACE_HOST', '')},{socket.gethostname()}"
    return frozenset(name.strip().lower() for name in named.split(",") if name.strip())


def proxies() -> int:
    """How many trusted proxies stand before the app: VITMSN_PROXY, or one on a Space. InputError for another value."""
    named = os.environ.get("VITMSN_PROXY") or ("1" if os.environ.get("SPACE_HOST") else "0")
    if not re.fullmatch("[0-9]{1,2}", named):
        raise InputError(f"VITMSN_PROXY is {named[:40]!r}; it must be a whole number of proxies: correct or unset it.")
    return int(named)


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _host(header: bytes) -> str:
    """The name in a Host header, without its port."""
    name = header.decode("latin-1").strip().lower()
    return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]


def _length(headers: dict[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


async def refuse(send: _Answer, status: int, sentence: str, more: Headers = ()) -> None:
    await respond(send, status, {"detail": sentence, "error": sentence}, more)  # Gradio's clients read one or the other


async def _refuse_tool(send: _Answer, number: Any, sentence: str) -> None:
    """Refuse what an agent asked for, as the result of its tool: clients do not show an agent other errors."""
    result = {"content": [{"type": "text", "text": sentence}], "isError": True}
    await respond(
        send, 200, {"jsonrpc": "2.0", "id": number if isinstance(number, (str, int)) else None, "result": result}
    )


async def respond(send: _Answer, status: int, value: dict[str, Any], more: Headers = ()) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})


def middleware(
    leave: Callable[[str], None] | None = None,
    ended: threading.Event | None = None,
    agents: bool = False,
    more: Sequence[str] = (),
) -> list[Middleware]:
    """The middleware list for `launch(app_kwargs={"middleware": ...})`."""
    outer = Middleware(Guard, leave=leave, ended=ended, agents=agents, more=more)
    return [outer, Middleware(language.PageLanguage)]


@contextmanager
def private_temp_folder() -> Iterator[Path]:
    """A private folder for this process's uploads, under GRADIO_TEMP_DIR or the system's; deleted at the end.

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
