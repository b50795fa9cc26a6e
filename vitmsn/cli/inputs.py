"""The inputs of a command: its options, the model that they name, and pictures from files and folders."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitmsn import names
from vitmsn.cli.output import Bar, say
from vitmsn.errors import DataError, ImageError

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder
    from vitmsn.image import Picture

Options = argparse.Namespace

RANDOM = "random"  # as --model: random weights of the embedded architecture


def load_encoder(options: Options) -> Encoder:
    """The model of ``--model``; without it the embedded one."""
    from vitmsn.encoder import Encoder

    if options.model == RANDOM:
        return Encoder.random(device=options.device, backend=options.backend)
    return Encoder.from_pretrained(options.model, device=options.device, dtype=options.dtype, backend=options.backend)


class Inputs:
    """The pictures of files and folders (with all below them), decoded a batch at a time.

    Undecodable files are skipped, reported on stderr and listed in ``skipped``.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.files = [file for path in paths for file in _files_of(Path(path))]
        self.skipped: list[dict[str, str]] = []

    def batches(self, size: int | None = None) -> Iterator[tuple[list[str], list[Picture]]]:
        """(names, pictures), some dozens at a time."""
        from vitmsn.image import ahead, batches

        bar = Bar("pictures")
        decoded = batches(((str(file), file) for file in self.files), self._refused, size=size)
        for batch in ahead(decoded) if len(self.files) > 1 else decoded:
            if batch.pictures:
                yield batch.keys, batch.pictures
            bar(batch.done, len(self.files))

    def each(self) -> Iterator[tuple[str, Picture]]:
        for [name], [picture] in self.batches(1):
            yield name, picture

    def _refused(self, file: str, error: ImageError) -> None:
        say(f"skipped {file}: {error}")
        self.skipped.append({"file": file, "reason": str(error)})


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    every = [Path(folder, name) for folder, _, found in os.walk(path) for name in found]
    ignored = {file: names.litter_in(file.relative_to(path).parts) for file in every}
    if said := names.ignored_note(name for name in ignored.values() if name):
        say(f"of {path.name or path}, {said}")
    files = sorted(file for file in every if not ignored[file])
    if not files:
        raise DataError(f"{path} holds no files; give a folder of pictures.")
    return files
