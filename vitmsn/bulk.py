"""Millions of pictures on an existing engine: a class that it calls on a batch of rows, and readers of rows.

    rows = ray.data.read_parquet("s3://bucket/pictures/")            # columns "image" (bytes) and "id"
    workers = ray.data.ActorPoolStrategy(size=8)
    rows = rows.map_batches(Embed, fn_constructor_args=("facebook/vit-msn-small",), batch_size=64, compute=workers)
    rows.write_parquet("s3://bucket/out/")

    datasets.load_dataset(...).map(Embed(), batched=True, batch_size=64, num_proc=4)

``Embed`` and ``Classify`` are pickled with the model's name alone; each worker opens the model once, at its first
batch. A row's answer depends on its picture alone (but for the last bits of float32, which the size of a batch can
change), so any number of workers gives the same rows. A picture that cannot be decoded keeps its row, with the reason
in the column "error".
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitmsn import extras, limits
from vitmsn.errors import DataError, ImageError
from vitmsn.image import EXTENSIONS, Picture, decode

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

Columns = dict[str, Any]  # name -> a list or an array, one entry a row


class Embed:
    """A batch of columns -> the same with "embedding" ((rows, D) float32, zeros where there is an error) and "error".

    Args:
        model: as ``Encoder.from_pretrained`` takes it; name a Hub model with its commit, ``owner/name@commit``, so that
            all workers of all days take the same one.
        column: the column of pictures: encoded bytes, ``datasets``' {"bytes", "path"}, fsspec addresses or paths, PIL
            pictures or arrays.
        threads: of each worker; as many workers as cores want one.
        keep: whether the column of pictures stays among the columns of the answer.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        column: str = "image",
        device: str = "auto",
        dtype: str = "auto",
        backend: str = "auto",
        size: int | None = None,
        layernorm: bool = True,
        threads: int | None = 1,
        keep: bool = False,
    ) -> None:
        self.model, self.column, self.device, self.dtype, self.backend = model, column, device, dtype, backend
        self.size, self.layernorm, self.threads, self.keep = size, layernorm, threads, keep
        self._encoder: Encoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_encoder": None}

    @property
    def encoder(self) -> Encoder:
        """The model, opened at its first use in this process."""
        if self._encoder is None:
            from vitmsn.encoder import Encoder

            if self.threads:
                torch.set_num_threads(self.threads)
            self._encoder = Encoder.from_pretrained(
                self.model, device=self.device, dtype=self.dtype, backend=self.backend
            )
        return self._encoder

    def __call__(self, batch: Mapping[str, Any]) -> Columns:
        """Columns of a batch, as an engine gives them, with the answers beside them.

        Raises:
            DataError: the column of pictures is not there.
        """
        if self.column not in batch:
            raise DataError(f"There is no column {self.column!r}, only {', '.join(batch)}; name it with column=.")
        pictures, errors = [], []
        for value in batch[self.column]:
            try:
                pictures.append(_decoded(value))
                errors.append("")
            except (ImageError, DataError, OSError) as error:
                errors.append(str(error))
        columns = {name: values for name, values in batch.items() if self.keep or name != self.column}
        where = np.flatnonzero([not error for error in errors])
        return {**columns, **self.answers(pictures, where, len(errors)), "error": np.array(errors, dtype=object)}

    def answers(self, pictures: list[Picture], where: np.ndarray, rows: int) -> Columns:
        """The columns of the answer: ``pictures`` are those of the rows ``where``, of ``rows`` in all."""
        found = np.zeros((rows, self.encoder.config.hidden_size), np.float32)
        found[where] = self.encoder.embed(pictures, size=self.size, layernorm=self.layernorm)
        return {"embedding": found}


