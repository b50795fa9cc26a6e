"""A Hub on this machine: what its client asks of it, with ranges, redirects, cut connections, and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1 << 20  # bytes from which a file is served from elsewhere, as the Hub does, under its SHA-256


@dataclass
class LoopbackHub:
    """``files`` of the one repository ``name``, and what came of the requests."""

    name: str = "owner/name"
    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = COMMIT
    cut_after: int | None = None  # bytes of a large file after which a connection is cut
    cuts: int = 0  # how many were, or are closed with nothing; after the first the server is gone
    trickle: Event | None = None  # until it is set, a byte comes now and then
    stalls: int | None = None  # bytes of a large file after which it waits for `goes_on`
    goes_on: Event = field(default_factory=Event)
    ranges: bool = True  # whether a range is answered with one
    private: bool = True
    url: str = ""
    elsewhere: str = ""  # where large files are: the same server under another name
    asked: list[tuple[str, str | None, bool]] = field(default_factory=list)  # (file, range, with a token) of large ones
    fetched: list[str] = field(default_factory=list)  # every file, large or small
    sent: int = 0  # bytes of large files
    made: list[bool] = field(default_factory=list)  # repositories asked for: whether private
    committed: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url, hub.elsewhere = (f"http://{name}:{server.server_port}" for name in ("127.0.0.1", "localhost"))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.goes_on.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        resolved = re.fullmatch(rf"/{self.hub.name}/resolve/([^/]+)/(.+)", path)
        if path.startswith(f"/api/models/{self.hub.name}"):
            self._json(self._tree() if "/tree/" in path else self._info())
        elif path.startswith("/bytes/"):
            self._bytes(path.removeprefix("/bytes/"))
        elif resolved and resolved[2] in self.hub.files and resolved[1] in ("main", self.hub.commit):
            self._resolve(resolved[2])
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        path, body = self.path.split("?")[0], self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            asked = json.loads(body)
            private = asked.get("private", asked.get("visibility") == "private")  # as older and newer clients say it
            self.hub.made.append(private)
            self._json({"url": f"{self.hub.url}/{self.hub.name}"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            self._json(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
            )
        elif path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    self.hub.messages.append(line["value"]["summary"])
                else:
                    self.hub.committed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json(
                {"commitUrl": f"{self.hub.url}/{self.hub.name}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
            )
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _info(self) -> dict[str, Any]:
        siblings = [{"rfilename": name, "size": len(data), "blobId": name} for name, data in self.hub.files.items()]
        return {"id": self.hub.name, "sha": self.hub.commit, "private": self.hub.private, "siblings": siblings}

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": self._etag(data)}
            for name, data in self.hub.files.items()
        ]

    def _etag(self, data: bytes) -> str:
        return (hashlib.sha256 if len(data) >= LARGE else hashlib.sha1)(data).hexdigest()

    def _resolve(self, name: str) -> None:
        if self.command == "GET":
            self.hub.fetched.append(name)
        data = self.hub.files[name]
        about = {"ETag": f'"{self._etag(data)}"', "X-Repo-Commit": self.hub.commit}
        if len(data) < LARGE:
            self._answer(200, data, about)
            return
        about |= {"X-Linked-Etag": about["ETag"], "X-Linked-Size": str(len(data))}
        self._answer(302, b"", about | {"Location": f"{self.hub.elsewhere}/bytes/{name}"})

    def _bytes(self, name: str) -> None:
        data, wanted = self.hub.files[name], self.headers.get("Range")
        if self.command == "GET":
            self.hub.asked.append((name, wanted, "Authorization" in self.headers))
        if self.hub.cut_after is not None and self.hub.cuts:
            self._cut()
            return
        start = int(re.fullmatch(r"bytes=(\d+)-.*", wanted)[1]) if wanted and self.hub.ranges else 0  # type: ignore[index]
        rest = data[start:]
        about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._answer(206 if start else 200, rest, about, self.hub.cut_after)

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, data: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        part = data if cut_after is None else data[:cut_after]
        came = 0
        while (trickle := self.hub.trickle) and came < len(part) and not trickle.wait(0.05):
            self.wfile.write(part[came : came + 1])
            came += 1
        if self.hub.stalls is not None and self.path.startswith("/bytes/") and came < self.hub.stalls < len(part):
            self.wfile.write(part[came : self.hub.stalls])
            came = self.hub.stalls
            self.wfile.flush()
            self.hub.goes_on.wait()
        with suppress(ConnectionError):  # the client has gone
            self.wfile.write(part[came:])
        if self.path.startswith("/bytes/"):
            self.hub.sent += len(part)
        if len(part) < len(data):
            self.wfile.flush()
            self._cut()

    def _cut(self) -> None:
        self.hub.cuts += 1
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
