"""Data sets as encoded pictures with labels: a folder, parquet files, or a data set of the hub.

    open_data("pets/") -> DataSet -> Record(id, data, label), in an order that is the same every time

Pictures stay encoded; only ``image.decode`` decodes them. Parquet files and hub data sets are read by Hugging Face's
``datasets``, which is imported when it is needed; the files of a folder are read as they are.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vitmsn import extras, limits
from vitmsn.errors import DataError, ImageError, MissingPackageError
from vitmsn.image import EXTENSIONS, SNIFFED, ViTMSNImageProcessor, decode, is_picture
from vitmsn.names import SPLITS, escaped, litter, litter_in, split_folders

UNLABELLED = -1  # in ``DataSet.labels``; a record says ``None``


class Record(NamedTuple):
    """One picture: ``data`` are its encoded bytes, ``label`` its place in ``classes`` (``None`` when it has none)."""

    id: str
    data: bytes
    label: int | None


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """Pictures and labels, read anew at each iteration and never held in memory.

    ``classes``: the names that labels are places in; empty when nothing is labelled. ``labels``: (N,) int64 of all
    records in order, -1 without one. ``skipped``: files skipped on opening, and why ("a/notes.txt: ...").
    """

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray
    read: Callable[[np.ndarray], Iterator[Record]]  # rows of the source, ascending -> their records
    find: Callable[[np.ndarray], Iterator[Record]]  # the same of rows in any order, without reading what is between
    rows: np.ndarray  # (N,) rows of the source that belong to this data set, ascending
    skipped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"DataSet({self.name!r}, {len(self)} pictures, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Record]:
        return self.read(self.rows)

    def take(self, indices: Iterable[int]) -> Iterator[Record]:
        """The records at these places (0 to N - 1), in this order: random access, as training from disk needs it.

        Parquet files are first copied into the cache of ``datasets``, once, as memory-mapped tables.
        """
        return self.find(self.rows[self._places(indices)])

    def _places(self, indices: Iterable[int]) -> np.ndarray:
        places = np.fromiter(indices, dtype=np.int64)
        if len(places) and not (places.min() >= 0 and places.max() < len(self)):
            raise DataError(f"{self.name} has {len(self)} pictures: indices from 0 to {len(self) - 1} are needed.")
        return places

    def subset(self, indices: Iterable[int]) -> DataSet:
        """The records at these places (0 to N - 1), in the data set's own order, each once."""
        places = np.unique(self._places(indices))
        return replace(self, rows=self.rows[places], labels=self.labels[places])

    def split(self, fraction: float, seed: int = 0, by_class: bool = True) -> tuple[DataSet, DataSet]:
        """(the rest, the held out): ``fraction`` of the pictures, at least one, drawn by ``seed``; both keep the order.

        by_class: the same share of every class, rounded to whole pictures, and never its last one; warns where that
        gives fewer than asked for. Otherwise at random, as for self-supervised training. Raises DataError where no
        picture can be held out.
        """
        if not 0 < fraction < 1:
            raise DataError(f"a fraction of {fraction} cannot be held out: give a number between 0 and 1.")
        if len(self) < 2:
            raise DataError(f"{self.name} has {len(self)} picture: at least two are needed to hold one out.")
        generator = np.random.default_rng(seed)
        wanted = min(max(1, round(fraction * len(self))), len(self) - 1)
        order = generator.permutation(len(self))
        if by_class:
            order = order[self._held_out(self.labels[order], fraction, wanted)]
        held = np.sort(order[:wanted])
        if not len(held):
            raise DataError(
                f"{self.name} has one picture in each class, so that none can be held out: add pictures, or name "
                "others to measure on."
            )
        if len(held) < wanted:
            few = f"{len(held)} of {len(self)} pictures of {self.name} are held out, not {wanted}"
            warnings.warn(f"{few}: each class keeps at least one to learn from.", stacklevel=2)
        return self.subset(np.setdiff1d(np.arange(len(self)), held)), self.subset(held)

    @staticmethod
    def _held_out(labels: np.ndarray, fraction: float, wanted: int) -> np.ndarray:
        """Which of the rows with these labels are held out; rounding is by largest remainders."""
        classes, of_row, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        share = np.minimum(fraction * sizes, sizes - 1)
        counts = np.floor(share).astype(np.int64)
        first = np.full(len(classes), len(labels))
        np.minimum.at(first, of_row, np.arange(len(labels)))  # equal remainders: in random order
        for place in np.lexsort((first, counts - share)):
            if counts.sum() < wanted and counts[place] < sizes[place] - 1:
                counts[place] += 1
        while counts.sum() < wanted and (counts < sizes - 1).any():  # classes of one picture leave theirs to others
            counts[np.argmax(sizes - 1 - counts)] += 1
        seen = np.zeros(len(classes), dtype=np.int64)
        chosen = []
        for row, place in enumerate(of_row):
            if seen[place] < counts[place]:
                chosen.append(row)
            seen[place] += 1
        return np.array(chosen, dtype=np.int64)


