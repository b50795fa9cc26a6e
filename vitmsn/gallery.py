"""Labelled examples: from pictures of every source into a gallery, and to one file and back.

    archive.read_zip | read_folder -> entries (label, name, bytes) -> Gallery.extend -> X, y
    Gallery.save -> one zip (gallery.json, embeddings.safetensors, pictures/) -> Gallery.open

A gallery keeps embeddings and pictures of at most 256 pixels that it encoded itself, never the upload. A bundle is read
through the same door as the zips of strangers, and every value in it is checked.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from vitmsn import limits
from vitmsn.archive import Archive, Entries, Entry, Skipped, clean_name, name_key, shown_name
from vitmsn.errors import GalleryError, ImageError
from vitmsn.image import Picture, decode

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

Progress = Callable[[int, int], object]  # (done, total)

CHUNK = 64  # pictures decoded and embedded together,
CHUNK_PIXELS = 50_000_000  # or fewer when they are large: all are in memory at once
JPEG_QUALITY = 85
PIXEL_SIDE = 16  # of the raw pixels that the model is compared with: finer ones know little more
PIXELS = 3 * PIXEL_SIDE**2


def raw_pixels(pictures: Sequence[Picture]) -> NDArray[np.float32]:
    """Pictures (N) as rows (N, PIXELS) of raw pixels, 0..255, as a gallery keeps them of its examples."""
    rows = [_pixels(picture.thumbnail(limits.THUMBNAIL_SIDE)) for picture in pictures]
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, PIXELS), np.float32)


def _pixels(thumbnail: Image.Image) -> NDArray[np.uint8]:
    small = thumbnail.resize((PIXEL_SIDE, PIXEL_SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.uint8).reshape(PIXELS)


@dataclass(frozen=True, eq=False)
class Example:
    """One labelled picture: what is kept of it."""

    id: str  # stable: moving, renaming, embedding again and saving keep it
    label: str
    name: str
    digest: str  # of the pixels that were sent, hex
    thumbnail: bytes  # JPEG, longer side at most limits.THUMBNAIL_SIDE, encoded here
    embedding: NDArray[np.float32]  # (D,)
    pixels: NDArray[np.uint8]  # (PIXELS,) the picture at PIXEL_SIDE x PIXEL_SIDE in colour, to compare the model with
    enabled: bool = True  # False: kept, but left out of X and y

    @property
    def nbytes(self) -> int:
        return len(self.thumbnail) + self.embedding.nbytes + self.pixels.nbytes

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
            raise GalleryError(
                f"there is no example {shown_name(str(id))}: it was removed, choose another one."
            ) from None

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
    def pixels(self) -> NDArray[np.float32]:
        """Raw pixels (N, PIXELS) of the enabled examples, 0..255: what a model has to beat."""
        rows = [example.pixels for example in self.enabled]
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, PIXELS), np.float32)

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

    def copy(self) -> Gallery:
        """A gallery of the same examples, which changes on its own; examples never change, so they are shared."""
        twin = copy.copy(self)
        twin.settings, twin._classes, twin._examples = dict(self.settings), dict(self._classes), dict(self._examples)
        return twin

    # Classes

    def label(self, name: str) -> str:
        """The class that ``name`` means, as it is spelt here. Raises GalleryError when there is none."""
        try:
            return self._classes[name_key(clean_name(name))]
        except KeyError:
            there = ", ".join(self.classes) or "none yet"
            raise GalleryError(f"there is no class {clean_name(name)}: the classes are {there}.") from None

    def add_class(self, name: str) -> str:
        """Make sure that there is a class of this name; returns it as it is spelt here."""
        label = clean_name(name)
        if name_key(label) not in self._classes and len(self._classes) >= limits.MAX_CLASSES:
            raise GalleryError(f"a gallery holds at most {limits.MAX_CLASSES} classes: remove or merge some first.")
        return self._classes.setdefault(name_key(label), label)

    def remove_class(self, name: str) -> None:
        """Remove a class with its examples."""
        label = self.label(name)
        self.remove([example.id for example in self.examples if example.label == label])
        del self._classes[name_key(label)]

    def rename(self, old: str, new: str) -> str:
        """Give a class another name, or another spelling, in its place. Returns the new name."""
        before, label = self.label(old), clean_name(new)
        if name_key(label) in self._classes and name_key(label) != name_key(before):
            raise GalleryError(f"there is a class {self.label(label)} already: merge the two, or choose another name.")
        self._classes = dict(
            (name_key(label), label) if name == before else (key, name) for key, name in self._classes.items()
        )
        self._relabel(before, label)
        return label

    def merge(self, source: str, target: str) -> str:
        """Move all examples of ``source`` to ``target`` and remove the empty class. Returns the target's name."""
        before, label = self.label(source), self.label(target)
        if before == label:
            raise GalleryError(f"{label} cannot be merged with itself: choose two different classes.")
        self._relabel(before, label)
        del self._classes[name_key(before)]
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
                name = shown_name(picture.name)
                if twin := known.get(picture.digest):
                    skipped.append(Skipped(name, f"the same picture as {twin.name} in {twin.label}"))
                    continue
                id = f"e{self._next + len(fresh)}"
                thumbnail = picture.thumbnail(limits.THUMBNAIL_SIDE)
                label = self.add_class(label)
                kept = _encoded(thumbnail), row.copy(), _pixels(thumbnail)
                example = Example(id, label, name, picture.digest, *kept)
                known[picture.digest] = example
                fresh.append(example)
            _check_room(len(self) + len(fresh), self.nbytes + sum(example.nbytes for example in fresh))
        except GalleryError:
            self._classes = classes
            raise
        self._examples |= {example.id: example for example in fresh}
        self._next += len(fresh)
        return Added(tuple(example.id for example in fresh), tuple(skipped))

    def adopt(self, example: Example, label: str) -> str:
        """Add an example of another gallery of the same model, a query say, to a class; returns the id it got here."""
        for known in self._examples.values():
            if known.digest == example.digest:
                raise GalleryError(
                    f"{example.name} is the same picture as {known.name} in {known.label}: move that one instead."
                )
        _check_room(len(self) + 1, self.nbytes + example.nbytes)
        id = f"e{self._next}"
        self._examples[id] = replace(example, id=id, label=self.add_class(label), enabled=True)
        self._next += 1
        return id

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

    def enable_class(self, name: str, enabled: bool = True) -> str:
        """Let a class count, or keep it without counting. Returns its name."""
        label = self.label(name)
        self.enable([example.id for example in self.examples if example.label == label], enabled)
        return label

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
                f"this gallery was made with {shown_name(self.model)} and {shown_name(encoder.name)} came: "
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
        raw = np.array([example.pixels for example in self.examples], np.uint8).reshape(-1, PIXELS)
        try:
            text = json.dumps(about, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise GalleryError(f"settings hold something else than plain values ({error}): take it out.") from error
        pictures = {_picture(example.id): example.thumbnail for example in self.examples}
        files = {
            ABOUT: text.encode(),
            EMBEDDINGS: safetensors.numpy.save({"embeddings": matrix, "pixels": raw}),
            **pictures,
        }
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
                f"{shown_name(target.name)} cannot be written ({error.strerror}): choose another place."
            ) from error
        return target

    @staticmethod
    def is_bundle(source: bytes | str | os.PathLike[str]) -> bool:
        """Whether a zip is for ``open`` rather than for ``read_zip``. Raises ArchiveError as they do."""
        archive = Archive(source)
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
        archive = Archive(source)
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


