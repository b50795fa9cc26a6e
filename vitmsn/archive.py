"""Folders and zips of pictures from untrusted sources, read safely: folders are classes, files are read one at a time.

    read_zip | read_folder -> Entries: (label, name, bytes), and an ArchiveReport of what was left out

No input is trusted. An archive is checked by its table of contents before anything is unpacked, is never unpacked to
disk, and is counted while it is read. Bundles are read by the same code. ``image.decode`` decides what the bytes are.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from vitmsn import limits, names
from vitmsn.errors import ArchiveError, GalleryError, ViTMSNError
from vitmsn.names import clean_name, name_key, shown_name

# --- entries -------------------------------------------------------------------------------------------------------


class Skipped(NamedTuple):
    """A skipped file, and the reason in words."""

    name: str
    reason: str


class Entry(NamedTuple):
    """One file of a folder or an archive. ``label`` is its class, None outside all class folders."""

    label: str | None
    name: str
    data: bytes


@dataclass
class ArchiveReport:
    """Skipped files of a folder or an archive, and notes; complete when the last entry was read."""

    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # "the folder cat was joined with Cat"
    read: int = 0  # entries given out


class _File(NamedTuple):
    """A file found, not yet read: the parts of its path, and a function that gives its bytes or the reason why not."""

    parts: tuple[str, ...]
    load: Callable[[], bytes | str]


class Entries(Iterator[Entry]):
    """The files of a folder or an archive, one at a time, each folder a class. ``report`` is complete after the last.

    ``total`` counts all files to come, for progress. To stop early, use ``with`` or ``close()``.
    """

    def __init__(
        self,
        files: Sequence[_File],
        folders: Iterable[tuple[str, ...]],
        archive: Archive | None,
        ignored: Iterable[str] = (),
        split: str | None = None,
    ) -> None:
        self.report = ArchiveReport()
        self._archive = archive
        try:
            self._depth, files = _below_split(files, _wrappers([file.parts for file in files]), split, self.report)
        except GalleryError:
            self.close()
            raise
        if archive is not None and (said := archive.encoding_note()):
            self.report.notes.append(said)
        if said := names.ignored_note(ignored):
            self.report.notes.append(said)
        self.total = len(files)
        self._stream = self._read(files, list(folders))

    def __next__(self) -> Entry:
        try:
            return next(self._stream)
        except BaseException:  # the end, or an error
            self.close()
            raise

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive; after the last entry it is closed already."""
        if self._archive is not None:
            self._archive.close()

    def _read(self, files: Sequence[_File], folders: list[tuple[str, ...]]) -> Generator[Entry, None, None]:
        depth = self._depth
        filled = {file.parts[: depth + 1] for file in files if len(file.parts) > depth + 1}
        above = {path[:depth] for path in filled}
        for folder in folders:
            if len(folder) == depth + 1 and folder not in filled and (not depth or folder[:depth] in above):
                self.report.skipped.append(Skipped(shown_name(folder[-1]), "the folder is empty"))
        labels, different = _Labels(self.report), _Names()
        for file in files:
            name = shown_name(file.parts[-1])
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
            yield Entry(label, different(label, name), data)


class _Labels:
    """Folders to classes: folders with equivalent names become one class, with a note."""

    def __init__(self, report: ArchiveReport) -> None:
        self._report = report
        self._of_folder: dict[str, str] = {}
        self._of_key: dict[str, str] = {}

    def __call__(self, folder: str) -> str:
        if folder not in self._of_folder:
            label = clean_name(folder)
            if first := self._of_key.get(name_key(label)):
                self._report.notes.append(f"the folder {label} was joined with {first}")
            self._of_folder[folder] = self._of_key.setdefault(name_key(label), label)
        return self._of_folder[folder]


class _Names:
    """File names made unique within their class: "a.jpg", "a (2).jpg"."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str | None, str], int] = {}  # -> how often it was asked for

    def __call__(self, label: str | None, name: str) -> str:
        path, free = PurePosixPath(name), name
        number = self._taken.get((label, name_key(name)), 0)
        while (label, name_key(free)) in self._taken:
            number += 1
            tail = f" ({number}){path.suffix}"
            free = path.stem[: limits.MAX_NAME_LENGTH - len(tail)] + tail
        self._taken[label, name_key(name)] = max(number, 1)
        self._taken[label, name_key(free)] = 1
        return free


def _wrappers(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders are wrapped around the class folders: a zip of one folder of folders has one."""
    depth = 0
    while True:
        inside = [path for path in paths if len(path) > depth + 1]
        if len({path[depth] for path in inside}) != 1 or all(len(path) == depth + 2 for path in inside):
            return depth
        depth += 1


