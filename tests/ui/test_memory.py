"""The server's memory: threads share the arenas of the C library, and what is unused goes back."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import pytest

from vitmsn.ui import memory

COUNT = """
import ctypes, threading
from vitmsn.ui import memory
{}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)
def use():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def arenas(call: str, **environment: str) -> int:
    """How many a process has whose eight threads need memory at once."""
    told = subprocess.run(
        [sys.executable, "-c", COUNT.format(call)],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.count("<heap nr=")


@pytest.mark.skipif(memory._LIBC is None, reason="needs glibc")
def test_threads_share_few_arenas_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert arenas("") > memory.ARENAS
    assert arenas("memory.bound_arenas()") == memory.ARENAS
    assert arenas("memory.bound_arenas()", MALLOC_ARENA_MAX="5") == 5


def test_what_circles_of_objects_hold_is_given_back() -> None:
    class Drawn:
        canvas: object = None

    figure = Drawn()
    figure.canvas = figure
    gone = weakref.ref(figure)
    enabled = gc.isenabled()
    gc.disable()
    try:
        del figure
        assert gone() is not None
        memory.give_back()
        assert gone() is None
    finally:
        if enabled:
            gc.enable()


def test_what_the_app_is_made_of_is_looked_through_once() -> None:
    before = gc.get_freeze_count()
    try:
        memory.settle()
        assert gc.get_freeze_count() - before > 10_000
        assert len(gc.get_objects()) < 10_000
    finally:
        gc.unfreeze()
