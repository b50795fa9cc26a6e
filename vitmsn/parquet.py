"""Large folders, part by part: pictures in, Parquet out; constant memory, resumable.

    embed(files, encoder, "vectors.parquet")        load("vectors.parquet") -> (files, embeddings)

The output is a folder of Parquet files, as pandas, DuckDB, Spark and `datasets` read it as one table. Each file covers
a fixed run of the inputs, is written to a temporary file and renamed when complete, and records its inputs in its own
header. The same call again writes the missing parts, and rewrites those with an input whose size or time changed, or
that was not a picture and now is one. Several processes share the parts by number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitmsn import extras
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError
from vitmsn.image import Picture, ahead, batches
from vitmsn.names import escaped

with extras.named():
    import pyarrow
    import pyarrow.parquet

Progress = Callable[[int, int], object]  # (inputs done, inputs in all), of this process
Table = Callable[[list[str], list[Picture]], pyarrow.Table]

PART = 1024  # inputs of one file; an interruption loses at most these
PART_NAME = re.compile(r"part-(\d{5})\.parquet")
HEADER = b"vitmsn"


@dataclass(frozen=True)
class Summary:
    """The result of a run; counts cover all parts there, those of earlier runs and other processes included."""

    pictures: int
    parts: int
    skipped: tuple[tuple[str, str], ...]  # (file, why)


def embed(
    files: Sequence[str],
    encoder: Encoder,
    out: str | os.PathLike[str],
    *,
    size: int | None = None,
    layernorm: bool = True,
    index: int = 0,
    count: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write columns ``file`` and ``embedding`` (D float32), one row for each file that is a picture, in their order.

    size, layernorm: as in ``Encoder.embed``. index, count: this process among those that share the work; each writes
    the parts whose number is its own modulo ``count``. Undecodable files are skipped and recorded, see ``summary``.
    Raises DataError where ``out`` holds something else, or parts of other files or of another model.
    """

    def table(names: list[str], pictures: list[Picture]) -> pyarrow.Table:
        rows = encoder.embed(pictures, size=size, layernorm=layernorm)
        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), rows.shape[1])
        return pyarrow.table({"file": names, "embedding": values})

    dim = encoder.config.hidden_size
    schema = pyarrow.schema([("file", pyarrow.string()), ("embedding", pyarrow.list_(pyarrow.float32(), dim))])
    made_by = ["embed", encoder.fingerprint, size, layernorm]
    _write(_Parts(files, out, made_by), schema, table, index, count, progress)


def classify(
    files: Sequence[str],
    encoder: Encoder,
    out: str | os.PathLike[str],
    *,
    top_k: int = 5,
    index: int = 0,
    count: int = 1,
    progress: Progress | None = None,
) -> None:
    """As ``embed``, with columns ``file``, ``label`` (null where ``reason`` is "not sure"),
    ``closest``, ``probability``, ``kind`` and the lists ``labels`` and
    ``probabilities`` of the ``top_k`` most probable classes. Raises MissingHeadError without a trained classifier.
    """
    encoder.class_probabilities(np.zeros((0, encoder.config.hidden_size), np.float32))  # raises without a head
    schema = pyarrow.schema(
        [
            ("file", pyarrow.string()),
            ("label", pyarrow.string()),
            ("reason", pyarrow.string()),
            ("closest", pyarrow.string()),
            ("probability", pyarrow.float32()),
            ("kind", pyarrow.string()),
            ("labels", pyarrow.list_(pyarrow.string())),
            ("probabilities", pyarrow.list_(pyarrow.float32())),
        ]
    )

    def table(names: list[str], pictures: list[Picture]) -> pyarrow.Table:
        rows = []
        for name, said in zip(names, encoder.classify(pictures, top_k=top_k), strict=True):
            best = said.label, said.reason, said.labels[0], said.probabilities[0], said.kind
            rows.append(dict(zip(schema.names, (name, *best, said.labels, said.probabilities), strict=True)))
        return pyarrow.Table.from_pylist(rows, schema=schema)

    made_by = ["classify", encoder.fingerprint, encoder.labels, top_k]
    _write(_Parts(files, out, made_by), schema, table, index, count, progress)


def summary(out: str | os.PathLike[str]) -> Summary:
    """The summary of a folder that ``embed`` or ``classify`` wrote."""
    pictures, skipped = 0, []
    found = sorted(Path(out).glob("part-*.parquet"))
    for path in found:
        pictures += pyarrow.parquet.read_metadata(path).num_rows
        skipped += [(str(file), str(why)) for file, why in _header(path)["skipped"]]
    return Summary(pictures, len(found), tuple(skipped))


