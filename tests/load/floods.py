"""``python -m tests.load.floods``: small files with enormous pictures, as many as a request may hold, and what is left.

Each flood is a WebP of 5477 x 5477 pixels in a few hundred bytes, repeated: to /embed as files, to /few_shot and /map
as zips. Prints the answer's first words, its seconds, and the app's memory before, at most and at rest. Exits with 1
when an answer is a server error, or memory is not back within a tenth of what it was.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image

from tests.load.watch import Watch
from tests.support.app import server_in
from tests.support.visitor import Refused, Visitor, classes, png
from tests.support.zips import zipped

SIDE = 5477  # pixels: just below what one WebP may have
BACK = 1.10
REST = 20.0  # seconds in which memory has to be back


def flood(copies: int) -> bytes:
    """A zip of two classes, each with one enormous picture many times."""
    return zipped({f"{n % 2}/{n}.webp": enormous(n % 2) for n in range(copies)})


@cache
def enormous(shade: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (200, 120, 40 + shade)).save(out, "WEBP", lossless=True)
    return out.getvalue()


def ask(visitor: Visitor, endpoint: str, *first: object) -> str:
    """The first words of an endpoint's answer to these values, the others as they are by default."""
    defaults = visitor.values(visitor.endpoint(endpoint))[len(first) :]
    try:
        answer = visitor.answer(endpoint, visitor.call(endpoint, *first, *defaults))
    except Refused as refused:
        return f"{refused.status} {refused}"[:90]
    return ("answered" if answer.done else answer.text.rpartition("data: ")[2])[:90]


def main() -> int:
    failed = False
    with tempfile.TemporaryDirectory() as place, server_in(Path(place), VITMSN_PROXY="1") as (app, process):
        with Visitor(app.url, "10.0.0.1") as visitor:
            for endpoint in ("few_shot", "map"):  # the warm-up: everything is imported and used once
                small = visitor.upload(classes(["left", "right"], 8), "small.zip")
                ask(visitor, endpoint, small, *([[visitor.upload(enormous(), "one.webp")]] * (endpoint == "few_shot")))
        floods: dict[str, Callable[[Visitor], str]] = {
            f"{copies} files to /embed": lambda visitor, copies=copies: ask(
                visitor, "embed", [visitor.upload(enormous(), f"{n}.webp") for n in range(copies)]
            )
            for copies in (18, 200)
        }
        for endpoint in ("few_shot", "map"):
            for copies in (18, 200):
                floods[f"a zip of {copies} to /{endpoint}"] = lambda visitor, endpoint=endpoint, copies=copies: ask(
                    visitor,
                    endpoint,
                    visitor.upload(flood(copies), "flood.zip"),
                    *([[visitor.upload(png(0), "query.png")]] * (endpoint == "few_shot")),
                )
        print("flood | seconds | MB before | at most | at rest | answer")
        print("---|---|---|---|---|---")
        for number, (name, send) in enumerate(floods.items(), 2):
            with Watch(process.pid, Path(place)) as watch, Visitor(app.url, f"10.0.0.{number}") as visitor:
                before, began = watch.now().resident_mb, time.monotonic()
                answer = send(visitor)
                seconds, rest = time.monotonic() - began, time.monotonic() + REST
                while watch.now().resident_mb > BACK * before and time.monotonic() < rest:
                    time.sleep(0.5)
                after = watch.now().resident_mb
                most = max(sample.resident_mb for sample in [*watch.samples, watch.now()])
            failed |= after > BACK * before or answer.startswith("5")
            print(f"{name} | {seconds:.1f} | {before:.0f} | {most:.0f} | {after:.0f} | {answer}", flush=True)
        if "Traceback" in app.said():
            failed = True
            print("The log holds a traceback.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
