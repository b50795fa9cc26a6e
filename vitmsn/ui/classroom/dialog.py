"""The wiring of class mode: the dialog's events, and the two addresses that phones ask for.

The page's script sends an event and gets its answer as JSON in a hidden field; what changes by itself (the board, the
round, the number of phones) it asks for at `NOW`, which costs next to nothing and needs no place in the queue.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from vitmsn import image
from vitmsn.errors import InputError, ViTMSNError
from vitmsn.ui.app import App
from vitmsn.ui.classroom import address, challenge, view
from vitmsn.ui.classroom.room import NOT_HERE, Room, Seat
from vitmsn.ui.locale import later, tr, tr_said
from vitmsn.ui.shared import examples, html, scripts
from vitmsn.ui.shared.patch_grid import seen
from vitmsn.ui.shared.photo import read_picture, sent
from vitmsn.ui.visits import Call, Visit

NOW = "/class/now"
PATHS = (address.PAGE, NOW)  # what the server offers beside the page's own addresses
PICTURE_SIDE = 480  # pixels, of the picture on phones and projector
LOCAL = ("localhost", "127.0.0.1", "[::1]")
ANSWERED = "(text) => window.msnClass?.told(text)"
SCRIPT = scripts.script(scripts.__file__, "grid_keys.js") + scripts.script(__file__, "choices.js", "classroom.js")
TEACHERS = later("The teacher's picture")
ONLY_TEACHERS = later(
    "Only the teacher can do that: open Class on the machine that runs this, or type the code of its terminal."
)


@dataclass
class ClassVisit:
    """What a visit has of the class."""

    seat: Seat | None = None


def door() -> gr.HTML:
    """The button in the header, with the dialog."""
    return gr.HTML(view.door(), js_on_load=SCRIPT, elem_id="class", elem_classes="msn-class-door", min_width=0)


def connect(app: App, room: Room, host: str, door: gr.HTML) -> None:
    """Wire the dialog. `host` is what the server listens on."""
    told = gr.Textbox(visible="hidden", elem_id="class-told")
    line = gr.HTML(visible="hidden")  # `App.on` needs one; errors are part of the answers

    def enter(request: gr.Request, event: gr.EventData) -> str:
        """A page opened the dialog. A page on this machine is the teacher's, unless it came by the phones' address."""

        def answer() -> dict[str, Any]:
            asked = _values(event)
            visit = app.visitors.of(request.session_hash)
            code = asked.get("code")
            if isinstance(code, str) and not room.is_code(code):
                raise InputError(tr("That is not the teacher's code; type the one that the terminal shows."))
            teacher = isinstance(code, str) or (asked.get("phone") is not True and _on_this_machine(request))
            seat = take_seat(room, visit, teacher)
            if teacher:
                places = address.places(host, app.page.server_port)
                side = view.projector(places, visit.own is not None)
            else:
                side = view.phone(seat)
            return {"seat": seat.secret, "teacher": teacher, "view": side}

        return _told("enter", answer)

    def name(request: gr.Request, event: gr.EventData) -> str:
        def answer() -> dict[str, Any]:
            return {"title": room.rename(_seat(app.visitors.of(request.session_hash)), _values(event).get("name"))}

        return _told("name", answer)

    def manage(request: gr.Request, event: gr.EventData) -> str:
        """What the teacher does that needs no model: close, the same picture again, take a nickname away."""

        def answer() -> dict[str, Any]:
            asked = _values(event)
            _teacher(room, app.visitors.of(request.session_hash))
            if asked.get("what") == "close":
                room.close()
            elif asked.get("what") == "again" and room.challenge is not None:
                room.begin(room.challenge)
            elif asked.get("what") == "take":
                room.take_name(asked.get("number"))
            return {"what": asked.get("what")}

        return _told("manage", answer)

    def start(call: Call) -> str:
        """Start a round with an example, the teacher's picture on the page, or a file."""
        call.tab = "class"  # the status line speaks of the open tab's forward, not of this one

        def answer() -> dict[str, Any]:
            _teacher(room, call.visit)
            picture, title = _picture(app, call)
            shown = html.data_url(seen(call.encoder, picture, side=PICTURE_SIDE))
            made = challenge.make(call.encoder, picture, title, shown, progress=call.progress)
            _teacher(room, call.visit)  # the class may have been closed meanwhile
            room.begin(made)
            return {}

        return _told("start", answer)

    def move(call: Call) -> str:
        """A phone dropped patches, or brought some back: one forward."""
        call.tab = "class"

        def answer() -> dict[str, Any]:
            seat, number = _seat(call.visit), call.chosen("round")
            judged = room.judge(seat, number, call.chosen("dropped"))
            return {"said": view.sentence(judged), "best": view.best(seat), "same": judged.same}

        return _told("move", answer, number=call.chosen("number"))

    quiet: dict[str, Any] = {"notice": line, "show_progress": "hidden"}
    wired = [app.at_once(_event(door, fn.__name__), fn, [told]) for fn in (enter, name, manage)]
    wired.append(app.on(_event(door, "start"), start, [], [told], costly=lambda: True, **quiet))
    wired.append(app.on(_event(door, "move"), move, [], [told], trigger_mode="multiple", **quiet))
    for one in wired:  # after a refusal (429) the field still has the answer before
        one.success(None, [told], js=ANSWERED, api_visibility="private", show_progress="hidden")


