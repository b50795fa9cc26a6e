"""Serve the page, with Gradio's unneeded features off."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vitmsn import limits
from vitmsn.errors import InputError, ViTMSNError
from vitmsn.ui import guard, uploads
from vitmsn.ui.blocks import Seldom
from vitmsn.ui.models import Models
from vitmsn.ui.page import build, precision, theme
from vitmsn.ui.shared import picture_gallery

SWEEP_SECONDS = 30  # between two deletions of old visits and uploads
ENDING_SECONDS = 3.0  # a job has to notice that the server ends; closing takes up to five more
CSS = Path(__file__).with_name("theme.css")


def serve(model: str | None = None, host: str | None = None, port: int | None = None) -> int:
    """Serve the page until SIGINT or SIGTERM, and return the exit code. Host and port default to Gradio's variables."""
    ended = threading.Event()
    try:
        check_address(host, port)
        guard.proxies()
    except InputError as error:
        print(f"vitmsn: {error}", file=sys.stderr)
        return 2
    logging.getLogger("vitmsn.ui").addFilter(Seldom())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with guard.private_temp_folder() as folder:
            models = Models(model)
            encoder = models.start()
            app = build(models)
            address = launch(app.page, host, port, app.visitors.leave, ended)
            print(f"{address}  {models.name(models.default)} on {encoder.device}, {precision(encoder)}", flush=True)
            if models.warning:
                print(f"vitmsn: {models.warning}", file=sys.stderr)
            picture_gallery.sheet()  # before the first visitor of Learn or Masking needs it
            picture_gallery.index(encoder)
            while not ended.wait(timeout=SWEEP_SECONDS):
                app.sweep()
                app.visitors.sweep_uploads(folder)
                uploads.forget(app.page)
            app.visitors.close()
            app.page.close(verbose=False)
            idle = _wait_for_jobs(ENDING_SECONDS)
        if not idle:  # a normal Python exit would abort while a thread is inside torch
            sys.stdout.flush()
            os._exit(0)
    except (ViTMSNError, OSError) as error:
        print(f"vitmsn: {error}", file=sys.stderr)
        return 2
    return 0


def _wait_for_jobs(seconds: float) -> bool:
    """Whether all threads that answer visitors have ended; each ends after the event loop and its own job."""
    end = time.monotonic() + seconds
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("AnyIO worker")]
    for thread in workers:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in workers)


def check_address(host: str | None, port: int | None) -> None:
    """Raise InputError if the address cannot be used; Gradio would retry forever, or take another port.

    Host and port default to Gradio's variables; without a port, any free one is fine.
    """
    host = host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    named = str(port) if port is not None else os.environ.get("GRADIO_SERVER_PORT", "")
    if named and not (named.isdecimal() and 1 <= int(named) <= 65535):
        raise InputError(f"{named!r} is no port; give a number from 1 to 65535.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(named or 0), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"Port {named} of {host} is taken; stop what uses it, or give another port.") from None
        reason = error.strerror or str(error)
        place = f"{host}, port {named}" if named else host
        raise InputError(f"Nothing can listen at {place} ({reason}); give an address of this machine.") from None


def launch(
    page: gr.Blocks,
    host: str | None = None,
    port: int | None = None,
    leave: Callable[[str], None] | None = None,
    ended: threading.Event | None = None,
) -> str:
    """Start serving in the background, with Gradio's unneeded features off, and return the local address.

    Args:
        leave, ended: see :class:`vitmsn.ui.guard.Guard`.
    """
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")  # uvicorn would believe X-Forwarded-For from this machine
    page.queue(api_open=False)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        max_file_size=limits.MAX_ARCHIVE_BYTES,
        state_session_capacity=limits.MAX_VISITORS,
        footer_links=["api", "settings"],
        theme=theme(),
        css_paths=CSS,
        app_kwargs={
            "middleware": guard.middleware(leave, ended),
            "routes": [Route(picture_gallery.SHEET, gallery_pictures)],
        },
    )
    return address


def gallery_pictures(request: Request) -> Response:
    """The sheet with the gallery's pictures, which the browser keeps for an hour."""
    return Response(picture_gallery.sheet(), media_type="image/webp", headers={"cache-control": "max-age=3600"})
