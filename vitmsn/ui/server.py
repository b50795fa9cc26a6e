"""Serve the page, with Gradio's unneeded features off."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import gradio as gr
from gradio.routes import App as WebApp
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vitmsn import extras, limits
from vitmsn.errors import InputError, ViTMSNError
from vitmsn.ui import guard, uploads, zero_gpu
from vitmsn.ui.app import App
from vitmsn.ui.blocks import Page, Seldom
from vitmsn.ui.classroom import address as lan
from vitmsn.ui.classroom import dialog as classroom
from vitmsn.ui.classroom.room import Room
from vitmsn.ui.fair_queue import FairQueue
from vitmsn.ui.learn import training_film
from vitmsn.ui.locale import ENGLISH, GERMAN, LANGUAGES, speaking
from vitmsn.ui.memory import bound_arenas, settle
from vitmsn.ui.models import OPENING, Models
from vitmsn.ui.page import build, precision, theme
from vitmsn.ui.shared import examples, picture_gallery
from vitmsn.ui.visits import Stopped, Visitors

# Gradio reads these words to screen readers and has no text for them
SPOKEN = {
    ENGLISH: {"common.complete": "Done", "common.progress": "Progress"},
    GERMAN: {"common.complete": "Fertig", "common.progress": "Fortschritt"},
}
log = logging.getLogger("vitmsn.ui")
SWEEP_SECONDS = 30  # between two deletions of old visits and uploads
ENDING_SECONDS = 4.0  # what still answers when the server ends has so long to finish; then the process ends anyway
T = TypeVar("T")
# in this order: what a tab needs comes after what the whole page has
STYLES = [Path(__file__).with_name(f"{name}.css") for name in ("theme", "picture_tabs", "set_tabs", "picture_gallery")]
CLASS_STYLE = Path(__file__).parent / "classroom" / "classroom.css"


class Server:
    """The page with its models, ready to be served: ``Server(model).run(port)``.

    Args:
        host: where it listens; GRADIO_SERVER_NAME by default.
        agents: also answer agents, over MCP.
        share_local: serve a class: the page has the button "Class", and phones of the local network may come.

    Attributes:
        app: the page and its visitors.

    Raises:
        ViTMSNError, OSError: the model cannot be read, or no folder for uploads can be made.
    """

    def __init__(
        self, model: str | None = None, host: str | None = None, agents: bool = False, share_local: bool = False
    ) -> None:
        bound_arenas()
        self._ended, self._agents, self._host = threading.Event(), agents, host
        self._room = Room() if share_local else None
        bound_logs()
        if threading.current_thread() is threading.main_thread():  # Gradio's reload runs in another
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: self._ended.set())
        self._closing = ExitStack()
        with ExitStack() as failed:
            self._folder = failed.enter_context(guard.private_temp_folder())
            self._models = Models(model)
            self._encoder = self._models.start()
            if zero_gpu.ACTIVE:
                zero_gpu.keep_resident(self._encoder)
            self.app: App = _inside_a_loop(lambda: in_all_languages(self._models, self._room, host or ""))
            self._closing = failed.pop_all()

    def run(self, port: int | None = None) -> int:
        """Serve until SIGINT or SIGTERM, and return the exit code. The port defaults to Gradio's variable."""
        with self._closing:
            leave = self.app.visitors.leave
            address = _inside_a_loop(
                lambda: launch(self.app.page, self._host, port, leave, self._ended, self._agents, self._room)
            )
            name = self._models.name(self._models.default)
            print(f"{address}  {name} on {self._encoder.device}, {precision(self._encoder)}", flush=True)
            if self._models.warning:
                print(f"vitmsn: {self._models.warning}", file=sys.stderr)
            if self._room is not None:
                print(_invitation(self._room, self._host or "", self.app.page.server_port), flush=True)
            with suppress(Stopped):
                self._warm_up()
            settle()
            while not self._ended.wait(timeout=SWEEP_SECONDS):
                try:
                    self.app.sweep()
                    if self._room is not None:
                        self._room.sweep()
                    sweep_uploads(self.app.page, self.app.visitors, self._folder)
                except Exception:  # the next sweep tries again; visitors are served meanwhile
                    log.exception("a sweep failed")
            self.app.visitors.close()
            idle = _close(self.app.page, ENDING_SECONDS)
        if not idle:  # a normal Python exit would abort while a thread is inside torch
            sys.stdout.flush()
            os._exit(0)
        gc.freeze()  # Python looks through millions of objects several times before it ends: seconds, for nothing
        return 0

    def _warm_up(self) -> None:
        """Compute what the first visitors of a tab would wait for; Stopped when the server ends meanwhile."""

        def go_on(*_: int) -> None:
            if self._ended.is_set():
                raise Stopped

        picture_gallery.sheet()
        if not zero_gpu.ACTIVE:  # no GPU is borrowed but for a visitor
            go_on()
            examples.embed(self._encoder)
            picture_gallery.index(self._encoder, go_on)


