"""Serve the page, with every door closed that Gradio leaves open."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import gradio as gr

from vitmsn import limits
from vitmsn.errors import ViTMSNError
from vitmsn.ui import guard
from vitmsn.ui.models import Models
from vitmsn.ui.page import build, precision, theme

SWEEP_SECONDS = 30  # between two looks at what is to be forgotten
CSS = Path(__file__).with_name("theme.css")


def serve(model: str | None = None, host: str | None = None, port: int | None = None) -> int:
    """Serve the page until SIGINT or SIGTERM; the exit code. Host and port default to Gradio's variables."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with guard.private_temp_folder() as folder:
            models = Models(model)
            encoder = models.start()
            app = build(models)
            address = launch(app.page, host, port)
            print(f"{address}  {models.name(models.default)} on {encoder.device}, {precision(encoder)}", flush=True)
            if models.warning:
                print(f"vitmsn: {models.warning}", file=sys.stderr)
            while not ended.wait(timeout=SWEEP_SECONDS):
                app.visitors.sweep()
                app.visitors.sweep_uploads(folder)
            app.page.close(verbose=False)
    except (ViTMSNError, OSError) as error:
        print(f"vitmsn: {error}", file=sys.stderr)
        return 2
    return 0


def launch(page: gr.Blocks, host: str | None = None, port: int | None = None) -> str:
    """Start serving in the background with every door closed that Gradio leaves open; the local address."""
    page.queue(max_size=limits.QUEUE_LENGTH, api_open=False, default_concurrency_limit=8)
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
        app_kwargs={"middleware": guard.middleware()},
    )
    return address
