"""The output of a command: a table or JSON on stdout, progress and notes on stderr, files at ``--out``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmsn.errors import InputError
from vitmsn.files import replacing
from vitmsn.names import escaped

if TYPE_CHECKING:
    from PIL import Image


@dataclass
class Result:
    """The result of a command: ``data`` for programs, a table and a few lines for people."""

    data: dict[str, Any]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    lines: list[str] = field(default_factory=list)
    worked: bool = True  # False: no input could be used


class Bar:
    """Progress as one line of a terminal's stderr; nothing where stderr is a file."""

    width = 30
    open = False  # whether a line of some bar is not ended yet

    def __init__(self, what: str = "") -> None:
        self.what, self.shown = plain(what), sys.stderr.isatty()
        self.began = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self.shown:
            line = "=" * (self.width * done // max(total, 1))
            end = "\n" if done >= total else ""
            elapsed = time.monotonic() - self.began
            more = f", {_duration(elapsed / done * (total - done))} left" if 0 < done < total and elapsed > 2 else ""
            Bar.open = not end
            _write(f"\r{self.what} [{line:{self.width}}] {done}/{total}{more}\033[K{end}")

    def named(self, what: str, done: int, total: int) -> None:
        """The same, with the name of what is counted; the estimate of the time left restarts with each new name."""
        if plain(what) != self.what:
            self.what, self.began = plain(what), time.monotonic()
        self(done, total)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else f"{seconds} s"


def plain(text: object) -> str:
    """Text without control characters, so that no file name can change the terminal."""
    known = escaped(str(text))
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in known)


def as_json(data: object) -> str:
    """Valid JSON: bytes of file names that are not UTF-8 are escaped, see ``names.escaped``."""

    def readable(value: object) -> object:
        if isinstance(value, str):
            return escaped(value)
        if isinstance(value, dict):
            return {readable(key): readable(item) for key, item in value.items()}
        return [readable(item) for item in value] if isinstance(value, (list, tuple)) else value

    return json.dumps(readable(data), indent=1)


def say(line: str) -> None:
    """One line on stderr, under a bar that is being drawn."""
    under = "\n" if Bar.open else ""
    Bar.open = False
    _write(f"{under}vitmsn: {plain(line)}\n")


def _write(text: str) -> None:
    """In one piece: Ctrl-C between a line and its end would put the next line beside it."""
    sys.stderr.write(text)
    sys.stderr.flush()


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    columns = [[plain(cell) for cell in column] for column in zip(header, *rows, strict=True)]
    for index, cells in enumerate(columns):
        width, right = max(map(len, cells)), all(map(_is_number, cells[1:]))
        columns[index] = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _is_number(text: str) -> bool:
    digits = text.strip(" %").lstrip("-")
    return not digits or digits.replace(".", "", 1).isdigit()


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def write(target: str | Path) -> Path:
    """The path of a file to write; its folder is made."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def whole(target: str | Path) -> Iterator[Path]:
    """Where to write; it becomes ``target`` when all is there, so that an interrupted command leaves no half of it."""
    with replacing(write(target)) as fresh:
        yield fresh


def write_table(answer: Result, out: str) -> None:
    """``--out`` of a table: JSON, or CSV with a byte-order mark, by which spreadsheets recognize UTF-8."""
    from vitmsn.export import csv_text

    json_wanted = out.endswith(".json")
    text = as_json(answer.data) + "\n" if json_wanted else escaped(csv_text(answer.header, answer.rows))
    with whole(out) as fresh:
        fresh.write_text(text, encoding="utf-8" if json_wanted else "utf-8-sig", newline="")


class PictureFiles:
    """Where pictures go: ``--out`` is a file for a single input, else a folder with a file for each."""

    def __init__(self, out: str | None, single: bool, what: str) -> None:
        self._out, self._what, self._taken = out, what, set[Path]()
        self._single = out is not None and single and Path(out).suffix != ""

    def save(self, picture: Image.Image, name: str) -> str | None:
        if self._out is None:
            return None
        target = Path(self._out) if self._single else Path(self._out) / f"{Path(name).stem}-{self._what}.png"
        stem, number = target.stem, 2
        while target in self._taken:  # the same name in another folder
            target, number = target.with_stem(f"{stem}-{number}"), number + 1
        self._taken.add(target)
        return save_picture(picture, target)


def save_picture(picture: Image.Image, target: str | Path) -> str:
    try:
        with whole(target) as fresh:
            picture.save(fresh)
    except ValueError as error:
        raise InputError(f"{target} is not the name of a picture file; end it in .png.") from error
    return str(target)