def bound_logs() -> None:
    """Bound the lines that requests can write: ours, and the parsers' about what is no HTTP or no upload."""
    for name in ("vitmsn.ui", "uvicorn.error", "python_multipart.multipart", "root"):  # MCP's are those of the root
        logging.getLogger(name).addFilter(Seldom())


def sweep_uploads(page: gr.Blocks, visitors: Visitors, folder: Path) -> None:
    """Delete uploads that have grown old, but for those that still arrive and those that a job names."""
    now, queue = time.time(), page._queue  # the time comes first: a later job names what was old before it
    named = queue.uploads() if isinstance(queue, FairQueue) else set()
    visitors.sweep_uploads(folder, now, named | uploads.unfinished())
    uploads.forget(page)


def in_all_languages(models: Models, room: Room | None, host: str) -> App:
    """The page as `build` makes it, which also knows its texts in the other languages."""
    with _without_web_apps():
        app = build(models, room, host)
        for language in LANGUAGES:
            if language != ENGLISH:
                with speaking(language):
                    other = build(models, room, host)
                assert isinstance(app.page, Page) and isinstance(other.page, Page)
                app.page.offer(language, other.page)
    return app


@contextmanager
def _without_web_apps() -> Iterator[None]:
    """Gradio makes the web app of each page when it is begun and when it is built, and anew when it is served. Only
    that last one is used; the others would cost each start a third of a second."""
    made = WebApp.create_app
    WebApp.create_app = staticmethod(lambda *_, **__: None)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        WebApp.create_app = staticmethod(made)  # type: ignore[method-assign]


def prepare(
    model: str | None = None,
    host: str | None = None,
    port: int | None = None,
    agents: bool = False,
    share_local: bool = False,
) -> Server:
    """A server for that address; SystemExit(2), after one line on stderr, when something is wrong with either.

    `agents` is also on where VITMSN_MCP is 1, `share_local` where VITMSN_SHARE_LOCAL is 1.
    """
    try:
        share_local = lan.asked(share_local)
        if share_local:
            host = lan.listening(host)
        check_address(host, port)
        guard.proxies()
        agents = agents or agents_asked()
        if agents:
            with extras.named():
                import mcp  # noqa: F401
        return Server(model, host, agents, share_local)
    except (ViTMSNError, OSError) as error:
        print(f"vitmsn: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def serve(
    model: str | None = None,
    host: str | None = None,
    port: int | None = None,
    agents: bool = False,
    share_local: bool = False,
) -> int:
    """Serve the page until SIGINT or SIGTERM, and return the exit code."""
    try:
        return prepare(model, host, port, agents, share_local).run(port)
    except SystemExit as end:
        return int(end.code or 0)
    except OSError as error:
        print(f"vitmsn: {error}", file=sys.stderr)
        return 2


