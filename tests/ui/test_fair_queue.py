"""The queue, in a real server: one visitor who floods, and others who are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.context import LocalContext

from tests.support.app import PATIENCE, free_port, until
from vitmsn import limits
from vitmsn.ui.blocks import Page
from vitmsn.ui.fair_queue import LONG, SHORT, FairQueue, in_turn, judged
from vitmsn.ui.server import launch


@dataclass
class Place:
    """A page with the endpoints /quick and /slow, whose jobs wait for `gate` and are recorded in `ran`."""

    url: str
    queue: FairQueue
    gate: threading.Event
    ran: list[str] = field(default_factory=list)
    noticed: threading.Event = field(default_factory=threading.Event)

    def post(self, name: str, word: str, session: str | None = None, address: str = "") -> httpx.Response:
        body = {"data": [word], **({"session_hash": session} if session else {})}
        headers = {"X-Forwarded-For": address} if address else {}
        return httpx.post(f"{self.url}gradio_api/call/{name}", json=body, headers=headers, timeout=PATIENCE)

    def answer(self, name: str, posted: httpx.Response) -> str:
        event = posted.json()["event_id"]
        return httpx.get(f"{self.url}gradio_api/call/{name}/{event}", timeout=PATIENCE).text


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Place]:
    monkeypatch.setenv("VITMSN_PROXY", getattr(request, "param", ""))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    for name, value in {"VISITOR_JOBS": 12, "ADDRESS_JOBS": 30, "QUEUE_LENGTH": 20}.items():
        monkeypatch.setattr(limits, name, value)
    for name, value in {"VISITOR_SLOW_JOBS": 2, "ADDRESS_SLOW_JOBS": 3, "SLOW_QUEUE_LENGTH": 4}.items():
        monkeypatch.setattr(limits, name, value)
    made: Place

    def work(word: str) -> str:
        made.ran.append(word)
        event = LocalContext.event_id.get()
        end = time.monotonic() + PATIENCE
        while not made.gate.wait(0.01) and time.monotonic() < end:
            if made.queue.abandoned(event):
                made.noticed.set()
                break
        return f"did {word}"

    def other(word: str) -> str:
        return work(word)

    with Page(analytics_enabled=False) as page:
        word, said = gr.Textbox(), gr.Textbox()
        gr.Button().click(judged(work, lambda value: value + "" == "large"), [word], [said], api_name="quick", **SHORT)
        gr.Button().click(other, [word], [said], api_name="slow", **LONG)
    url = launch(page, port=free_port())
    assert isinstance(page._queue, FairQueue)
    made = Place(url, page._queue, threading.Event())
    try:
        yield made
    finally:
        made.gate.set()
        page.close(verbose=False)


def test_a_flooder_is_turned_away_and_others_are_served(place: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        flood = list(pool.map(lambda number: place.post("quick", f"f{number}", "flooder"), range(40)))
    refused = [answer for answer in flood if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {429} and len(refused) == 28
    assert refused[0].headers["retry-after"] == str(limits.RETRY_SECONDS)
    assert refused[0].json()["detail"].startswith("12 requests of yours are waiting or running; ")
    until(lambda: len(place.ran) == SHORT["concurrency_limit"])
    mine = place.post("quick", "mine", "normal")
    assert mine.status_code == 200
    place.gate.set()
    assert "did mine" in place.answer("quick", mine)
    until(lambda: len(place.ran) == 13)
    assert place.post("quick", "again", "flooder").status_code == 200  # the flooder's turn comes again


def test_senders_take_turns() -> None:
    running: Any = ["a1"]
    waiting: Any = ["a2", "a3", "a4", "b1", "c1", "b2"]
    assert in_turn(waiting, running, lambda job: str(job)[0]) == ["b1", "c1", "a2", "b2", "a3", "a4"]


def test_requests_without_a_session_are_one_visitor_for_each_address(place: Place) -> None:
    flood = [place.post("quick", "f").status_code for _ in range(15)]
    assert flood == [200] * 12 + [429] * 3
    assert place.post("quick", "mine", "normal").status_code == 200


def test_an_address_is_bounded_whatever_it_calls_itself(place: Place) -> None:
    flood = [place.post("quick", "f", f"session{number}") for number in range(28)]
    assert {answer.status_code for answer in flood} == {200}
    full = place.post("quick", "f", "one more")  # 8 run and 20 wait
    assert full.status_code == 503 and full.headers["retry-after"]
    assert "20 requests are waiting" in full.json()["detail"]


@pytest.mark.parametrize("place", ["1"], indirect=True)
def test_behind_a_trusted_proxy_each_client_has_an_address(place: Place) -> None:
    slow = [place.post("slow", "f", f"s{number}", "203.0.113.7").status_code for number in range(5)]
    assert slow == [200] * 3 + [429] * 2
    assert place.post("slow", "f", "s9", "198.51.100.1, 203.0.113.7").status_code == 429  # the proxy adds the last
    assert place.post("slow", "f", "s9", "198.51.100.1").status_code == 200


def test_an_address_from_nowhere_is_not_believed(place: Place) -> None:
    slow = [place.post("slow", "f", f"s{number}", f"203.0.113.{number}").status_code for number in range(5)]
    assert slow == [200] * 3 + [429] * 2


def test_quick_jobs_do_not_wait_for_slow_ones(place: Place) -> None:
    assert [place.post("slow", "long", "one").status_code for _ in range(3)] == [200, 200, 429]
    assert "2 long requests of yours" in place.post("slow", "long", "one").json()["detail"]
    assert place.post("quick", "large", "two").status_code == 200  # a costly value makes it a slow one
    until(lambda: sorted(place.ran) == ["large", "long"])
    assert {event.concurrency_id for event in place.queue.running()} == {"long", "costly"}
    assert place.post("quick", "large", "three").status_code == 429  # the address has three slow ones
    mine = place.post("quick", "mine", "three")
    until(lambda: "mine" in place.ran)
    place.gate.set()
    assert "did mine" in place.answer("quick", mine)
    assert place.post("quick", 5, "three").status_code == 200  # type: ignore[arg-type]  # refused when it is its turn


def test_what_is_refused_anyway_does_not_wait_for_its_turn(place: Place) -> None:
    assert [place.post("slow", "long", "one").status_code for _ in range(2)] == [200, 200]
    until(lambda: place.ran == ["long"])
    for sent in (5, ["word"], {}):
        wrong = place.post("slow", sent, "two")  # type: ignore[arg-type]
        said = place.answer("slow", wrong)
        assert "event: error" in said and "it must be a text" in said
    assert place.ran == ["long"]


def test_a_job_notices_that_its_client_has_gone(place: Place) -> None:
    first, second = (place.post("slow", word, word) for word in ("first", "second"))
    until(lambda: place.ran == ["first"])
    event = first.json()["event_id"]
    with httpx.stream("GET", f"{place.url}gradio_api/call/slow/{event}", timeout=PATIENCE):
        assert not place.noticed.is_set()
    assert place.noticed.wait(PATIENCE)
    until(lambda: place.ran == ["first", "second"])  # the place in the line is free
    place.gate.set()
    assert "did second" in place.answer("slow", second)


def test_answers_that_nobody_fetches_are_deleted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.gate.set()
    kept = place.post("quick", "a", "kept")
    until(lambda: place.ran and not place.queue.running())
    place.queue.sweep()
    assert "did a" in place.answer("quick", kept)
    place.post("quick", "b", "left")
    until(lambda: len(place.ran) == 2 and not place.queue.running() and len(place.queue._ended) == 2)
    monkeypatch.setattr(limits, "ANSWER_SECONDS", -1)
    place.queue.sweep()
    assert not place.queue._ended and not place.queue.pending_event_ids_session
    assert "left" not in place.queue.pending_messages_per_session
    assert not place.queue.event_analytics


def test_a_session_that_left_one_job_gets_the_answers_of_later_ones(place: Place) -> None:
    left = place.post("slow", "left", "mine").json()["event_id"]
    until(lambda: place.ran == ["left"])
    with httpx.stream("GET", f"{place.url}gradio_api/call/slow/{left}", timeout=PATIENCE):
        pass
    assert place.noticed.wait(PATIENCE)
    until(lambda: not place.queue.running())
    place.gate.set()
    later = place.post("quick", "later", "mine").json()["event_id"]
    said: list[str] = []
    with httpx.stream("GET", f"{place.url}gradio_api/call/quick/{later}", timeout=PATIENCE) as stream:
        for line in stream.iter_lines():
            said.append(line)
            assert line != "event: heartbeat" or "event: complete" not in said, "the answer came, its stream stays open"
    assert 'data: ["did later"]' in said and not place.queue.pending_event_ids_session.get("mine")
