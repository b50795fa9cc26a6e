"""``python -m tests.fuzz [READER] [--seconds N]``: search, guided by coverage, for inputs that break a reader.

Needs atheris (requirements/fuzz.txt; `make fuzz` installs it). An input that breaks a reader is written to a file
beside the corpus and named; make it a test of that reader.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vitmsn"]):
    from tests.support.readers import READERS


def search(name: str, seconds: int) -> None:
    """Fuzz one reader; ends the process."""
    reader = READERS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, data in enumerate(reader.seeds()):
        (folder / f"seed{number}").write_bytes(data)

    def one(data: bytes) -> None:
        with suppress(*reader.refusals):
            reader.read(data)

    options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=4096", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("reader", nargs="?", choices=sorted(READERS), help="by default each, one after another")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    asked = parser.parse_args()
    if asked.reader:
        search(asked.reader, asked.seconds)
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(asked.seconds)]
    ended = {name: subprocess.run([*command, name]).returncode for name in READERS}
    print("\n".join(f"{name}: {'broken' if code else 'held'}" for name, code in ended.items()))
    sys.exit(any(ended.values()))
