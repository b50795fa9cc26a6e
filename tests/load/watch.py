"""Memory, open files and temporary files of the server, each second."""

from __future__ import annotations

import csv
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import psutil
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Sample:
    seconds: float  # since the watch began
    resident_mb: float
    descriptors: int  # but for those of fonts
    threads: int
    files: int  # in the temporary folder
    fonts: int  # descriptors of fonts: matplotlib keeps some open for each thread that drew

    def __str__(self) -> str:
        open_ = f"{self.descriptors} descriptors and {self.fonts} of fonts"
        return f"{self.resident_mb:.0f} MB, {open_}, {self.threads} threads, {self.files} files"


class Watch:
    """Samples a process each second, in a thread, until the block ends."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._process, self._folder = psutil.Process(pid), folder
        self._began, self._ended = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def now(self) -> Sample:
        with self._process.oneshot():
            memory, threads = self._process.memory_info().rss / 1e6, self._process.num_threads()
            fonts = sum(file.path.endswith((".ttf", ".otf")) for file in self._process.open_files())
            descriptors = self._process.num_fds() - fonts
        files = sum(path.is_file() for path in self._folder.rglob("*"))
        return Sample(time.monotonic() - self._began, memory, descriptors, threads, files, fonts)

    def _run(self) -> None:
        while not self._ended.wait(1.0):
            with suppress(OSError):  # a file was deleted while they were counted
                try:
                    self.samples.append(self.now())
                except psutil.NoSuchProcess:
                    return  # `__main__` says so


def growth(samples: Sequence[Sample]) -> float:
    """How much resident memory grew after the first third: the median of the last tenth / of the tenth after it."""
    memory, tenth = [sample.resident_mb for sample in samples], max(1, len(samples) // 10)
    third = len(memory) // 3
    return statistics.median(memory[-tenth:]) / statistics.median(memory[third : third + tenth])


def save(samples: Sequence[Sample], folder: Path) -> tuple[Path, Path]:
    """Write load.csv and load.png into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, plot = folder / "load.csv", folder / "load.png"
    names = [field.name for field in fields(Sample)]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(astuple(sample) for sample in samples)
    figure = Figure(figsize=(8, 8), layout="constrained")
    for axes, name in zip(figure.subplots(len(names) - 1, sharex=True), names[1:], strict=True):
        axes.plot([sample.seconds for sample in samples], [getattr(sample, name) for sample in samples])
        axes.set_title(name.replace("_", " "))
        axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    figure.savefig(plot)
    return table, plot
