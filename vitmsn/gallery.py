"""Labelled examples: from folders, zips and visitors into a gallery, and to one file and back.

    read_zip | read_folder -> entries (label, name, bytes) -> Gallery.extend -> X, y
    Gallery.save -> one zip (gallery.json, embeddings.safetensors, pictures/) -> Gallery.open

Nothing that comes in is trusted. An archive is judged on its table of contents before anything is unpacked, is never
unpacked to disk, and is counted while it is read. A gallery keeps embeddings and pictures of at most 256 pixels that it
encoded itself, never the upload. The zips people make and the bundles we make go through the same door.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import struct
import tempfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from vitmsn import limits
from vitmsn.errors import ArchiveError, GalleryError, ImageError, ViTMSNError
from vitmsn.image import Picture, decode

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

Progress = Callable[[int, int], object]  # (done, total)

CHUNK = 64  # pictures decoded and embedded together,
CHUNK_PIXELS = 50_000_000  # or fewer when they are large: all are in memory at once
JPEG_QUALITY = 85
IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}  # what systems leave beside people's files
SPARED_BYTES = limits.MIB  # entries up to here may be packed as tightly as they like


# --- names ---------------------------------------------------------------------------------------------------------

# Letters by their category, yet blank on the screen: Hangul fillers, the Khmer inherent vowels, Braille's empty cell.
BLANK = "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
MARKS_PER_LETTER = 4  # accents stacked on one letter; more paint over the lines above


def clean_name(text: str) -> str:
    """A class or file name fit to be shown: NFC, one line, visible, at most ``limits.MAX_NAME_LENGTH`` letters.

    Control, bidi and zero-width characters go, runs of spaces become one, accents do not count as letters. It is plain
    text, not HTML, CSV or a path: whoever writes those escapes. Raises GalleryError when nothing visible is left.
    """
    letters: list[str] = []
    marks = 0
    for character in " ".join(unicodedata.normalize("NFC", text).split()):
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or character in BLANK:
            continue
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if not marks:
            letters.append(character)
        elif letters and letters[-1] != " " and marks <= MARKS_PER_LETTER:
            letters[-1] += character
    name = " ".join("".join(letters[: limits.MAX_NAME_LENGTH]).split())
    if not name:
        raise GalleryError("a name needs at least one visible character: type a word.")
    return name


def _key(name: str) -> str:
    """Names that people would take for the same one."""
    return unicodedata.normalize("NFC", name).casefold()


# --- entries -------------------------------------------------------------------------------------------------------


class Skipped(NamedTuple):
    """A file that was left out, and why, in words."""

    name: str
    reason: str


class Entry(NamedTuple):
    """One file of a folder or an archive. ``label`` is its class, None outside all class folders."""

    label: str | None
    name: str
    data: bytes


@dataclass
class Report:
    """What there is to say about a folder or an archive; complete when its last entry was read."""

    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # "the folder cat was joined with Cat"
    read: int = 0  # entries given out


class _File(NamedTuple):
    """A file seen, not yet read: its path in parts, and what gets its bytes or says why not."""

    parts: tuple[str, ...]
    load: Callable[[], bytes | str]


class Entries(Iterator[Entry]):
    """The files of a folder or an archive, one at a time, each folder a class. ``report`` is complete after the last.

    ``total`` counts all files to come, for progress. Whoever breaks off early uses ``with``, or ``close()``.
    """

    def __init__(self, files: Sequence[_File], folders: Iterable[tuple[str, ...]], archive: _Archive | None) -> None:
        self.report = Report()
        self.total = len(files)
        self._archive = archive
        self._stream = self._read(files, list(folders))

    def __next__(self) -> Entry:
        try:
            return next(self._stream)
        except BaseException:  # the end, or a fault
            self.close()
            raise

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the archive; after the last entry it is done already."""
        self._stream.close()
        if self._archive is not None:
            self._archive.close()

    def _read(self, files: Sequence[_File], folders: list[tuple[str, ...]]) -> Generator[Entry, None, None]:
        depth = _wrappers([file.parts for file in files])
        filled = {file.parts[: depth + 1] for file in files if len(file.parts) > depth + 1}
        for folder in folders:
            if len(folder) == depth + 1 and folder not in filled:
                self.report.skipped.append(Skipped(_shown(folder[-1]), "the folder is empty"))
        labels, names = _Labels(self.report), _Names()
        for file in files:
            name = _shown(file.parts[-1])
            try:
                label = labels(file.parts[depth]) if len(file.parts) > depth + 1 else None
            except GalleryError:
                self.report.skipped.append(Skipped(name, "the name of its folder has no visible character"))
                continue
            data = file.load()
            if isinstance(data, str):
                self.report.skipped.append(Skipped(name, data))
                continue
            self.report.read += 1
            yield Entry(label, names(label, name), data)