def _below_split(
    files: Sequence[_File], depth: int, wanted: str | None, report: ArchiveReport
) -> tuple[int, Sequence[_File]]:
    """(how many folders are above the classes, the files to read): of a data set in splits, those of one split."""
    inside = [file for file in files if len(file.parts) > depth + 1]
    folders = names.split_folders({file.parts[depth] for file in inside})
    with_classes = {file.parts[depth] for file in inside if len(file.parts) > depth + 2}
    if not with_classes.issuperset(folders.values()):  # "test" full of pictures is a class
        folders = {}
    if wanted is not None and (wanted := names.SPLITS.get(wanted.lower(), wanted)) not in folders:
        there = f"choose one of {', '.join(sorted(folders))}" if folders else "leave split out"
        raise GalleryError(f"there is no folder {shown_name(wanted)} of classes: {there}.")
    if not folders:
        return depth, files
    split = wanted or next(name for name in ("train", "validation", "test") if name in folders)
    others = [shown_name(folder) for name, folder in sorted(folders.items()) if name != split]
    if others:
        left = sum(file.parts[depth] != folders[split] for file in inside)
        report.notes.append(
            f"the classes are the folders in {shown_name(folders[split])}; "
            f"{left} file{'s' if left > 1 else ''} in {' and '.join(others)} left out"
        )
    return depth + 1, [file for file in files if len(file.parts) <= depth + 1 or file.parts[depth] == folders[split]]


def read_folder(path: str | os.PathLike[str], split: str | None = None) -> Entries:
    """The files below a folder, sub-folders as classes, in the order of their names; links are not followed.

    Folders train, val and test with classes in them are the splits of a data set: ``split`` names the one to read, by
    default train, or else validation. Raises GalleryError when the folder or the split is not there, or holds too many
    files.
    """
    root = Path(path)
    files: list[_File] = []
    folders: list[tuple[str, ...]] = []
    ignored: list[str] = []

    def fail(error: OSError) -> None:
        raise GalleryError(f"{shown_name(root.name)} cannot be read ({error.strerror}): give the path of a folder.")

    def load(file: str) -> bytes | str:
        try:
            if not stat.S_ISREG(os.lstat(file).st_mode):
                return "a link or a device, not a file"
            with open(file, "rb") as stream:
                data = stream.read(limits.MAX_IMAGE_BYTES + 1)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return data if len(data) <= limits.MAX_IMAGE_BYTES else _too_large()

    def people(found: list[str], is_folder: bool) -> list[str]:
        ignored.extend(name for name in found if names.litter(name, is_folder))
        return sorted(name for name in found if not names.litter(name, is_folder))

    for folder, below, found in os.walk(root, onerror=fail):
        below[:] = people(below, is_folder=True)
        parts = tuple(map(names.escaped, Path(folder).relative_to(root).parts))
        folders.append(parts)
        kept = people(found, is_folder=False)
        files += [_File((*parts, names.escaped(name)), partial(load, os.path.join(folder, name))) for name in kept]
        if len(files) > limits.MAX_ARCHIVE_ENTRIES:
            raise GalleryError(
                f"{shown_name(root.name)} holds more than {limits.MAX_ARCHIVE_ENTRIES} files: give a folder with fewer."
            )
    return Entries(files, folders, None, ignored, split)


def read_zip(source: bytes | str | os.PathLike[str], split: str | None = None) -> Entries:
    """The files of a zip, folders as classes; a single folder around them all is ignored; ``split`` as above.

    ``source`` is a path or the zip's bytes. Nothing is written to disk, and the bounds of ``limits`` hold for what is
    really unpacked. Entries that are too large, archives, or no files are skipped and reported. Raises
    ArchiveError, here or while reading, when the zip is damaged, locked, packed in an unusual way, too large, or built
    to do harm.
    """
    archive = Archive(source)
    files: list[_File] = []
    folders: list[tuple[str, ...]] = []
    ignored: list[str] = []
    for info in archive.infos:
        parts = archive.parts(info)
        if name := names.litter_in(parts, archive.is_folder(info)):
            ignored.append(name)
        elif parts and archive.is_folder(info):
            folders.append(parts)
        elif parts:
            files.append(_File(parts, partial(archive.load, info, limits.MAX_IMAGE_BYTES)))
    return Entries(files, folders, archive, ignored, split)


def _too_large() -> str:
    return f"larger than {limits.MAX_IMAGE_BYTES / limits.MIB:g} MiB"


# --- archives ------------------------------------------------------------------------------------------------------

FEWER = "split it, or send fewer or smaller pictures"
NESTED = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".xz", ".bz2")


class _Guarded:
    """A file that refuses to read an enormous table of contents, whatever size the archive states."""

    def __init__(self, file: IO[bytes], size: int, shown: str) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file, self._size, self._shown = file, size, shown

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        wanted = left if size < 0 else min(size, left)
        if wanted > 512 * limits.MAX_ARCHIVE_ENTRIES + 2**17:
            raise ArchiveError(f"{self._shown} has an enormous table of contents: {FEWER}.")
        return self._file.read(wanted)


def _nested(parts: Sequence[str]) -> bool:
    return parts[-1].casefold().endswith(NESTED)


