"""What a command is given: its options, the model that they name, and pictures from files and folders."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitmsn.cli.output import Bar, say
from vitmsn.errors import DataError, ImageError

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder
    from vitmsn.image import Picture

Options = argparse.Namespace

RANDOM = "random"  # as --model: random weights of the embedded architecture
CHUNK = 64  # pictures decoded and encoded together


def load_encoder(options: Options, tuned: bool = False) -> Encoder:
    """What ``--model`` asks for; without it the embedded model, or ``tuned`` its twin, to tell classes apart."""
    from vitmsn.checkpoint import EMBEDDED_CLASSIFIER
    from vitmsn.encoder import Encoder

    if options.model == RANDOM:
        return Encoder.random(device=options.device)
    source = options.model or (EMBEDDED_CLASSIFIER if tuned else None)
    return Encoder.from_pretrained(source, device=options.device, dtype=options.dtype)


class Inputs:
    """The pictures of files and folders (with all below them), decoded a chunk at a time.

    What cannot be decoded is said on stderr, listed in ``skipped`` and left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.files = [file for name in names for file in _files_of(Path(name))]
        self.skipped: list[dict[str, str]] = []

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[list[str], list[Picture]]]:
        from vitmsn.image import decode

        names: list[str] = []
        pictures: list[Picture] = []
        bar = Bar("pictures")
        for done, file in enumerate(self.files, start=1):
            try:
                pictures.append(decode(file))
                names.append(str(file))
            except ImageError as error:
                say(f"skipped {file}: {error}")
                self.skipped.append({"file": str(file), "reason": str(error)})
            if pictures and (len(pictures) == size or done == len(self.files)):
                yield names, pictures
                names, pictures = [], []
            bar(done, len(self.files))

    def each(self) -> Iterator[tuple[str, Picture]]:
        for names, pictures in self.chunks(1):
            yield names[0], pictures[0]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
    if not found:
        raise DataError(f"{path} holds no files; give a folder of pictures.")
    return found