class _Labels:
    """Folders to classes: folders whose names people would take for the same one become one class, and it is said."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._of_folder: dict[str, str] = {}
        self._of_key: dict[str, str] = {}

    def __call__(self, folder: str) -> str:
        if folder not in self._of_folder:
            label = clean_name(folder)
            if first := self._of_key.get(_key(label)):
                self._report.notes.append(f"the folder {label} was joined with {first}")
            self._of_folder[folder] = self._of_key.setdefault(_key(label), label)
        return self._of_folder[folder]


class _Names:
    """File names made different within their class: "a.jpg", "a (2).jpg"."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str | None, str], int] = {}  # -> how often it was asked for

    def __call__(self, label: str | None, name: str) -> str:
        path, free = PurePosixPath(name), name
        number = self._taken.get((label, _key(name)), 0)
        while (label, _key(free)) in self._taken:
            number += 1
            tail = f" ({number}){path.suffix}"
            free = path.stem[: limits.MAX_NAME_LENGTH - len(tail)] + tail
        self._taken[label, _key(name)] = max(number, 1)
        self._taken[label, _key(free)] = 1
        return free


def _shown(name: str) -> str:
    try:
        return clean_name(name)
    except GalleryError:
        return "a file without a name"


def _wrappers(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders are wrapped around the class folders: a zip of one folder of folders has one."""
    depth = 0
    while True:
        inside = [path for path in paths if len(path) > depth + 1]
        if len({path[depth] for path in inside}) != 1 or all(len(path) == depth + 2 for path in inside):
            return depth
        depth += 1


def _ignored(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") or part.casefold() in IGNORED for part in parts)


def read_folder(path: str | os.PathLike[str]) -> Entries:
    """The files below a folder, sub-folders as classes, in the order of their names; links are not followed.

    Raises GalleryError when the folder is not there or holds too many files.
    """
    root = Path(path)
    files: list[_File] = []
    folders: list[tuple[str, ...]] = []

    def fail(error: OSError) -> None:
        raise GalleryError(f"{_shown(root.name)} cannot be read ({error.strerror}): give the path of a folder.")

    def load(file: str) -> bytes | str:
        try:
            if not stat.S_ISREG(os.lstat(file).st_mode):
                return "a link or a device, not a file"
            with open(file, "rb") as stream:
                data = stream.read(limits.MAX_IMAGE_BYTES + 1)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return data if len(data) <= limits.MAX_IMAGE_BYTES else _too_large()

    for folder, below, names in os.walk(root, onerror=fail):
        below[:] = sorted(name for name in below if not _ignored([name]))
        parts = Path(folder).relative_to(root).parts
        folders.append(parts)
        kept = (name for name in sorted(names) if not _ignored([name]))
        files.extend(_File((*parts, name), partial(load, os.path.join(folder, name))) for name in kept)
        if len(files) > limits.MAX_ARCHIVE_ENTRIES:
            raise GalleryError(
                f"{_shown(root.name)} holds more than {limits.MAX_ARCHIVE_ENTRIES} files: give a folder with fewer."
            )
    return Entries(files, folders, None)


def read_zip(source: bytes | str | os.PathLike[str]) -> Entries:
    """The files of a zip, folders as classes; one folder around them all is looked through.

    ``source`` is a path or the zip's bytes. Nothing is written to disk, and the bounds of ``limits`` hold for what is
    really unpacked. Files that are merely too large or not files are skipped and reported. Raises ArchiveError, here or
    while reading, when the zip is damaged, locked, packed in an unusual way, too large, or built to do harm.
    """
    archive = _Archive(source)
    files: list[_File] = []
    folders: list[tuple[str, ...]] = []
    for info in archive.infos:
        parts = archive.parts(info)
        if parts and not _ignored(parts):
            if info.filename.endswith(("/", "\\")):
                folders.append(parts)
            else:
                files.append(_File(parts, partial(archive.load, info, limits.MAX_IMAGE_BYTES)))
    return Entries(files, folders, archive)


def _too_large() -> str:
    return f"larger than {limits.MAX_IMAGE_BYTES / limits.MIB:g} MiB"


# --- archives ------------------------------------------------------------------------------------------------------

FEWER = "split it, or send fewer or smaller pictures"
NESTED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".xz", ".bz2")


class _Guarded:
    """A file that gives out at most a table of contents at a time, however large the archive says that its own is."""

    def __init__(self, file: IO[bytes], size: int, shown: str) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file, self._size, self._shown = file, size, shown

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        wanted = left if size < 0 else min(size, left)
        if wanted > 512 * limits.MAX_ARCHIVE_ENTRIES + 2**17:
            raise ArchiveError(f"{self._shown} has an enormous table of contents: {FEWER}.")
        return self._file.read(wanted)


class _Archive:
    """A zip judged on its table of contents, then unpacked entry by entry in memory, counting bytes and seconds."""

    def __init__(self, source: bytes | str | os.PathLike[str]) -> None:
        self.shown = "the zip" if isinstance(source, bytes) else _shown(Path(source).name)
        self._unpacked, self._seconds = 0, 0.0
        try:
            self._file: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise ArchiveError(f"{self.shown} cannot be read ({reason}): give the path of a zip.") from None
        try:
            size = self._file.seek(0, os.SEEK_END)
            if size > limits.MAX_ARCHIVE_BYTES:
                most = limits.MAX_ARCHIVE_BYTES / limits.MIB
                raise ArchiveError(f"{self.shown} is larger than {most:g} MiB: {FEWER}.")
            with self._faults("its table of contents"):
                self._zip = zipfile.ZipFile(cast(Any, _Guarded(self._file, size, self.shown)))
            self.infos = self._zip.infolist()
            self._judge(self._zip.start_dir)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def _judge(self, end: int) -> None:
        if len(self.infos) > limits.MAX_ARCHIVE_ENTRIES:
            raise ArchiveError(
                f"{self.shown} holds {len(self.infos)} files; at most {limits.MAX_ARCHIVE_ENTRIES} are taken: {FEWER}."
            )
        reached = 0
        for info in sorted(self.infos, key=lambda info: info.header_offset):
            parts = self.parts(info)
            name = _shown("/".join(parts))
            if info.flag_bits & 0x41:
                raise ArchiveError(f"{self.shown} is locked with a password ({name}): make it again without one.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"{self.shown} is packed in an unusual way ({name}): make an ordinary zip.")
            if parts and not _ignored(parts) and parts[-1].casefold().endswith(NESTED) and not info.is_dir():
                raise ArchiveError(f"{self.shown} holds another archive ({name}): unpack that one first.")
            if info.header_offset < reached:
                raise ArchiveError(f"{self.shown} holds files that overlap ({name}), as only a forged zip does.")
            reached = info.header_offset + 30 + info.compress_size
        if reached > end:
            raise ArchiveError(f"{self.shown} ends before its files do: it is incomplete, make or send it again.")
        sizes = (info.file_size for info in self.infos)
        if sum(size for size in sizes if size <= limits.MAX_IMAGE_BYTES) > limits.MAX_UNPACKED_BYTES:
            raise self._too_much()

    def _too_much(self) -> ArchiveError:
        most = limits.MAX_UNPACKED_BYTES / limits.MIB
        return ArchiveError(f"{self.shown} unpacks to more than {most:g} MiB: {FEWER}.")

    def parts(self, info: zipfile.ZipInfo) -> tuple[str, ...]:
        """The path of an entry, in NFC, refused when it points out of the archive."""
        name = info.filename
        if not info.flag_bits & 0x800:  # not said to be UTF-8, though most systems write just that
            with suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        name = unicodedata.normalize("NFC", name).replace("\\", "/")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:/", name):
            raise ArchiveError(f"{self.shown} holds a file that points outside of it ({_shown(name)}): make it again.")
        return parts

    def load(self, info: zipfile.ZipInfo, most: int) -> bytes | str:
        """The bytes of an entry, or why it is left out."""
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            return "a link or a device, not a file"
        if info.file_size > most:
            return f"larger than {most / limits.MIB:g} MiB"
        if info.file_size > max(SPARED_BYTES, limits.MAX_COMPRESSION_RATIO * info.compress_size):
            return f"it unpacks to more than {limits.MAX_COMPRESSION_RATIO} times its size"
        started = time.monotonic()
        pieces = []
        with self._faults(_shown(info.filename)), self._zip.open(info) as stream:
            while piece := stream.read(2**18):  # never more than the table of contents said: zipfile stops there
                pieces.append(piece)
                self._unpacked += len(piece)
                if self._unpacked > limits.MAX_UNPACKED_BYTES:
                    raise self._too_much()
                if self._seconds + time.monotonic() - started > limits.ARCHIVE_SECONDS:
                    raise ArchiveError(f"{self.shown} takes more than {limits.ARCHIVE_SECONDS} s to unpack: {FEWER}.")
            if sum(map(len, pieces)) != info.file_size:
                raise zipfile.BadZipFile("shorter than its table of contents says")
        self._seconds += time.monotonic() - started
        return b"".join(pieces)

    @contextmanager
    def _faults(self, where: str) -> Iterator[None]:
        """Whatever zipfile stumbles over leaves as an ArchiveError that names the place and the fault."""
        try:
            yield
        except ViTMSNError:
            raise
        except UnicodeError:
            fault = "a name that is not valid text"
        except (NotImplementedError, RuntimeError) as error:
            fault = f"something unusual: {_shown(str(error))}"
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError) as error:
            fault = _shown(str(error))
        else:
            return
        raise ArchiveError(f"{self.shown} is damaged or not a zip, in {where} ({fault}): make or send it again.")


# --- the gallery ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Example:
    """One labelled picture: what is kept of it."""

    id: str  # stable: moving, renaming, embedding again and saving keep it
    label: str
    name: str
    digest: str  # of the pixels that were sent, hex
    thumbnail: bytes  # JPEG, longer side at most limits.THUMBNAIL_SIDE, encoded here
    embedding: NDArray[np.float32]  # (D,)
    enabled: bool = True  # False: kept, but left out of X and y

    @property
    def nbytes(self) -> int:
        return len(self.thumbnail) + self.embedding.nbytes

    def picture(self) -> Image.Image:
        """The thumbnail as a PIL image."""
        return decode(self.thumbnail, name=self.name).rgb


@dataclass(frozen=True)
class Added:
    """What became of pictures that were sent: the ids they got, and those left out."""

    ids: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class Gallery:
    """A visitor's labelled examples, embedded by one model. Classes and examples keep the order of their arrival.

    Class names that differ only in case are the same class. What would go beyond ``limits.MAX_EXAMPLES``,
    ``MAX_CLASSES`` or ``GALLERY_BYTES`` raises GalleryError and changes nothing. For one thread at a time.

    Attributes: ``model`` and ``fingerprint`` of the encoder that made the embeddings; ``settings``, a dict of plain
    values that is saved along.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.model: str = encoder.name
        self.fingerprint: str = encoder.fingerprint
        self.settings: dict[str, Any] = {}
        self._classes: dict[str, str] = {}  # key -> label
        self._examples: dict[str, Example] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, id: str) -> Example:
        try:
            return self._examples[id]
        except KeyError:
            raise GalleryError(f"there is no example {_shown(str(id))}: it was removed, choose another one.") from None

    @property
    def examples(self) -> list[Example]:
        """All examples, those not enabled included."""
        return list(self._examples.values())

    @property
    def classes(self) -> list[str]:
        """All classes, empty ones included."""
        return list(self._classes.values())

    @property
    def enabled(self) -> list[Example]:
        """The examples of X and y, in their order."""
        return [example for example in self._examples.values() if example.enabled]

    @property
    def X(self) -> NDArray[np.float32]:
        """Embeddings (N, D) of the enabled examples; (0, 0) when there is none."""
        rows = [example.embedding for example in self.enabled]
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    @property
    def y(self) -> NDArray[np.str_]:
        """Labels (N,) of the enabled examples."""
        return np.array([example.label for example in self.enabled], dtype=np.str_)

    @property
    def counts(self) -> dict[str, int]:
        """Enabled examples of each class, empty ones included."""
        counts = dict.fromkeys(self.classes, 0)
        for example in self.enabled:
            counts[example.label] += 1
        return counts

    @property
    def shots(self) -> int:
        """Enabled examples of the smallest class that has any; 0 without examples."""
        return min((count for count in self.counts.values() if count), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of thumbnails and embeddings."""
        return sum(example.nbytes for example in self._examples.values())

    # Classes

    def label(self, name: str) -> str:
        """The class that ``name`` means, as it is spelt here. Raises GalleryError when there is none."""
        try:
            return self._classes[_key(clean_name(name))]
        except KeyError:
            there = ", ".join(self.classes) or "none yet"
            raise GalleryError(f"there is no class {clean_name(name)}: the classes are {there}.") from None

    def add_class(self, name: str) -> str:
        """Make sure that there is a class of this name; returns it as it is spelt here."""
        label = clean_name(name)
        if _key(label) not in self._classes and len(self._classes) >= limits.MAX_CLASSES:
            raise GalleryError(f"a gallery holds at most {limits.MAX_CLASSES} classes: remove or merge some first.")
        return self._classes.setdefault(_key(label), label)

    def remove_class(self, name: str) -> None:
        """Remove a class with its examples."""
        label = self.label(name)
        self.remove([example.id for example in self.examples if example.label == label])
        del self._classes[_key(label)]

    def rename(self, old: str, new: str) -> str:
        """Give a class another name, or another spelling, in its place. Returns the new name."""
        before, label = self.label(old), clean_name(new)
        if _key(label) in self._classes and _key(label) != _key(before):
            raise GalleryError(f"there is a class {self.label(label)} already: merge the two, or choose another name.")
        self._classes = dict(
            (_key(label), label) if name == before else (key, name) for key, name in self._classes.items()
        )
        self._relabel(before, label)
        return label

    def merge(self, source: str, target: str) -> str:
        """Move all examples of ``source`` to ``target`` and remove the empty class. Returns the target's name."""
        before, label = self.label(source), self.label(target)
        if before == label:
            raise GalleryError(f"{label} cannot be merged with itself: choose two different classes.")
        self._relabel(before, label)
        del self._classes[_key(before)]
        return label

    def _relabel(self, before: str, label: str) -> None:
        for id, example in self._examples.items():
            if example.label == before:
                self._examples[id] = replace(example, label=label)

    # Examples

    def add(self, label: str, pictures: Sequence[Picture], embeddings: NDArray[Any]) -> Added:
        """Add pictures (N) with their embeddings (N, D), made by this gallery's model, to a class, new or old.

        A picture whose pixels are here already is left out and said. All others are added, or none.
        """
        return self._add([(label, picture) for picture in pictures], embeddings)

    def _add(self, pictures: Sequence[tuple[str, Picture]], embeddings: NDArray[Any]) -> Added:
        rows = np.asarray(embeddings, dtype=np.float32)
        width = next(iter(self._examples.values())).embedding.shape if self._examples else rows.shape[1:]
        if rows.ndim != 2 or len(rows) != len(pictures) or rows.shape[1:] != width or not np.isfinite(rows).all():
            raise GalleryError(
                f"{len(pictures)} pictures came with embeddings of shape {rows.shape}: give one finite row for each, "
                f"of the length that {self.model} makes."
            )
        known = {example.digest: example for example in self._examples.values()}
        fresh: list[Example] = []
        skipped: list[Skipped] = []
        classes = dict(self._classes)
        try:
            for (label, picture), row in zip(pictures, rows, strict=True):
                name = _shown(picture.name)
                if twin := known.get(picture.digest):
                    skipped.append(Skipped(name, f"the same picture as {twin.name} in {twin.label}"))
                    continue
                id = f"e{self._next + len(fresh)}"
                example = Example(id, self.add_class(label), name, picture.digest, _encoded(picture), row.copy())
                known[picture.digest] = example
                fresh.append(example)
            _check_room(len(self) + len(fresh), self.nbytes + sum(example.nbytes for example in fresh))
        except GalleryError:
            self._classes = classes
            raise
        self._examples |= {example.id: example for example in fresh}
        self._next += len(fresh)
        return Added(tuple(example.id for example in fresh), tuple(skipped))

    def extend(self, entries: Iterable[Entry], encoder: Encoder, progress: Progress | None = None) -> Added:
        """Decode, embed and add the entries of a folder or an archive, some dozens at a time.

        Left out, and said: what ``entries`` skipped, files that are no pictures, pictures outside all class folders or
        here already, and what comes when the gallery is full. A fault on the way raises;
        what was added until then stays.
        """
        self._check_model(encoder)
        ids: list[str] = []
        skipped: list[Skipped] = []
        total, done = getattr(entries, "total", 0), 0
        chunk: list[tuple[str, Picture]] = []

        def flush() -> None:
            added = self._add(chunk, encoder.embed([picture for _, picture in chunk])) if chunk else Added()
            ids.extend(added.ids)
            skipped.extend(added.skipped)
            chunk.clear()
            if progress:
                progress(done, max(total, done))

        with entries if isinstance(entries, Entries) else nullcontext():
            for entry in entries:
                done += 1
                try:
                    chunk.append((self._place(entry, len(chunk)), decode(entry.data, name=entry.name)))
                except (GalleryError, ImageError) as error:
                    skipped.append(Skipped(entry.name, str(error)))
                if len(chunk) >= CHUNK or sum(math.prod(picture.rgb.size) for _, picture in chunk) > CHUNK_PIXELS:
                    flush()
            flush()
        if isinstance(entries, Entries):
            skipped[:0] = entries.report.skipped
        return Added(tuple(ids), tuple(skipped))

    def _place(self, entry: Entry, waiting: int) -> str:
        """The class of an entry, if there is room for it."""
        if entry.label is None:
            raise GalleryError("it is outside all folders: put it into the folder of its class.")
        if len(self) + waiting >= limits.MAX_EXAMPLES:
            raise GalleryError(f"the gallery is full ({limits.MAX_EXAMPLES} examples): remove some first.")
        return self.add_class(entry.label)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove examples; their classes stay, empty if need be."""
        for example in [self[id] for id in ids]:
            self._examples.pop(example.id, None)

    def move(self, ids: Iterable[str], label: str) -> str:
        """Put examples into a class, new or old. Returns its name."""
        examples = [self[id] for id in ids]
        label = self.add_class(label)
        self._examples |= {example.id: replace(example, label=label) for example in examples}
        return label

    def enable(self, ids: Iterable[str], enabled: bool = True) -> None:
        """Let examples count, or keep them without counting."""
        examples = [self[id] for id in ids]
        self._examples |= {example.id: replace(example, enabled=enabled) for example in examples}

    def re_embed(self, encoder: Encoder, progress: Progress | None = None) -> None:
        """Embed all thumbnails with another model. All change or, when something raises on the way, none."""
        examples, fresh = self.examples, dict[str, Example]()
        for start in range(0, len(examples), CHUNK):
            part = examples[start : start + CHUNK]
            rows = encoder.embed([decode(example.thumbnail, name=example.name) for example in part])
            fresh |= {
                example.id: replace(example, embedding=row.copy()) for example, row in zip(part, rows, strict=True)
            }
            if progress:
                progress(start + len(part), len(examples))
        self._examples, self.model, self.fingerprint = fresh, encoder.name, encoder.fingerprint

    def _check_model(self, encoder: Encoder) -> None:
        if encoder.fingerprint != self.fingerprint:
            raise GalleryError(
                f"this gallery was made with {_shown(self.model)} and {_shown(encoder.name)} came: "
                "choose that model, or embed the gallery again (re_embed)."
            )

    # One file

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to one zip, replaced at once; equal galleries give equal files. Returns the path."""
        target = Path(path)
        about = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "classes": self.classes,
            "examples": [{key: getattr(example, key) for key in FIELDS} for example in self.examples],
        }
        rows = [example.embedding for example in self.examples]
        matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        try:
            text = json.dumps(about, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise GalleryError(f"settings hold something else than plain values ({error}): take it out.") from error
        pictures = {_picture(example.id): example.thumbnail for example in self.examples}
        files = {ABOUT: text.encode(), EMBEDDINGS: safetensors.numpy.save({"embeddings": matrix}), **pictures}
        try:
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.resolve().parent) as beside:
                fresh = Path(beside) / "gallery"
                with zipfile.ZipFile(fresh, "w") as bundle:
                    for name, data in files.items():
                        info = zipfile.ZipInfo(name)  # dated 1980, so that only the content counts
                        info.compress_type = zipfile.ZIP_DEFLATED if name == ABOUT else zipfile.ZIP_STORED
                        bundle.writestr(info, data)
                os.replace(fresh, target)
        except OSError as error:
            raise GalleryError(
                f"{_shown(target.name)} cannot be written ({error.strerror}): choose another place."
            ) from error
        return target

    @staticmethod
    def is_bundle(source: bytes | str | os.PathLike[str]) -> bool:
        """Whether a zip is for ``open`` rather than for ``read_zip``. Raises ArchiveError as they do."""
        archive = _Archive(source)
        archive.close()
        return any(info.filename == ABOUT for info in archive.infos)

    @classmethod
    def open(
        cls,
        source: bytes | str | os.PathLike[str],
        encoder: Encoder,
        *,
        re_embed: bool = False,
        progress: Progress | None = None,
    ) -> Gallery:
        """Read what ``save`` wrote; a path or its bytes. Every picture is decoded and encoded again on the way.

        A gallery made by another model is refused, unless ``re_embed`` asks to embed its thumbnails with this one.
        Raises ArchiveError for a hostile or damaged zip, GalleryError for one that is not such a gallery.
        """
        archive = _Archive(source)
        try:
            gallery = _opened(archive, encoder)
        finally:
            archive.close()
        if re_embed and gallery.fingerprint != encoder.fingerprint:
            gallery.re_embed(encoder, progress)
        gallery._check_model(encoder)
        return gallery


