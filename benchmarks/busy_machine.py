"""Two threads of a forward on a machine that does other work: threads that sleep while they wait, as the app's do.

    python -m benchmarks busy_machine          half a minute on two cores

ViT-S/16, one picture at a time, in a process of its own for each way of waiting, beside one program for each thread
that never rests. GNU's OpenMP, which torch's Linux builds use, spins by default: a thread that waits takes the time
in which the one that it waits for could run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import torch

from benchmarks import Figure, Row, alone

FORWARDS = """
import os, sys, time, torch
torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
from benchmarks import small
packed, pixels = small.packed(list(small.DTYPES)[-1]), small.pictures(1)
with torch.inference_mode():
    packed(pixels)
    for _ in range(int(sys.argv[1])):
        start = time.perf_counter()
        packed(pixels)
        print(time.perf_counter() - start)
"""


def rows(quick: bool = False) -> Iterator[Row]:
    rounds, forwards = (2, 5) if quick else (4, 20)
    found: dict[str, list[float]] = {"PASSIVE": [], "": []}
    with ExitStack() as others:
        for _ in range(torch.get_num_threads()):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            others.callback(other.kill)
        for _ in range(rounds):
            for policy, times in found.items():
                times.append(float(np.median([float(line) for line in _run(policy, forwards).split()])))
    sleeping, spinning = (np.array(times) for times in found.values())
    said = (f"{1000 * float(np.median(times)):.3g} ms" for times in (sleeping, spinning))
    claim = f"ViT-S/16, batch 1, {torch.get_num_threads()} threads beside as many busy programs: sleeping over spinning"
    yield Row(claim, *said, Figure.of(spinning / sleeping), 1.5 if torch.get_num_threads() > 1 else None)


def _run(policy: str, forwards: int) -> str:
    before = os.environ.pop("OMP_WAIT_POLICY", None)
    try:
        return alone(FORWARDS, forwards, OMP_WAIT_POLICY=policy) if policy else alone(FORWARDS, forwards)
    finally:
        if before is not None:
            os.environ["OMP_WAIT_POLICY"] = before