def take_seat(room: Room, visit: Visit, teacher: bool) -> Seat:
    """The visit's seat in the class; it is given up when the visit is deleted."""
    mine = visit.state(ClassVisit)
    mine.seat = room.enter(teacher, mine.seat, present=lambda: visit.kept.get(ClassVisit) is mine)
    return mine.seat


def routes(room: Room) -> list[Route]:
    """What phones open, and what every page of the class asks for again and again."""

    async def join(request: Request) -> Response:
        return RedirectResponse("./?class=join", 302, {"cache-control": "no-store"})

    async def now(request: Request) -> Response:
        """The state of the class; the board and the round only where they are not those that the page has."""
        seat = room.find(request.headers.get("x-class-seat", ""))
        if seat is None:
            return JSONResponse({"open": False}, headers={"cache-control": "no-store"})
        version, playing = room.version, room.challenge
        answer: dict[str, Any] = {"open": True, "phones": room.connected(), "number": seat.number}
        if request.query_params.get("board") != str(version):
            board = view.board(room.board(), playing, seat.teacher)
            answer |= {"version": version, "board": board, "title": seat.title, "best": view.best(seat)}
        number = playing.number if playing else 0
        if request.query_params.get("round") != str(number):
            shown = (view.screen if seat.teacher else view.game)(playing) if playing else ""
            answer |= {"round": number, "game": shown, "picture": playing.picture if playing else ""}
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    return [Route(address.PAGE, join), Route(NOW, now)]


def _told(to: str, answer: Callable[[], dict[str, Any]], **more: Any) -> str:
    """An answer for the page's script, or the sentence that says why there is none; `more` is in both."""
    try:
        return json.dumps({"to": to, **answer(), **more})
    except ViTMSNError as error:
        return json.dumps({"to": to, "error": tr_said(str(error)), **more})


def _values(event: gr.EventData) -> dict[str, Any]:
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}


def _event(door: gr.HTML, name: str) -> Any:
    return getattr(door, name)  # an event of its script


def _seat(visit: Visit) -> Seat:
    seat = visit.state(ClassVisit).seat
    if seat is None:
        raise InputError(tr(NOT_HERE))
    return seat


def _teacher(room: Room, visit: Visit) -> None:
    """Raise InputError unless this visit has a teacher's seat in the class."""
    seat = visit.state(ClassVisit).seat
    if seat is None or not seat.teacher:
        raise InputError(tr(ONLY_TEACHERS))
    if room.find(seat.secret) is None:
        raise InputError(tr(NOT_HERE))


def _on_this_machine(request: gr.Request) -> bool:
    """Whether the browser runs here: its address and the one it asked for are both this machine's own.

    Behind a proxy on this machine everyone has a local address, but not a local name.
    """
    client, named = getattr(request.client, "host", ""), str(request.headers.get("host", "")).lower()
    name = named[: named.find("]") + 1] if named.startswith("[") else named.partition(":")[0]
    return address.loopback(client.removeprefix("::ffff:")) and name in LOCAL


def _picture(app: App, call: Call) -> tuple[image.Picture, str]:
    """The picture that the teacher chose, and what it shows."""
    if call.chosen("example") is not None:
        one = examples.by_name(str(call.chosen("example")))
        return middle(one.picture), one.title
    if call.chosen("own") is True:
        if call.visit.own is None:
            raise InputError(tr("There is no picture of yours on this page; choose a file."))
        return middle(call.visit.own), TEACHERS
    [path, *_] = sent(call)
    try:
        return middle(read_picture(path)), TEACHERS
    finally:
        app.visitors.read_upload(Path(path))


def middle(picture: image.Picture) -> image.Picture:
    """The square in the middle of a picture, so that its patches are squares on a phone too."""
    width, height = picture.rgb.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.decode(picture.rgb.crop((left, top, left + side, top + side)), name=picture.name)