class Classify(Embed):
    """As ``Embed``, with the columns "label" (None where not sure), "closest", "probability", "kind" and "error".

    Raises MissingHeadError at the first batch of a model without a classifier.
    """

    def answers(self, pictures: list[Picture], where: np.ndarray, rows: int) -> Columns:
        embedded = self.encoder.embed(pictures, size=self.size)
        said = dict(zip(where.tolist(), self.encoder.classify_embeddings(embedded, top_k=1), strict=True))
        answers = [said.get(row) for row in range(rows)]

        def column(of: Any) -> np.ndarray:
            return np.array([None if one is None else of(one) for one in answers], dtype=object)

        probability = [np.nan if one is None else one.probabilities[0] for one in answers]
        return {
            "label": column(lambda one: one.label),
            "closest": column(lambda one: one.labels[0]),
            "probability": np.array(probability, np.float32),
            "kind": column(lambda one: one.kind),
        }


def _decoded(value: Any) -> Picture:
    """A picture in any of the forms that engines give."""
    if isinstance(value, Mapping):  # of `datasets`, with decoding off
        name = str(value.get("path") or "picture")
        if value.get("bytes") is not None:
            return decode(value["bytes"], name=PurePosixPath(name).name)
        value = name
    if isinstance(value, str) and "://" in value:
        return decode(read(value), name=PurePosixPath(value).name)
    return decode(value)


# --- rows ---------------------------------------------------------------------------------------------------------


def read(address: str) -> bytes:
    """The bytes of one picture at an fsspec address (``s3://``, ``hf://``, ``gs://``, ``https://``, ``memory://``).

    Raises:
        DataError: the address's file system is not installed, by name.
        ImageError: nothing can be read there, or more than a picture may have.
    """
    file_system, path = _opened(address)
    try:
        with file_system.open(path, "rb") as file:
            data: bytes = file.read(limits.MAX_IMAGE_BYTES + 1)
    except Exception as error:  # each file system has its own errors
        raise ImageError(f"{PurePosixPath(path).name} cannot be read ({error or type(error).__name__}).") from error
    return data  # the decoder refuses what is too large


def listing(address: str) -> list[str]:
    """The addresses of all files below a folder at an fsspec address, sorted, or of one file. Raises DataError."""
    file_system, path = _opened(address)
    try:
        found = sorted(file_system.find(path))
    except Exception as error:  # as above
        raise DataError(f"{address} cannot be listed ({error or type(error).__name__}); check the address.") from error
    if not found:
        raise DataError(f"{address} holds no files; give a folder of pictures, or one file.")
    return [str(file_system.unstrip_protocol(one)) for one in found]


def webdataset(address: str) -> Iterator[dict[str, Any]]:
    """The rows of a WebDataset tar at an fsspec address or a path: "__key__", and "image" with the encoded picture.

    Members of a sample share their name up to its first dot; the picture is the member with a picture's ending. Read
    from front to back, one sample in memory. Raises DataError for what is no tar.
    """
    file_system, path = _opened(address)
    try:
        with file_system.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                folder, name = PurePosixPath(member.name).parent, PurePosixPath(member.name).name
                stem, _, ending = name.partition(".")
                if not member.isfile() or ending.lower() not in ENDINGS:
                    continue
                opened = tar.extractfile(member)
                data = b"" if opened is None else opened.read(limits.MAX_IMAGE_BYTES + 1)
                yield {"__key__": str(folder / stem), "image": data}
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{address} is no tar that can be read to its end ({error}); make or fetch it again."
        ) from error


ENDINGS = (*EXTENSIONS, "img")  # of a picture in a WebDataset


def columns(rows: Iterable[Mapping[str, Any]], size: int = limits.MAX_BATCH) -> Iterator[Columns]:
    """Rows -> columns of ``size`` rows at a time, as ``Embed`` takes them."""
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield _columns(batch)
            batch = []
    if batch:
        yield _columns(batch)


def _columns(batch: list[Mapping[str, Any]]) -> Columns:
    return {name: [row[name] for row in batch] for name in batch[0]}


def _opened(address: str) -> tuple[Any, str]:
    """(file system, path in it) of an address."""
    with extras.named():
        import fsspec
    try:
        file_system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise DataError(f"{address} cannot be opened ({error}); install what it names.") from error
    return file_system, path
