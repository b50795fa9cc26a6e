"""``python -m tests.load [--clients 50] [--seconds 60]``: many visitors at once, 30 % of whom leave abruptly.

Starts the app with shorter times for what it deletes, lets one visitor do everything once, then all of them for some
time, and waits until the app is at rest. Exits with 1 when an answer was a server error, a visitor got another
visitor's names or not their own, a job that was taken never ended, the log holds a traceback, or temporary files or
descriptors stayed. ``--flat`` (`make soak`) also wants memory flat after the first third.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from tests.load.clients import Client, Tally
from tests.load.watch import Watch, growth, save
from tests.support.app import Served, server_in

SHORT = dict.fromkeys(("UPLOAD", "UNUSED", "ANSWER", "LEAVE"), "15")  # seconds, so that a minute shows what is deleted
ENVIRONMENT = {
    "VITMSN_PROXY": "1",  # each client has an address
    "VITMSN_CACHE_BYTES": str(32 << 20),  # full after some seconds, as it would be after some hours
    **{f"VITMSN_{name}_SECONDS": value for name, value in SHORT.items()},
}
REST = 75.0  # seconds until everything old is deleted: a sweep every 30 s
FEW = 8  # descriptors that may stay: connections that the server has not yet closed
# Matplotlib remembers the last 64 fonts, each for one thread, and holds two files open for one: its own font, and the
# font for characters that the first lacks. Threads come and go, so these grow up to that bound.
FONTS = 64 * 2
FLAT = 1.05


def together(url: str, clients: int, seconds: float, tally: Tally) -> None:
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=Client(url, number, tally).run, args=(until,)) for number in range(1, clients + 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def table(tally: Tally) -> str:
    lines = ["action | answers | median s | 95 % s", "---|---|---|---"]
    for action in sorted({action for action, _ in tally.statuses} | set(tally.seconds)):
        counts = [f"{status}: {n}" for (name, status), n in sorted(tally.statuses.items()) if name == action]
        times = sorted(tally.seconds.get(action, []))
        spread = [statistics.median(times), times[math.ceil(0.95 * len(times)) - 1]] if times else []
        lines.append(" | ".join([action, ", ".join(counts), *(f"{value:.2f}" for value in spread)]))
    said = [f"{action} ended {n} times with {message!r}" for (action, message), n in sorted(tally.failed.items())]
    return "\n".join(lines + said)


def problems(app: Served, watch: Watch, first: int, flat: bool, before: tuple[int, int]) -> list[str]:
    """What is wrong with the server after a run, whose samples begin at `first`; waits until it is at rest."""
    during = watch.samples[first:]
    descriptors, files = before
    until = time.monotonic() + REST
    while (now := watch.now()).files > files or now.descriptors > descriptors + FEW:
        if time.monotonic() > until:
            break
        time.sleep(1.0)
    found = []
    if now.files > files:
        found.append(f"{now.files} temporary files stayed")
    if now.descriptors > descriptors + FEW:
        found.append(f"{now.descriptors} descriptors stayed, of {descriptors} before")
    if now.fonts > FONTS:
        found.append(f"{now.fonts} fonts stayed open, and {FONTS} may be")
    if "Traceback" in app.said():
        found.append("the log holds a traceback")
    if flat and (grown := growth(during)) > FLAT:
        found.append(f"memory grew {grown:.2f} times after the first third")
    print(f"at rest: {now}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--flat", action="store_true", help="memory has to be flat after the first third")
    parser.add_argument("--port", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/load"), help="folder for load.csv and load.png")
    asked = parser.parse_args()
    tally = Tally()
    with (
        tempfile.TemporaryDirectory() as folder,
        server_in(Path(folder), asked.port, **ENVIRONMENT) as (app, process),
        Watch(process.pid, Path(folder) / "temporary") as watch,
    ):
        Client(app.url, 0, tally, leaving=0).each_once()
        warm = watch.now()
        print(f"warm: {warm}", flush=True)
        first = len(watch.samples)
        together(app.url, asked.clients, asked.seconds, tally)
        print(f"after {asked.seconds:.0f} s of {asked.clients} clients, {tally.left} left abruptly: {watch.now()}")
        Client(app.url, asked.clients + 1, tally, leaving=0).each_once()  # every line of jobs has to be free again
        found = problems(app, watch, first, asked.flat, (warm.descriptors, 0))
        if process.poll() is not None or httpx.get(f"{app.url}healthz").json() != {"status": "ready"}:
            found.append("the server is not ready after it")
        print(f"log: {len(app.said().splitlines())} lines")
    found += [f"{what} ({count} times)" for what, count in tally.problems.items()]
    print(table(tally))
    print("files:", *save(watch.samples, asked.out))
    print("\n".join(f"WRONG: {what}" for what in found) or "nothing wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
