"""The server's memory: threads share the arenas of the C library."""

from __future__ import annotations

import os
import subprocess
import sys

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