def _encoded(thumbnail: Image.Image) -> bytes:
    """What is kept and served of a picture: never the bytes that came, nor their metadata."""
    out = io.BytesIO()
    thumbnail.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _check_room(examples: int, nbytes: int) -> None:
    if examples > limits.MAX_EXAMPLES:
        raise GalleryError(
            f"a gallery holds at most {limits.MAX_EXAMPLES} examples; this would make {examples}: remove some first."
        )
    if nbytes > limits.GALLERY_BYTES:
        most = limits.GALLERY_BYTES / limits.MIB
        raise GalleryError(f"a gallery holds at most {most:g} MiB: remove some examples first.")


def _opened(archive: Archive, encoder: Encoder) -> Gallery:
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
    tensors: dict[str, Any] = {}
    with suppress(SafetensorError, KeyError, TypeError):
        tensors = safetensors.numpy.load(load(EMBEDDINGS, limits.GALLERY_BYTES))
    matrix, raw = tensors.get("embeddings"), tensors.get("pixels")
    need(matrix is not None and matrix.dtype == np.float32 and matrix.ndim == 2, f"{EMBEDDINGS} is damaged")
    need(raw is not None and raw.dtype == np.uint8 and raw.ndim == 2, f"{EMBEDDINGS} is damaged")
    matrix, raw = cast(NDArray[np.float32], matrix), cast(NDArray[np.uint8], raw)
    fits = len(matrix) == len(rows) and raw.shape == (len(rows), PIXELS) and np.isfinite(matrix).all()
    need(fits, "its embeddings do not fit its examples")

    gallery = Gallery(encoder)
    gallery.model, gallery.fingerprint, gallery.settings = shown_name(about["model"]), about["fingerprint"], settings
    for name in classes:
        gallery.add_class(name)
    size = 0
    for row, embedding, pixels in zip(rows, matrix, raw, strict=True):
        need(isinstance(row, dict) and row.keys() == FIELDS.keys(), "an example is incomplete")
        need(all(type(row[key]) is kind for key, kind in FIELDS.items()), "an example is wrong")
        need(
            re.fullmatch(r"e[1-9][0-9]{0,8}", row["id"]) and row["id"] not in gallery._examples,
            "an example's id is wrong",
        )
        need(re.fullmatch(r"[0-9a-f]{64}", row["digest"]), "an example's digest is wrong")
        need(row["label"] in gallery.classes, "an example's class is missing")
        name = shown_name(row["name"])
        try:
            picture = decode(load(_picture(row["id"]), limits.MAX_IMAGE_BYTES), name=name)
        except ImageError as error:
            raise GalleryError(f"{archive.shown} is damaged: {error}") from error
        thumbnail = _encoded(picture.thumbnail(limits.THUMBNAIL_SIDE))
        kept = {"name": name, "thumbnail": thumbnail, "embedding": embedding.copy(), "pixels": pixels.copy()}
        example = Example(**row | kept)
        gallery._examples[example.id] = example
        _check_room(0, size := size + example.nbytes)
    gallery._next = 1 + max((int(id[1:]) for id in gallery._examples), default=0)
    return gallery


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