def load(out: str | os.PathLike[str]) -> tuple[list[str], np.ndarray]:
    """(files, embeddings (N, D) float32) of a folder that ``embed`` wrote."""
    parts = [pyarrow.parquet.read_table(path) for path in sorted(Path(out).glob("part-*.parquet"))]
    if not parts or "embedding" not in parts[0].column_names:
        raise DataError(f"{out} holds no embeddings: give a folder that `embed` wrote.")
    whole = pyarrow.concat_tables(parts)
    column = whole["embedding"].combine_chunks()
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), column.type.list_size)
    return whole["file"].to_pylist(), rows


# --- parts ---------------------------------------------------------------------------------------------------------


class _Parts:
    """The files of an output: which are there, and whether they are of these inputs and this model."""

    def __init__(self, files: Sequence[str], out: str | os.PathLike[str], made_by: list[Any]) -> None:
        self.folder, self._files = Path(out), files
        self._made_by = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()
        self.total = math.ceil(len(files) / PART)
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{out} is a file; Parquet is written as a folder of parts: choose another name.")
        strange = [path.name for path in self.folder.glob("*") if not path.name.startswith(("part-", ".part-"))]
        if strange:
            raise DataError(f"{out} holds {strange[0]}, which is no part of it: choose an empty or new folder.")
        for path in self.folder.glob("part-*"):
            if not (found := PART_NAME.fullmatch(path.name)):
                raise DataError(f"{out} holds {path.name}, which is no part of it: choose an empty or new folder.")
            number = int(found[1])
            if number >= self.total or not _same(_header(path), self.header(number, [], "")):
                raise DataError(
                    f"{out} was made of other files, with another model or other options: choose another name, or "
                    "delete it."
                )

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:05}.parquet"

    def files(self, number: int) -> Sequence[str]:
        return self._files[number * PART : (number + 1) * PART]

    def header(self, number: int, skipped: list[list[str]], inputs: str) -> dict[str, Any]:
        digest = hashlib.sha256()
        for file in self.files(number):
            digest.update(f"{file}\0".encode("utf-8", "surrogateescape"))
        return {"made_by": self._made_by, "files": digest.hexdigest(), "skipped": skipped, "inputs": inputs}

    def inputs(self, number: int) -> str:
        """Size and time of every input of a part as they are now, in short."""
        digest = hashlib.sha256()
        for file in self.files(number):
            try:
                about = os.stat(file)
                digest.update(f"{about.st_size} {about.st_mtime_ns}\n".encode())
            except (OSError, ValueError):
                digest.update(b"not there\n")
        return digest.hexdigest()

    def done(self, number: int) -> bool:
        """Whether a part exists, is made of its inputs as they are now, and what it skipped still is not a picture."""
        path = self.path(number)
        if not path.exists():
            return False
        made = _header(path)
        if made.get("inputs") != self.inputs(number):
            return False
        skipped = {file for file, _ in made["skipped"]}
        again = ((file, Path(file)) for file in self.files(number) if escaped(file) in skipped)
        return not any(batch.pictures for batch in batches(again, lambda *_: None))


def _same(made: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two headers are of the same files by name, and of the same model and options."""
    return all(made.get(key) == now[key] for key in ("made_by", "files"))


def _header(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((pyarrow.parquet.read_metadata(path).metadata or {})[HEADER])
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is no part that was written here: choose another folder, or delete it.") from error
    if not isinstance(found, dict) or not isinstance(found.get("skipped"), list):
        raise DataError(f"{path} is no part that was written here: choose another folder, or delete it.")
    return found


def _write(
    parts: _Parts,
    schema: pyarrow.Schema,
    table: Table,
    index: int,
    count: int,
    progress: Progress | None,
) -> None:
    own = range(index, parts.total, count)
    total = sum(len(parts.files(number)) for number in own)
    try:
        parts.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{parts.folder} cannot be made ({error.strerror}): choose another place.") from error
    done = 0
    for number in own:
        target = parts.path(number)
        if parts.done(number):
            done += len(parts.files(number))
            continue
        fresh = parts.folder / f".part-{number:05}.{os.getpid()}"
        skipped: list[list[str]] = []
        inputs = parts.inputs(number)  # as they are before they are read
        try:
            with pyarrow.parquet.ParquetWriter(fresh, schema, compression="zstd") as writer:
                sources = ((file, Path(file)) for file in parts.files(number))
                decoded = batches(sources, lambda file, error: skipped.append([escaped(file), str(error)]))  # noqa: B023
                for batch in ahead(decoded):
                    if batch.pictures:
                        writer.write_table(table(list(map(escaped, batch.keys)), batch.pictures))
                    if progress:
                        progress(done + batch.done, total)
                writer.add_key_value_metadata({HEADER: json.dumps(parts.header(number, skipped, inputs)).encode()})
            os.replace(fresh, target)
        except OSError as error:
            raise DataError(f"{parts.folder} cannot be written ({error.strerror}): choose another place.") from error
        finally:
            with suppress(OSError):
                fresh.unlink()
        done += len(parts.files(number))
