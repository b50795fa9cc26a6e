"""The dialog's events and the addresses of the class, as pages ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette

from tests.support import async_calls
from tests.support.classroom import CHALLENGE
from vitmsn import image
from vitmsn.ui import page
from vitmsn.ui.app import App
from vitmsn.ui.classroom import address, dialog
from vitmsn.ui.classroom.address import Place
from vitmsn.ui.classroom.dialog import ClassVisit
from vitmsn.ui.classroom.room import Room
from vitmsn.ui.models import Models

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def app(models: Models, room: Room, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(address, "places", lambda host, port: [Place("http://192.168.1.5:7860/class", "wlan0")])
    models.start()
    built = page.build(models, room, "0.0.0.0")
    built.page.server_port = 7860  # Gradio sets it when it starts to serve
    return built


@pytest.fixture
def ask(app: App) -> Ask:
    """`ask(event, session, client=..., host=..., **values)`: an event of the dialog's script -> the answer."""
    wired = {
        fn.targets[0][1]: fn for fn in app.page.fns.values() if fn.fn and fn.targets and _door(app, fn.targets[0][0])
    }

    def send(event: str, session: str, client: str = "10.0.0.9", host: str = "192.168.1.5:7860", **values: Any) -> Any:
        request = gr.Request(session_hash=session)
        request.request = SimpleNamespace(  # type: ignore[assignment]
            client=SimpleNamespace(host=client), headers={"host": host}, query_params={}, path_params={}
        )
        data, fn = gr.EventData(None, values), wired[event].fn
        assert fn is not None
        if event in ("start", "move"):
            return json.loads(fn(request, data, gr.Progress())[1])
        return json.loads(fn(request, data))

    return send


def _door(app: App, block: int | None) -> bool:
    return getattr(app.page.blocks.get(block), "elem_id", "") == "class"  # type: ignore[arg-type]


@pytest.fixture
def lead(ask: Ask) -> str:
    """The session of a teacher who opened the page on the machine itself."""
    assert ask("enter", "teacher", client="127.0.0.1", host="localhost:7860", phone=False)["teacher"]
    return "teacher"


def get(room: Room, path: str, secret: str = "") -> httpx.Response:
    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=dialog.routes(room)))
        async with httpx.AsyncClient(transport=transport, base_url="http://192.168.1.5:7860") as client:
            return await client.get(path, headers={"x-class-seat": secret})

    return async_calls.call(asking)


def test_without_class_mode_the_page_has_no_button_for_it(models: Models) -> None:
    models.start()
    built = page.build(models)
    assert not any(getattr(block, "elem_id", "") == "class" for block in built.page.blocks.values())


@pytest.mark.parametrize(
    ("client", "host", "teacher"),
    [
        ("127.0.0.1", "127.0.0.1:7860", True),
        ("::1", "[::1]:7860", True),
        ("127.0.0.1", "localhost", True),
        ("::ffff:127.0.0.1", "127.0.0.1:7860", True),
        ("127.0.0.1", "msn.example.org", False),  # through a proxy on this machine
        ("10.0.0.9", "localhost:7860", False),
        ("10.0.0.9", "192.168.1.5:7860", False),
    ],
)
def test_the_teacher_is_who_opens_the_page_on_the_machine(ask: Ask, client: str, host: str, teacher: bool) -> None:
    told = ask("enter", "a", client=client, host=host, phone=False)
    assert told["teacher"] is teacher
    assert ("192.168.1.5:7860/class" in told["view"]) is teacher and ("I am the teacher" in told["view"]) is not teacher


def test_the_machine_itself_may_play_by_the_phones_address(ask: Ask) -> None:
    assert not ask("enter", "a", client="127.0.0.1", host="127.0.0.1:7860", phone=True)["teacher"]


def test_the_code_of_the_terminal_makes_a_page_the_teachers(ask: Ask, room: Room) -> None:
    assert ask("enter", "a", code="AAAA-AAAA")["error"].startswith("That is not the teacher's code")
    assert not ask("enter", "a", phone=True)["teacher"]
    assert ask("enter", "a", code=room.code.lower())["teacher"]


