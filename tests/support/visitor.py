"""A visitor of a running app: uploads, calls and streams as Gradio's clients send them, and clicks on the page."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.support.app import PATIENCE
from tests.support.zips import zipped


def png(seed: int, side: int = 96) -> bytes:
    """A small picture that no other seed has."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize((side, side), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def classes(names: list[str], each: int, seed: int = 0, side: int = 96) -> bytes:
    """A zip of pictures, one folder for each class."""
    files = {f"{name}/{n}.png": png(seed + 1000 * c + n, side) for c, name in enumerate(names) for n in range(each)}
    return zipped(files)


ENDS = ("process_completed", "unexpected_error", "close_stream")


class Refused(Exception):
    """The app turned a request away; `status` says how."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.text)
        self.status = answer.status_code


class NeverEnded(Exception):
    """A job that the app took has no end."""


@dataclass
class Answer:
    """The end of a job: whether it succeeded, and all that its stream said."""

    done: bool
    text: str

    @property
    def values(self) -> list[Any]:
        """What the function answered."""
        values: list[Any] = json.loads(self.text.rpartition("data: ")[2])
        return values


@dataclass
class Visitor:
    """One visitor. Use it as a context manager, or `close` it.

    Attributes:
        address: where the visitor seems to come from; believed with `VITMSN_PROXY=1`.
        session: what the visitor's page calls itself.
        patience: seconds until a job without an end raises NeverEnded.
    """

    url: str
    address: str = ""
    session: str = field(default_factory=lambda: secrets.token_hex(6))
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        headers = {"X-Forwarded-For": self.address} if self.address else {}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def _post(self, path: str, **more: Any) -> Any:
        answer = self.http.post(path, **more)
        if answer.status_code != 200:
            raise Refused(answer)
        return answer.json()

    def upload(self, data: bytes, name: str) -> dict[str, Any]:
        """Send a file; returns what stands for it in a request."""
        [path] = self._post("gradio_api/upload", files={"files": (name, data)})
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    # Endpoints

    def call(self, endpoint: str, *data: Any, session: bool = False) -> str:
        """Ask for a job of `/endpoint`; returns its id."""
        body = {"data": list(data), **({"session_hash": self.session} if session else {})}
        return str(self._post(f"gradio_api/call/{endpoint}", json=body)["event_id"])

    @contextmanager
    def stream(self, endpoint: str, event: str) -> Iterator[httpx.Response]:
        """The stream of a job; leaving the block early closes the connection."""
        with self.http.stream("GET", f"gradio_api/call/{endpoint}/{event}") as stream:
            yield stream

    def answer(self, endpoint: str, event: str) -> Answer:
        """Wait for the end of a job."""
        deadline = time.monotonic() + self.patience
        with self.stream(endpoint, event) as stream:
            said, text = "", ""
            for line in stream.iter_lines():  # at least one in 15 s
                self._check(deadline, endpoint)
                text += f"{line}\n"
                said = line if line.startswith("event: ") else said
                if line.startswith("data: ") and said in ("event: complete", "event: error"):
                    return Answer(said == "event: complete", text)
        return Answer(False, text)

    def _check(self, deadline: float, name: object) -> None:
        if time.monotonic() > deadline:
            raise NeverEnded(f"a job of {name} has no end after {self.patience:.0f} s")

    # The page

    @cached_property
    def page(self) -> dict[str, Any]:
        """The page's description, as its script reads it."""
        config: dict[str, Any] = self.http.get("config").json()
        return config

    def handler(self, label: str, event: str = "click") -> dict[str, Any]:
        """The function behind an event (`click`, `submit`) of the component with this label, these words or this id."""
        ids = [one["id"] for one in self.page["components"] if label in _words(one["props"])]
        found = [fn for fn in self.page["dependencies"] if any([id, event] in fn["targets"] for id in ids)]
        return next(fn for fn in found if fn["backend_fn"])

    def endpoint(self, name: str) -> dict[str, Any]:
        return next(fn for fn in self.page["dependencies"] if fn["api_name"] == name)

    def values(self, fn: dict[str, Any], **given: Any) -> list[Any]:
        """The inputs of a function as the page opens, but for those given by their labels."""
        props = {one["id"]: one["props"] for one in self.page["components"]}
        return [given.get(str(props[id].get("label")), props[id].get("value")) for id in fn["inputs"]]

    def open(self, tab: str) -> None:
        """Load the page and open one of its tabs, so that the visit has a picture and its examples."""
        load = next(fn for fn in self.page["dependencies"] if fn["backend_fn"] and fn["targets"][0][1] == "load")
        self._post("gradio_api/run/predict", json=self._body(load, ["", ""]))
        fill = self.handler(f"fill-{tab}")
        for _ in self.messages(fill, self.values(fill)):
            pass

    def _body(self, fn: dict[str, Any], data: list[Any]) -> dict[str, Any]:
        return {"data": data, "fn_index": fn["id"], "session_hash": self.session, "trigger_id": fn["targets"][0][0]}

    def messages(
        self, fn: dict[str, Any], data: list[Any], event_data: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Ask for a function as the page does; yields what comes of it until its end.

        event_data: what an event of the page's own scripts brings, like a frame of the camera.
        """
        deadline = time.monotonic() + self.patience
        body = {**self._body(fn, data), "event_data": event_data}
        event = self._post("gradio_api/queue/join", json=body)["event_id"]
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                self._check(deadline, fn["id"])
                message: dict[str, Any] = json.loads(line.removeprefix("data: ") or "{}")
                if message.get("event_id") == event:
                    yield message
                if message.get("msg") in ENDS:
                    return


def _words(props: dict[str, Any]) -> tuple[Any, ...]:
    return props.get("label"), props.get("value"), props.get("elem_id")
