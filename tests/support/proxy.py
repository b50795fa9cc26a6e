"""A proxy that serves an app under a path, as docs/deploy.md tells nginx and Caddy to."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tests.support.app import PATIENCE

HOP = {"connection", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


@contextmanager
def under(path: str, app: str) -> Iterator[str]:
    """The address of the app at ``app`` below ``path`` ("/demo/vitmsn"), which the proxy takes off."""
    handler = type("Handler", (_Handler,), {"under": path, "app": urlsplit(app)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True  # a page that stays open keeps a connection
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{path}/"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    under: str
    app: Any  # where the app is, from `urlsplit`
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith(f"{self.under}/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Proto": "http"}
        headers["X-Forwarded-For"] = str(self.client_address[0])
        connection = http.client.HTTPConnection(self.app.hostname, self.app.port, timeout=PATIENCE)
        try:
            connection.request(self.command, self.path.removeprefix(self.under), body or None, headers)
            self._pass_on(connection.getresponse())
        except ConnectionError:
            self.close_connection = True  # the page has gone
        finally:
            connection.close()

    do_POST = do_HEAD = do_GET

    def _pass_on(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*HOP, "date", "server"):
                self.send_header(name, value)
        if answer.length is None:  # a stream: its end is that of the connection
            self.send_header("Connection", "close")
        self.end_headers()
        while self.command != "HEAD" and (part := answer.read1(1 << 16)):
            self.wfile.write(part)
            self.wfile.flush()