@pytest.mark.parametrize("event", ["start", "manage"])
def test_only_the_teacher_leads(ask: Ask, room: Room, lead: str, event: str) -> None:
    room.begin(CHALLENGE)
    ask("enter", "phone", phone=True)
    for session in ("phone", "stranger"):
        for values in ({"example": "coffee"}, {"what": "close"}, {"what": "again"}, {"own": True}):
            assert ask(event, session, **values)["error"] == dialog.ONLY_TEACHERS
    assert room.challenge is not None and room.challenge.number == 1


def test_a_round_from_start_to_close(ask: Ask, room: Room, lead: str) -> None:
    assert ask("move", "phone", round=1, dropped=[1], number=1)["error"].startswith("This page is not in the class")
    phone = ask("enter", "phone", phone=True)
    assert ask("start", lead, example="cat") == {"to": "start"}
    assert room.challenge is not None and room.challenge.title == "A tabby cat" and room.challenge.squares == (4, 4)
    assert ask("name", "phone", name=" Ada ") == {"to": "name", "title": "Ada"}
    told = ask("move", "phone", round=1, dropped=[], number=7)
    assert (
        told["same"] and told["number"] == 7 and told["said"].startswith("16 of 16 left: still ") and not told["best"]
    )
    refused = ask("move", "phone", round=1, dropped=[99], kept=1, number=8)
    assert refused["number"] == 8 and "numbers from 0 to 15" in refused["error"]
    assert ask("manage", lead, what="again") == {"to": "manage", "what": "again"}
    assert room.challenge.number == 2
    assert ask("manage", lead, what="close") == {"to": "manage", "what": "close"}
    assert get(room, dialog.NOW, phone["seat"]).json() == {"open": False}


def test_the_teachers_own_picture_is_cut_to_a_square(ask: Ask, app: App, room: Room, lead: str) -> None:
    assert "There is no picture of yours" in ask("start", lead, own=True)["error"]
    assert "No pictures came" in ask("start", lead)["error"]
    assert "no example called" in ask("start", lead, example="<b>")["error"]
    assert "Only pictures sent through this page" in ask("start", lead, paths=["/etc/passwd"])["error"]
    wide = image.decode(Image.linear_gradient("L").resize((300, 100)).convert("RGB"), name="wide.png")
    app.visitors.of(lead).own = wide
    assert ask("start", lead, own=True) == {"to": "start"}
    assert room.challenge is not None and room.challenge.title == "The teacher's picture"
    assert dialog.middle(wide).rgb.size == (100, 100)


def test_an_uploaded_picture_starts_a_round(ask: Ask, room: Room, lead: str) -> None:
    from gradio.utils import get_upload_folder

    path = Path(get_upload_folder(), "a.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").save(path)
    assert ask("start", lead, paths=[str(path)]) == {"to": "start"}
    assert room.challenge is not None


def test_a_seat_goes_with_its_visit(ask: Ask, app: App, room: Room) -> None:
    told = ask("enter", "phone", phone=True)
    again = ask("enter", "phone", phone=True)
    assert told["seat"] == again["seat"] and room.find(told["seat"]) is app.visitors.of("phone").state(ClassVisit).seat
    app.visitors.forget("phone")
    assert room.find(told["seat"]) is None


def test_the_state_of_the_class_says_only_what_the_page_does_not_have(ask: Ask, room: Room, lead: str) -> None:
    phone = ask("enter", "phone", phone=True)["seat"]
    told = get(room, f"{dialog.NOW}?board=-1&round=-1", phone).json()
    assert (told["phones"], told["number"], told["round"], told["game"]) == (1, 1, 0, "")
    assert get(room, f"{dialog.NOW}?board={room.version}&round=0", phone).json() == {
        "open": True,
        "phones": 1,
        "number": 1,
    }
    room.begin(CHALLENGE)
    told = get(room, f"{dialog.NOW}?board=x&round=0", phone).json()
    assert told["round"] == 1 and 'data-cell="5"' in told["game"] and told["picture"] == CHALLENGE.picture
    assert told["version"] == room.version and told["title"] == "Phone 1"
    screen = get(
        room, f"{dialog.NOW}?board=x&round=0", ask("enter", lead, client="127.0.0.1", host="localhost")["seat"]
    )
    assert "data-cell" not in screen.json()["game"] and screen.headers["cache-control"] == "no-store"
    assert get(room, dialog.NOW, "somebody").json() == {"open": False}


def test_the_short_address_leads_to_the_page_of_the_phones(room: Room) -> None:
    answer = get(room, "/class")
    assert answer.status_code == 302 and answer.headers["location"] == "./?class=join"