FORMAT, VERSION = "vitmsn-gallery", 1
ABOUT, EMBEDDINGS = "gallery.json", "embeddings.safetensors"
TOP = {"model": str, "fingerprint": str, "settings": dict, "classes": list, "examples": list}
FIELDS = {"id": str, "label": str, "name": str, "digest": str, "enabled": bool}


def _picture(id: str) -> str:
    return f"pictures/{id}.jpg"


def _encoded(picture: Picture) -> bytes:
    """What is kept and served of a picture: never the bytes that came, nor their metadata."""
    out = io.BytesIO()
    picture.thumbnail(limits.THUMBNAIL_SIDE).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _check_room(examples: int, nbytes: int) -> None:
    if examples > limits.MAX_EXAMPLES:
        raise GalleryError(
            f"a gallery holds at most {limits.MAX_EXAMPLES} examples; this would make {examples}: remove some first."
        )
    if nbytes > limits.GALLERY_BYTES:
        most = limits.GALLERY_BYTES / limits.MIB
        raise GalleryError(f"a gallery holds at most {most:g} MiB: remove some examples first.")


def _opened(archive: _Archive, encoder: Encoder) -> Gallery:
    """The gallery in a bundle, every value of it checked."""

    def need(good: object, what: str) -> None:
        if not good:
            raise GalleryError(f"{archive.shown} is not a gallery saved here: {what}; save it again, or send pictures.")

    def load(name: str, most: int) -> bytes:
        need(name in members, f"{name} is missing")
        data = archive.load(members[name], most)
        need(isinstance(data, bytes), f"{name} is {data!r:.80}")
        return cast(bytes, data)

    members = {"/".join(archive.parts(info)): info for info in archive.infos}
    need(len(members) == len(archive.infos), "a name comes twice")
    about: Any = None
    with suppress(RecursionError, json.JSONDecodeError, UnicodeError):
        about = json.loads(load(ABOUT, limits.MAX_HEADER_BYTES))
    need(isinstance(about, dict) and about.get("format") == FORMAT, f"{ABOUT} is damaged or about something else")
    need(about.get("version") == VERSION, "a newer version wrote it")
    for key, kind in TOP.items():
        need(type(about.get(key)) is kind, f"its {key} are missing or wrong")
    rows, classes, settings = about["examples"], about["classes"], about["settings"]
    need(all(isinstance(name, str) for name in classes), "a class has no name")
    need(
        len(settings) <= 100 and all(_plain(value) for value in settings.values()), "its settings are not plain values"
    )
    _check_room(len(rows), 0)
    matrix = None
    with suppress(SafetensorError, KeyError, TypeError):
        matrix = safetensors.numpy.load(load(EMBEDDINGS, limits.GALLERY_BYTES)).get("embeddings")
    need(matrix is not None and matrix.dtype == np.float32 and matrix.ndim == 2, f"{EMBEDDINGS} is damaged")
    matrix = cast(NDArray[np.float32], matrix)
    need(len(matrix) == len(rows) and np.isfinite(matrix).all(), "its embeddings do not fit its examples")

    gallery = Gallery(encoder)
    gallery.model, gallery.fingerprint, gallery.settings = _shown(about["model"]), about["fingerprint"], settings
    for name in classes:
        gallery.add_class(name)
    size = 0
    for row, embedding in zip(rows, matrix, strict=True):
        need(isinstance(row, dict) and row.keys() == FIELDS.keys(), "an example is incomplete")
        need(all(type(row[key]) is kind for key, kind in FIELDS.items()), "an example is wrong")
        need(
            re.fullmatch(r"e[1-9][0-9]{0,8}", row["id"]) and row["id"] not in gallery._examples,
            "an example's id is wrong",
        )
        need(re.fullmatch(r"[0-9a-f]{64}", row["digest"]), "an example's digest is wrong")
        need(row["label"] in gallery.classes, "an example's class is missing")
        name = _shown(row["name"])
        try:
            picture = decode(load(_picture(row["id"]), limits.MAX_IMAGE_BYTES), name=name)
        except ImageError as error:
            raise GalleryError(f"{archive.shown} is damaged: {error}") from error
        example = Example(**row | {"name": name, "thumbnail": _encoded(picture), "embedding": embedding.copy()})
        gallery._examples[example.id] = example
        _check_room(0, size := size + example.nbytes)
    gallery._next = 1 + max((int(id[1:]) for id in gallery._examples), default=0)
    return gallery


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
