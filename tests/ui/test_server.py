"""The process that serves the page."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio import networking
from gradio.routes import App as WebApp

from tests.support import async_calls
from tests.support.app import PATIENCE, ROOT, Served, answers, free_port
from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui import server
from vitmsn.ui.blocks import Page


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the process's signal handlers, which `serve` replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["vitmsn.ui", "uvicorn.error", "python_multipart.multipart", "root"])
def test_no_flood_of_odd_requests_fills_the_log(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "LOG_LINES", 3)
    log = logging.getLogger(name)
    before = list(log.filters)
    try:
        server.bound_logs()
        for _ in range(10):
            log.warning("Invalid HTTP request received.")
    finally:
        log.filters[:] = before
    assert len(caplog.records) == 3


def test_a_failed_start_prints_a_sentence_and_exits_with_2(
    signals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert server.serve(str(tmp_path / "no-such-model")) == 2
    said = capsys.readouterr().err
    assert said.startswith("vitmsn: ") and "no-such-model" in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file"))
    assert server.serve() == 2
    assert "set GRADIO_TEMP_DIR" in capsys.readouterr().err


def test_a_machine_too_busy_to_answer_at_once_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    with Page(analytics_enabled=False) as page:
        pass
    port = free_port()
    try:
        assert server.launch(page, port=port) == f"http://127.0.0.1:{port}/"
    finally:
        page.close(verbose=False)


@pytest.mark.parametrize("value", ["true", "false"])
def test_the_guard_answers_for_the_page_whatever_gradio_is_told_about_node(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Space sets GRADIO_SSR_MODE, with which Gradio puts a Node.js that it finds in front of everything."""
    node, started = tmp_path / "node", tmp_path / "started"
    node.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 60\n")
    node.chmod(0o755)
    monkeypatch.setenv("GRADIO_SSR_MODE", value)
    monkeypatch.setenv("GRADIO_NODE_PATH", str(node))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    with Page(analytics_enabled=False) as page:
        pass
    port = free_port()
    try:
        address = server.launch(page, port=port)
        assert address == f"http://127.0.0.1:{port}/" and page.server_port == port
        answer = httpx.get(address, timeout=PATIENCE)
        assert answer.status_code == 200 and answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert not started.exists()
    finally:
        page.close(verbose=False)


def test_the_page_is_built_inside_an_event_loop_the_one_of_a_notebook_too() -> None:
    async def notebook() -> bool:
        return server._inside_a_loop(asyncio.get_running_loop) is asyncio.get_running_loop()

    assert async_calls.call(notebook)
    assert not async_calls.call(asyncio.to_thread, lambda: server._inside_a_loop(asyncio.get_running_loop).is_running())


def test_no_web_app_is_made_before_the_page_is_served() -> None:
    made = WebApp.create_app
    with server._without_web_apps(), gr.Blocks() as page:
        gr.Textbox()
    assert page.app is None and WebApp.create_app is made
    with suppress(ZeroDivisionError), server._without_web_apps():
        raise ZeroDivisionError
    assert WebApp.create_app is made
    with gr.Blocks() as page:
        gr.Textbox()
    assert isinstance(page.app, WebApp)


def test_agents_are_asked_for_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, on in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("VITMSN_MCP", value)
        assert server.agents_asked() is on
    monkeypatch.setenv("VITMSN_MCP", "yes")
    with pytest.raises(InputError, match="VITMSN_MCP is 'yes'; it must be 1"):
        server.agents_asked()


def test_agents_need_their_package(
    signals: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert server.serve(agents=True) == 2
    assert "install it with: pip install 'vitmsn[mcp]'" in capsys.readouterr().err


def test_sigterm_ends_the_server_cleanly_and_deletes_uploads(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": url.split(":")[2].strip("/"),
        "GRADIO_TEMP_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(url):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        [path] = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.png", b"a face")}, timeout=PATIENCE).json()
        assert Path(path).is_relative_to(tmp_path) and Path(path).exists()
        waiting = urllib.request.urlopen(f"{url}gradio_api/heartbeat/abc")  # an open page must not delay the end
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
        waiting.close()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and "Traceback" not in said
    assert said.startswith(url)
    assert not Path(path).exists() and not list(tmp_path.glob("vitmsn-*"))


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("999.1.1.1", None, "Nothing can listen at 999.1.1.1"),
        ("203.0.113.7", 7860, "Nothing can listen at 203.0.113.7, port 7860"),
        (None, 70000, "'70000' is no port"),
        (None, 0, "'0' is no port"),
    ],
)
def test_a_bad_address_prints_a_sentence(
    capsys: pytest.CaptureFixture[str], host: str | None, port: int | None, said: str
) -> None:
    assert server.serve(host=host, port=port) == 2
    assert said in capsys.readouterr().err


def test_a_taken_port_is_refused_not_replaced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert server.serve(port=port) == 2
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
        assert server.serve() == 2
    assert capsys.readouterr().err.count(f"Port {port} of 127.0.0.1 is taken") == 2
    monkeypatch.setenv("GRADIO_SERVER_PORT", "many")
    assert server.serve() == 2
    assert "'many' is no port" in capsys.readouterr().err


def test_the_local_network_is_served_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(server, "Server", lambda *given: made.append(given))
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    server.prepare()
    server.prepare(share_local=True)
    monkeypatch.setenv("VITMSN_SHARE_LOCAL", "1")
    server.prepare(host="0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")  # from `make run`
    server.prepare()
    alone, *shared = [(None, None, False, False), *[(None, "0.0.0.0", False, True)] * 3]
    assert made == [alone, *shared]


def test_bad_options_of_class_mode_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.serve(host="127.0.0.1", share_local=True) == 2
    assert "127.0.0.1 can be reached from this machine alone" in capsys.readouterr().err
    monkeypatch.setenv("VITMSN_SHARE_LOCAL", "yes")
    assert server.serve() == 2
    assert "VITMSN_SHARE_LOCAL is 'yes'; it must be 1 (class mode) or 0" in capsys.readouterr().err


def test_the_gallery_pictures_are_one_file_that_browsers_keep(served: Served) -> None:
    answer = httpx.get(f"{served.url}gallery-pictures.webp", timeout=PATIENCE)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "max-age=3600" and answer.content[8:12] == b"WEBP"


def test_behind_a_proxy_and_a_path_prefix_addresses_are_those_outside(tmp_path: Path) -> None:
    """The proxy takes the prefix off, as docs/deploy.md tells nginx and Caddy to."""
    url = f"http://127.0.0.1:{free_port()}/"
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": url.split(":")[2].strip("/"),
        "GRADIO_TEMP_DIR": str(tmp_path),
        "GRADIO_ROOT_PATH": "/demo/vitmsn",
        "VITMSN_HOSTS": "example.org",
        "VITMSN_PROXY": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    outside = {"X-Forwarded-Host": "example.org", "X-Forwarded-Proto": "https"}
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(url + "healthz"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        with httpx.Client(headers=outside, timeout=PATIENCE) as proxy:
            assert proxy.get(f"{url}config").json()["root"] == "https://example.org/demo/vitmsn"
            page = proxy.get(url).text
            assert '"root":"https://example.org/demo/vitmsn"' in page
            [script] = set(re.findall(r'src="(\./assets/index-[^"]+\.js)"', page))  # relative
            assert proxy.get(url + script.removeprefix("./")).status_code == 200
        policy = httpx.get(url, timeout=PATIENCE).headers["content-security-policy"]
        assert "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co" in policy
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