def agents_asked() -> bool:
    """Whether VITMSN_MCP asks to answer agents; InputError if it is neither 1 nor 0."""
    named = os.environ.get("VITMSN_MCP") or "0"
    if named not in ("0", "1"):
        raise InputError(f"VITMSN_MCP is {named[:40]!r}; it must be 1 (answer agents) or 0: correct or unset it.")
    return named == "1"


def _invitation(room: Room, host: str, port: int) -> str:
    """What the terminal shows of a class: where phones find it, as a QR code too, and the teacher's code."""
    places = lan.places(host, port)
    lines = [f"Class: {place.words}" for place in places] or [f"Class: {lan.NONE_FOUND}"]
    if places:
        lines.append(lan.printed(places[0], sys.stdout.encoding or "ascii").rstrip("\n"))
    lines.append(f"The teacher's code, for Class on a page of another machine: {room.code}")
    return "\n".join(filter(None, lines))


def _inside_a_loop(make: Callable[[], T]) -> T:
    """Call `make` while an event loop runs in this thread, as one already does in a notebook.

    Where none runs, Gradio makes one for each lock it needs and never closes it; when Python collects those, some
    versions print "Invalid file descriptor: -1".
    """

    async def inside() -> T:
        return make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # none is running
        return asyncio.run(inside())
    return make()


def _close(page: gr.Blocks, seconds: float) -> bool:
    """Close the page's server; returns whether all that answers visitors or opens models has ended in that time.

    A worker ends after the event loop and its own job. The loop waits for connections without end: for an upload, or
    for a client that reads slowly.
    """
    end = time.monotonic() + seconds
    closing = threading.Thread(target=page.close, kwargs={"verbose": False}, daemon=True)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith(("AnyIO worker", OPENING))]
    closing.start()
    ending = [closing, page.server.thread, *workers]
    for thread in ending:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in ending)


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
    agents: bool = False,
    room: Room | None = None,
) -> str:
    """Start serving in the background, with Gradio's unneeded features off, and return the local address.

    Args:
        leave, ended, agents: see :class:`vitmsn.ui.guard.Guard`.
        room: the class that the page was built with, if any.
    """
    if agents:
        from vitmsn.ui.agents import install  # it needs the extra `mcp`

        install()
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")  # uvicorn would believe X-Forwarded-For from this machine
    page.queue(api_open=False)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        ssr_mode=False,  # GRADIO_SSR_MODE, which a Space sets, would put Node.js in front of the guard
        mcp_server=agents,
        _frontend=False,  # else it asks for the page once, and gives up when a busy machine takes over three seconds
        enable_monitoring=False,
        run_history=False,
        max_file_size=limits.MAX_ARCHIVE_BYTES,
        state_session_capacity=limits.MAX_VISITORS,
        footer_links=["api", "settings"],
        theme=theme(),
        i18n=gr.I18n(**SPOKEN),
        css_paths=[*STYLES, *([CLASS_STYLE] if room is not None else [])],
        app_kwargs={
            "middleware": guard.middleware(leave, ended, agents, classroom.PATHS if room is not None else ()),
            "routes": [
                Route(picture_gallery.SHEET, sheet(picture_gallery.sheet)),
                Route(training_film.SHEET, sheet(training_film.sheet)),
                *(classroom.routes(room) if room is not None else []),
            ],
        },
    )
    return address


def sheet(drawn: Callable[[], bytes]) -> Callable[[Request], Response]:
    """A route's function for one of the page's own pictures, which the browser keeps for an hour.

    Drawing it for the first time takes seconds; a class that opens the page at once waits for the same drawing.
    """
    one_at_a_time = threading.Lock()

    def answer(request: Request) -> Response:
        with one_at_a_time:
            picture = drawn()
        return Response(picture, media_type="image/webp", headers={"cache-control": "max-age=3600"})

    return answer