def open_data(source: str | os.PathLike[str], split: str | None = None) -> DataSet:
    """Open a data set; nothing but names and labels is read yet.

    ``source`` is a folder whose sub-folders are the classes, whatever is nested in them (without any, its pictures are
    unlabelled); a folder, file or pattern (``"train-*.parquet"``) of parquet as ``datasets`` writes it; or the
    ``owner/name`` of a data set on the hub, downloaded into the cache of ``datasets``. ``split`` ("train",
    "validation", "test") chooses among the splits there are; by default "train", or the only one. Raises ``DataError``
    for what is not there or cannot be understood.
    """
    text = os.fspath(source)
    path = Path(text)
    try:
        if path.is_dir():
            parquet = sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])
            return _open_parquet(parquet, text, split) if parquet else _open_folder(path, text, split)
        if path.suffix == ".parquet" and (path.is_file() or glob.has_magic(text)):
            found = [path] if path.is_file() else sorted(Path(name) for name in glob.glob(text))
            if not found:
                raise DataError(f"{text} matches no file: check the pattern.")
            return _open_parquet(found, text, split)
        if path.exists():
            raise DataError(f"{text} is a file: a folder of pictures, parquet files or a hub data set are needed.")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{text} cannot be read ({_reason(error)}): check the path and its permissions.") from error
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text):
        return _open_hub(text, split)
    raise DataError(f"{text} is not there: give a folder, parquet files or the owner/name of a hub data set.")


