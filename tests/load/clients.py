"""What the visitors of a load run do, and what is counted of it.

Each visitor's names hold a canary, `canary-NUMBER-...`: it has to come back to its sender, and to nobody else.
"""

from __future__ import annotations

import random
import re
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.visitor import NeverEnded, Refused, Visitor, classes, png

LEAVING = 0.3  # share of the jobs whose visitor goes away abruptly
PATIENCE = 300.0  # seconds after which a job that was taken counts as one without an end
FINE = (200, 413, 422, 429, 503)
CANARY = re.compile(r"canary-(\d+)-")


@dataclass
class Tally:
    """What came of all requests."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)  # (action, status) -> how often
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of jobs, from asking to answer
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (action, message) -> jobs that ended with it
    left: int = 0  # jobs and uploads whose visitor went away
    problems: Counter[str] = field(default_factory=Counter)

    def judge(self, number: int, text: str, own: str) -> None:
        """Look for canaries in what visitor `number` got; `own` has to be among them, if it is given."""
        others = {int(found) for found in CANARY.findall(text)} - {number}
        if others:
            self.problems["a visitor got what belongs to another"] += 1
        if own not in text:
            self.problems["a visitor's answer is without the visitor's name"] += 1

    def count(self, action: str, status: int) -> None:
        self.statuses[action, status] += 1
        if status not in FINE:
            self.problems[f"{action} was answered with {status}"] += 1


class Client:
    """One visitor, who does one thing after another until it is time to stop."""

    def __init__(self, url: str, number: int, tally: Tally, leaving: float = LEAVING) -> None:
        self.number, self.tally, self.leaving = number, tally, leaving
        self.random = random.Random(number)
        self.address = f"10.0.{number // 250}.{1 + number % 250}"
        self.url = url
        self.visitor, self.tabs = self._arrive(), set[str]()
        self.actions: list[tuple[int, Callable[[], None]]] = [
            *((6, self.classify), (3, self.embed), (2, self.attention), (2, self.mask), (1, self.broken)),
            *((1, self.few_shot), (1, self.map), (1, self.mask_curve)),
            *((3, self.add_class), (1, self.measure_curves), (2, self.open_page), (1, self.cut_upload)),
        ]

    def _arrive(self) -> Visitor:
        return Visitor(self.url, self.address, patience=PATIENCE)

    def run(self, until: float) -> None:
        weights, actions = zip(*self.actions, strict=True)
        while time.monotonic() < until:
            self.do(self.random.choices(actions, weights)[0])
        self.visitor.close()

    def each_once(self) -> None:
        for _, action in self.actions:
            self.do(action)

    def do(self, action: Callable[[], None]) -> None:
        name = action.__name__
        try:
            action()
        except Refused as refused:
            self.tally.count(name, refused.status)
            time.sleep(self.random.uniform(0.2, 1.0))  # a polite client would wait for 5 s
        except NeverEnded as error:
            self.tally.problems[str(error)] += 1
        except httpx.HTTPError as error:
            self.tally.problems[f"{name}: {type(error).__name__}"] += 1

    # What a visitor does

    def classify(self) -> None:
        self._ask("classify", self._picture())

    def broken(self) -> None:
        name = self._name()
        self._ask("classify", self.visitor.upload(b"no picture", f"{name}.png"), own=name, wrong=True)

    def embed(self) -> None:
        names = [self._name() for _ in range(4)]
        self._ask("embed", [self._picture(name) for name in names], own=names[-1])

    def attention(self) -> None:
        self._ask("attention", self._picture())

    def mask(self) -> None:
        self._ask("mask", self._picture())

    def mask_curve(self) -> None:
        self._ask("mask_curve", self._picture())

    def few_shot(self) -> None:
        name = self._name()
        query = [self._picture(f"{name}-query")]
        self._ask("few_shot", self._zip(name), query, own=f"{name}-query")

    def map(self) -> None:
        name = self._name()
        self._ask("map", self._zip(name), own=f"{name}-left")

    def add_class(self) -> None:
        name = self._name()
        self._click("fewshot", "New class", "submit", own=name, **{"New class": name})

    def measure_curves(self) -> None:
        self._click("masking", "Measure the curves")

    def open_page(self) -> None:
        """A new visit in a new tab."""
        self.visitor.close()
        self.visitor, self.tabs = self._arrive(), set()
        began = time.monotonic()
        for path in ("", "config", "theme.css"):
            self.tally.count("open_page", self.visitor.http.get(path).status_code)
        self.tally.seconds["open_page"].append(time.monotonic() - began)
        with self.visitor.http.stream("GET", f"gradio_api/heartbeat/{self.visitor.session}"):
            pass

    def cut_upload(self) -> None:
        """An upload that ends in the middle."""
        host, port = self.url.removeprefix("http://").strip("/").split(":")
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {self.address}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 900000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + b"a" * 200_000)
        self.tally.left += 1

    # How

    def _name(self) -> str:
        return f"canary-{self.number}-{self.random.getrandbits(32):08x}"

    def _picture(self, name: str = "") -> dict[str, Any]:
        return self.visitor.upload(png(self.random.getrandbits(32), 320), f"{name or self._name()}.png")

    def _zip(self, name: str) -> dict[str, Any]:
        names = [f"{name}-left", f"{name}-right"]
        return self.visitor.upload(classes(names, 4, self.random.getrandbits(32)), f"{name}.zip")

    def _ask(self, endpoint: str, *first: Any, own: str = "", wrong: bool = False) -> None:
        """Ask for a job with these first values, the others as they are by default; wait for its end, or leave.

        wrong: the answer has to be an error that names `own`.
        """
        fn = self.visitor.endpoint(endpoint)
        data = [*first, *self.visitor.values(fn)[len(first) :]]
        began = time.monotonic()
        event = self.visitor.call(endpoint, *data)
        if self.random.random() < self.leaving:
            with self.visitor.stream(endpoint, event):
                pass
            self.tally.left += 1
            return
        answer = self.visitor.answer(endpoint, event)
        self.tally.seconds[endpoint].append(time.monotonic() - began)
        self.tally.count(endpoint, 200)
        if not answer.done and not wrong:
            self.tally.failed[endpoint, answer.text.rpartition("data: ")[2].strip()[:120]] += 1
            own = ""  # for lack of time, say
        self.tally.judge(self.number, answer.text, own)

    def _click(self, tab: str, label: str, event: str = "click", own: str = "", **values: Any) -> None:
        if tab not in self.tabs:
            self.visitor.open(tab)
            self.tabs.add(tab)
        fn = self.visitor.handler(label, event)
        leaves = self.random.random() < self.leaving
        began, text, error = time.monotonic(), "", ""
        for message in self.visitor.messages(fn, self.visitor.values(fn, **values)):
            if leaves:
                self.tally.left += 1
                return
            text += str(message)
            if message.get("success") is False:
                error = str(message["output"].get("error"))[:120]
        self.tally.seconds[label].append(time.monotonic() - began)
        self.tally.count(label, 200)
        if error:
            self.tally.failed[label, error], own = self.tally.failed[label, error] + 1, ""
        self.tally.judge(self.number, text, own)