def _unicode_path(extra: bytes, name: bytes) -> str:
    """The UTF-8 name that Info-ZIP and WinRAR write beside one in a code page; "" where there is none for ``name``."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        body = extra[at + 4 : at + 4 + size]
        if kind == 0x7075 and body[:1] == b"\x01" and body[1:5] == struct.pack("<I", zlib.crc32(name)):
            return body[5:].decode("utf-8", "replace").partition("\0")[0]
        at += 4 + size
    return ""


class Archive:
    """A zip judged on its table of contents, then unpacked entry by entry in memory, counting bytes and seconds."""

    def __init__(self, source: bytes | str | os.PathLike[str]) -> None:
        self.shown = "the zip" if isinstance(source, bytes) else shown_name(Path(source).name)
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
            self._names, self._encoding = self._decoded()
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
            name = shown_name("/".join(parts))
            if info.flag_bits & 0x41:
                raise ArchiveError(f"{self.shown} is locked with a password ({name}): make it again without one.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"{self.shown} is packed in an unusual way ({name}): make an ordinary zip.")
            if info.header_offset < reached:
                raise ArchiveError(f"{self.shown} holds files that overlap ({name}), as only a forged zip does.")
            reached = info.header_offset + 30 + info.compress_size
        if reached > end:
            raise ArchiveError(f"{self.shown} ends before its files do: it is incomplete, make or send it again.")
        people = [self.parts(info) for info in self.infos if not self.is_folder(info)]
        people = [parts for parts in people if parts and not names.litter_in(parts)]
        if people and all(map(_nested, people)):
            raise ArchiveError(
                f"{self.shown} holds another archive ({shown_name('/'.join(people[0]))}): unpack that one first."
            )
        sizes = (info.file_size for info in self.infos)
        if sum(size for size in sizes if size <= limits.MAX_IMAGE_BYTES) > limits.MAX_UNPACKED_BYTES:
            raise self._too_much()

    def _too_much(self) -> ArchiveError:
        most = limits.MAX_UNPACKED_BYTES / limits.MIB
        return ArchiveError(f"{self.shown} unpacks to more than {most:g} MiB: {FEWER}.")

    def _decoded(self) -> tuple[dict[zipfile.ZipInfo, str], str]:
        """The names of all entries, and the encoding guessed for names that state none."""
        said: dict[zipfile.ZipInfo, str] = {}
        silent: dict[zipfile.ZipInfo, bytes] = {}
        for info in self.infos:
            name = info.orig_filename.partition("\0")[0]  # Python's own `filename` turns backslashes around on Windows
            if info.flag_bits & 0x800:
                said[info] = name
            elif text := _unicode_path(info.extra, raw := name.encode("cp437", "surrogatepass")):
                said[info] = text
            else:
                silent[info] = raw
        texts, encoding = names.decode_names(list(silent.values()))
        found = said | dict(zip(silent, texts, strict=True))
        self._separators = "/" if any("/" in name for name in found.values()) else "/\\"  # of Windows' older packers
        return {info: unicodedata.normalize("NFC", name) for info, name in found.items()}, encoding

    def encoding_note(self) -> str:
        """A note on the encoding of names; "" where the zip states it."""
        if self._encoding == names.UNKNOWN:
            return "the names of its files are in an unknown encoding and look wrong here: rename the classes"
        said = f"the names of its files were read as {self._encoding}: rename classes that look wrong"
        return said if self._encoding else ""

    def is_folder(self, info: zipfile.ZipInfo) -> bool:
        return self._names[info].endswith(tuple(self._separators))

    def parts(self, info: zipfile.ZipInfo) -> tuple[str, ...]:
        """The path of an entry, in NFC, refused when it points out of the archive."""
        name = self._names[info]
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:[/\\]", name):
            raise ArchiveError(
                f"{self.shown} holds a file that points outside of it ({shown_name(name)}): make it again."
            )
        return tuple(part for part in re.split(f"[{re.escape(self._separators)}]", name) if part not in ("", "."))

    def load(self, info: zipfile.ZipInfo, most: int) -> bytes | str:
        """The bytes of an entry, or why it is left out."""
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            return "a link or a device, not a file"
        if _nested(self.parts(info)):
            return "another archive: unpack it first"
        if info.file_size > most:
            return f"larger than {most / limits.MIB:g} MiB"
        if info.file_size > max(limits.ANY_RATIO_BYTES, limits.MAX_COMPRESSION_RATIO * info.compress_size):
            return f"it unpacks to more than {limits.MAX_COMPRESSION_RATIO} times its size"
        started = time.monotonic()
        pieces = []
        with self._faults(shown_name(self._names[info])), self._zip.open(info) as stream:
            while piece := stream.read(2**18):  # never more than the table of contents says: zipfile stops there
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
        """Errors of zipfile become an ArchiveError that names the place and the error."""
        try:
            yield
        except ViTMSNError:
            raise
        except UnicodeError:
            fault = "a name that is not valid text"
        except (NotImplementedError, RuntimeError) as error:
            fault = f"something unusual: {shown_name(str(error))}"
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError) as error:
            fault = shown_name(str(error))
        else:
            return
        raise ArchiveError(f"{self.shown} is damaged or not a zip, in {where} ({fault}): make or send it again.")