def to_uint8(
    dataset: DataSet, side: int, progress: Callable[[int, int], object] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole data set in memory, for training: (N, 3, side, side) uint8 and (N,) int64 labels, -1 without one.

    Pictures are decoded and squashed as the model's own preprocessing does. Those that cannot be decoded are left out,
    with one warning that names them. ``progress(done, total)`` is called after each.
    """
    if not len(dataset):
        raise DataError(f"{dataset.name} has no pictures.")
    processor = ViTMSNImageProcessor(side)
    pixels = np.empty((len(dataset), 3, side, side), dtype=np.uint8)
    labels = np.empty(len(dataset), dtype=np.int64)
    kept, bad = 0, []
    for done, record in enumerate(dataset, start=1):
        try:
            view = processor.view(decode(record.data, name=record.id))
        except ImageError as error:
            bad.append(str(error))
        else:
            pixels[kept] = np.asarray(view).transpose(2, 0, 1)
            labels[kept] = UNLABELLED if record.label is None else record.label
            kept += 1
        if progress is not None:
            progress(done, len(dataset))
    if not kept:
        raise DataError(f"{dataset.name} has no picture that can be decoded{': ' + bad[0] if bad else '.'}")
    if bad:
        few = " ".join(bad[:5])
        warnings.warn(f"{len(bad)} of {len(dataset)} pictures of {dataset.name} are left out: {few}", stacklevel=2)
    return torch.from_numpy(pixels[:kept]), torch.from_numpy(labels[:kept])


# -- Splits -----------------------------------------------------------------------------------------------------------


def _choose(splits: Sequence[str], wanted: str | None, text: str) -> str:
    there = ", ".join(sorted(splits))
    if wanted is None:
        if "train" not in splits and len(splits) > 1:
            raise DataError(f"{text} has the splits {there}: say which with split=.")
        return "train" if "train" in splits else splits[0]
    wanted = SPLITS.get(wanted.lower(), wanted)
    if wanted not in splits:
        raise DataError(f"{text} has no split {wanted!r}: choose one of {there}.")
    return wanted


# -- Folders ----------------------------------------------------------------------------------------------------------

# a file with another ending is a picture if its first bytes are a picture's
_EXTENSIONS = tuple(f".{extension}" for extension in EXTENSIONS)


def _open_folder(root: Path, text: str, split: str | None) -> DataSet:
    folders = _visible_folders(root)
    skipped: list[str] = []
    filled = [folder for folder in folders if any(folder.iterdir())]
    found = split_folders([folder.name for folder in filled])
    if found and all(_visible_folders(folder) for folder in filled):
        chosen = _choose(list(found), split, text)
        skipped += [f"{found[other]}: the split {chosen} was chosen" for other in sorted(found) if other != chosen]
        root = root / found[chosen]
        folders = _visible_folders(root)
    elif split is not None:
        raise DataError(f"{text} has no splits (folders named train, validation or test): leave split out.")

    pictures: dict[str, list[str]] = {}  # top folder -> paths below the root
    for name in _files(root):
        top, *below = name.split("/")
        if litter_in((top, *below)):
            skipped.append(f"{name}: hidden, or of a system")
        elif os.path.splitext(name)[1].lower() not in _EXTENSIONS and not _begins_as_picture(root / name):
            skipped.append(f"{name}: not a picture")
        else:
            pictures.setdefault(top if below else "", []).append(name)
    loose = pictures.pop("", [])
    if pictures:
        skipped += [f"{name}: in no class folder" for name in loose]
        skipped += [f"{folder.name}: no pictures" for folder in folders if folder.name not in pictures]
    elif loose:
        return _of_files(root, text, loose, np.full(len(loose), UNLABELLED), (), skipped)
    else:
        raise DataError(f"{text} holds no pictures: put them in one folder per class, as .jpg or .png.")
    classes = tuple(sorted(pictures))
    labels = np.repeat(np.arange(len(classes)), [len(pictures[name]) for name in classes])
    return _of_files(root, text, [path for name in classes for path in pictures[name]], labels, classes, skipped)


def _begins_as_picture(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return is_picture(file.read(SNIFFED))
    except OSError:
        return False


def _visible_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not litter(path.name, is_folder=True))


def _files(root: Path) -> list[str]:
    """All files below ``root``, as sorted paths with slashes; links to folders are not followed."""

    def complain(error: OSError) -> None:
        raise error

    names = []
    for folder, _, files in os.walk(root, onerror=complain):
        names += [Path(folder, file).relative_to(root).as_posix() for file in files]
    return sorted(names)


def _of_files(
    root: Path, text: str, names: list[str], labels: np.ndarray, classes: tuple[str, ...], skipped: list[str]
) -> DataSet:
    def read(rows: np.ndarray) -> Iterator[Record]:
        for row in rows:
            try:
                with open(root / names[row], "rb") as file:
                    data = file.read(limits.MAX_IMAGE_BYTES + 1)  # a byte too many, so that the decoder refuses
            except OSError as error:
                raise DataError(f"{root / names[row]} cannot be read ({_reason(error)}): check the file.") from error
            yield Record(escaped(names[row]), data, _label(labels[row]))

    shown, said = tuple(map(escaped, classes)), tuple(map(escaped, skipped))
    return DataSet(escaped(text), shown, labels.astype(np.int64), read, read, np.arange(len(names)), said)


# -- Parquet and the hub, through ``datasets`` ------------------------------------------------------------------------

_IMAGE_COLUMNS = ("image", "img", "picture", "photo")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")
_BATCH = 256  # rows looked at in one go


def _open_parquet(paths: list[Path], text: str, split: str | None) -> DataSet:
    splits: dict[str, list[str]] = {}
    for path in paths:
        words = re.split(r"[^a-z]+", f"{path.parent.name}/{path.stem}".lower())
        name = next((SPLITS[word] for word in reversed(words) if word in SPLITS), "train")
        splits.setdefault(name, []).append(str(path))
    files = splits[_choose(list(splits), split, text)]

    def load(columns: list[str] | None = None) -> Any:
        with tempfile.TemporaryDirectory() as locks:  # nothing is cached: the files are streamed
            return load_dataset(
                "parquet", data_files=files, split="train", streaming=True, columns=columns, cache_dir=locks
            )

    def indexed() -> Any:
        return load_dataset("parquet", data_files=files, split="train")

    with _datasets(text), extras.named():
        from datasets import load_dataset

        rows = load()
        image, label = _columns(rows.features, text)
        others = [name for name in rows.features if name != image]
        counted = label or next(iter(others), image)  # one small column is enough to count the rows
        return _of_rows(rows, image, label, load([counted]), counted, text, indexed)


def _open_hub(name: str, split: str | None) -> DataSet:
    with _datasets(f"{name} is no file or folder here, and as a data set of the hub it"), extras.named():
        from datasets import load_dataset

        rows = load_dataset(name, split=split or "train")
        image, label = _columns(rows.features, name)
        counted = label or image
        return _of_rows(rows, image, label, rows.select_columns([counted]), counted, name, lambda: rows)


@contextmanager
def _datasets(what: str) -> Iterator[None]:
    """Errors of the many libraries behind ``datasets`` become one sentence."""
    try:
        yield
    except (DataError, MissingPackageError):
        raise
    except Exception as error:
        raise DataError(f"{what} cannot be read ({_reason(error)}): check the name, files and network.") from error


def _columns(features: Any, text: str) -> tuple[str, str | None]:
    """The names of the column of pictures and of the column of labels."""
    import datasets

    def first(names: list[str], preferred: Sequence[str]) -> str | None:
        return next((name for name in (*preferred, *names) if name in names), None)

    def is_image(feature: Any) -> bool:
        return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature)

    def is_plain(feature: Any) -> bool:
        return isinstance(feature, datasets.Value) and feature.dtype.startswith(
            ("int", "uint", "string", "large_string")
        )

    image = first([name for name, feature in features.items() if is_image(feature)], _IMAGE_COLUMNS)
    if image is None:
        there = ", ".join(features)
        raise DataError(f"{text} has the columns {there}: one of pictures (a struct of bytes and path) is needed.")
    named = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name in _LABEL_COLUMNS if is_plain(features.get(name))]
    return image, first(named, _LABEL_COLUMNS) or first(plain, _LABEL_COLUMNS)


def _of_rows(
    rows: Any, image: str, label: str | None, counted: Any, column: str, text: str, indexed: Callable[[], Any]
) -> DataSet:
    """``rows``: a data set of ``datasets``; ``counted``: its one ``column`` to count by, the labels if any;
    ``indexed``: gives the same rows in a form for random access."""
    from datasets import ClassLabel, Image

    def encoded(rows: Any) -> Any:
        """Tables with the pictures' encoded bytes."""
        if isinstance(rows.features[image], Image):
            rows = rows.cast_column(image, Image(decode=False))
        return rows.with_format("arrow")

    tables = counted.with_format("arrow").iter(batch_size=10_000)
    if label is None:
        classes: tuple[str, ...] = ()
        labels = np.full(sum(len(table) for table in tables), UNLABELLED, dtype=np.int64)
    else:
        values = [value for table in tables for value in table[column].to_pylist()]
        feature = rows.features[label]
        if isinstance(feature, ClassLabel):
            classes = tuple(feature.names)
            labels = np.array([UNLABELLED if value is None else max(value, UNLABELLED) for value in values], np.int64)
        else:
            known = sorted({value for value in values if value is not None})
            places = {value: place for place, value in enumerate(known)}
            classes = tuple(str(value) for value in known)
            labels = np.array([places.get(value, UNLABELLED) for value in values], np.int64)
        if len(labels) and labels.max() >= len(classes):
            raise DataError(f"{text} has the label {labels.max()} but {len(classes)} class names: correct the file.")
    if not len(labels):
        raise DataError(f"{text} holds no pictures.")
    rows = encoded(rows)

    def read(wanted: np.ndarray) -> Iterator[Record]:
        start = 0
        with _datasets(text):
            for table in rows.iter(batch_size=_BATCH):
                here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + len(table))]
                for row, value in zip(here, table[image].take(here - start).to_pylist(), strict=True):
                    yield _record(row, value, _label(labels[row]), text)
                start += len(table)
                if not len(wanted) or start > wanted[-1]:
                    return

    table_of = cache(lambda: encoded(indexed()))

    def find(wanted: np.ndarray) -> Iterator[Record]:
        with _datasets(text):
            for row, value in zip(wanted, table_of()[wanted.tolist()][image].to_pylist(), strict=True):
                yield _record(row, value, _label(labels[row]), text)

    return DataSet(text, classes, labels, read, find, np.arange(len(labels)))


def _record(row: int, value: dict[str, Any] | None, label: int | None, text: str) -> Record:
    """Paths in a table are not followed: they could name any file of this machine."""
    value = value or {}
    if value.get("bytes") is None:
        raise DataError(f"{text} has no picture in row {row}, but at most a path: store the pictures' bytes in it.")
    path = os.path.basename(value.get("path") or "")
    return Record(f"{row} {path}".strip(), value["bytes"], label)


def _label(value: int) -> int | None:
    return None if value == UNLABELLED else int(value)


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without the full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0].rstrip(".:")
