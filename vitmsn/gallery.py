"""Labeled examples: from pictures of every source into a gallery, and the changes a visitor makes.

    archive.read_zip | read_folder -> entries (label, name, bytes) -> Gallery.extend -> X, y

A gallery keeps embeddings and pictures of at most 256 pixels that it encoded itself, never the upload. `bundle` saves
it to one file and reads it again.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitmsn import limits
from vitmsn.archive import Entries, Entry, Skipped
from vitmsn.errors import GalleryError, ImageError
from vitmsn.image import Picture, batches, decode
from vitmsn.names import clean_name, name_key, shown_name

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

Progress = Callable[[int, int], object]  # (done, total)

JPEG_QUALITY = 85
PIXEL_SIDE = 16  # side of the raw pixels that the model is compared with: more pixels hardly help
PIXELS = 3 * PIXEL_SIDE**2


def raw_pixels(pictures: Sequence[Picture]) -> NDArray[np.float32]:
    """Pictures (N) as rows (N, PIXELS) of raw pixels, 0..255, as a gallery keeps them of its examples."""
    rows = [_pixels(picture.thumbnail(limits.THUMBNAIL_SIDE)) for picture in pictures]
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, PIXELS), np.float32)


def _pixels(thumbnail: Image.Image) -> NDArray[np.uint8]:
    small = thumbnail.resize((PIXEL_SIDE, PIXEL_SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.uint8).reshape(PIXELS)


class Model(Protocol):
    """What a gallery stores about the encoder that made its embeddings."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Example:
    """One labelled picture: what is kept of it."""

    id: str  # stable when moved, renamed, embedded again or saved
    label: str
    name: str
    digest: str  # of the pixels that were sent, hex
    thumbnail: bytes  # JPEG, longer side at most limits.THUMBNAIL_SIDE, encoded here
    embedding: NDArray[np.float32]  # (D,)
    pixels: NDArray[np.uint8]  # (PIXELS,) the picture at PIXEL_SIDE x PIXEL_SIDE in color, to compare the model with
    enabled: bool = True  # False: kept, but left out of X and y

    @property
    def nbytes(self) -> int:
        return len(self.thumbnail) + self.embedding.nbytes + self.pixels.nbytes

    def picture(self) -> Image.Image:
        """The thumbnail as a PIL image."""
        return decode(self.thumbnail, name=self.name).rgb


@dataclass(frozen=True)
class Added:
    """The result of adding pictures: their ids, those left out, and notes."""

    ids: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


class Gallery:
    """A visitor's labelled examples, embedded by one model. Classes and examples keep the order of their arrival.

    Class names that differ only in case are the same class. Exceeding ``limits.MAX_EXAMPLES``, ``MAX_CLASSES`` or
    ``GALLERY_BYTES`` raises GalleryError and changes nothing. For one thread at a time.

    Attributes: ``model`` and ``fingerprint`` of the encoder that made the embeddings; ``settings``, a dict of plain
    values that is saved along.
    """

    def __init__(self, model: Model) -> None:
        self.model: str = model.name
        self.fingerprint: str = model.fingerprint
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
        """Raw pixels (N, PIXELS) of the enabled examples, 0..255: the baseline for a model."""
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
        """Bytes of thumbnails and embeddings; may be asked for while another thread changes the gallery."""
        return sum(example.nbytes for example in list(self._examples.values()))

    def copy(self) -> Gallery:
        """An independent gallery of the same examples; examples are immutable, so they are shared."""
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
            raise GalleryError(f"A gallery holds at most {limits.MAX_CLASSES} classes: remove or merge some first.")
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
            raise GalleryError(f"There is a class {self.label(label)} already: merge the two, or choose another name.")
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

        A picture with the same pixels as an example is left out and reported. All others are added, or none.
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
                kept = encoded(thumbnail), row.copy(), _pixels(thumbnail)
                example = Example(id, label, name, picture.digest, *kept)
                known[picture.digest] = example
                fresh.append(example)
            check_room(len(self) + len(fresh), self.nbytes + sum(example.nbytes for example in fresh))
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
        check_room(len(self) + 1, self.nbytes + example.nbytes)
        id = f"e{self._next}"
        self._examples[id] = replace(example, id=id, label=self.add_class(label), enabled=True)
        self._next += 1
        return id

    def restore(self, examples: Iterable[Example]) -> None:
        """Put examples, each with its own id, into an empty gallery whose classes are there already."""
        size = 0
        for example in examples:
            check_room(len(self) + 1, size := size + example.nbytes)
            self._examples[example.id] = example
        self._next = 1 + max((int(id[1:]) for id in self._examples), default=0)

    def extend(self, entries: Iterable[Entry], encoder: Encoder, progress: Progress | None = None) -> Added:
        """Decode, embed and add the entries of a folder or an archive, some dozens at a time.

        Left out and reported: what ``entries`` skipped, files that are no pictures, pictures outside all class folders,
        duplicates, and what comes when the gallery is full; ``notes`` are those of ``entries``. An error on the way is
        raised; what was added until then stays.
        """
        self.check_model(encoder)
        ids: list[str] = []
        skipped: list[Skipped] = []
        total, done, waiting = getattr(entries, "total", 0), 0, 0  # waiting: placed, but not added yet

        def placed() -> Iterator[tuple[tuple[str, str], bytes]]:
            nonlocal done, waiting
            for entry in entries:
                done += 1
                if progress:  # files that turn out not to be pictures take time as well
                    progress(done, max(total, done))
                try:
                    label = self._place(entry, waiting)
                except GalleryError as error:
                    skipped.append(Skipped(entry.name, str(error)))
                    continue
                waiting += 1
                yield (label, entry.name), entry.data

        def refused(key: tuple[str, str], error: ImageError) -> None:
            nonlocal waiting
            waiting -= 1
            skipped.append(Skipped(key[1], str(error)))

        with entries if isinstance(entries, Entries) else nullcontext():
            for batch in batches(placed(), refused, name=lambda key: key[1], most=limits.PICTURE_SIDE):
                labels = [label for label, _ in batch.keys]
                added = self._add(list(zip(labels, batch.pictures, strict=True)), encoder.embed(batch.pictures))
                ids.extend(added.ids)
                skipped.extend(added.skipped)
                waiting = 0
            if progress:
                progress(done, max(total, done))
        notes: tuple[str, ...] = ()
        if isinstance(entries, Entries):
            skipped[:0] = entries.report.skipped
            notes = tuple(entries.report.notes)
        return Added(tuple(ids), tuple(skipped), notes)

    def _place(self, entry: Entry, waiting: int) -> str:
        """The class of an entry, if there is room for it."""
        if entry.label is None:
            raise GalleryError("it is outside all folders: put it into the folder of its class.")
        if len(self) + waiting >= limits.MAX_EXAMPLES:
            raise GalleryError(f"the gallery is full ({limits.MAX_EXAMPLES} examples): remove some first.")
        return self.add_class(entry.label)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove examples; their classes stay, even if empty."""
        for example in [self[id] for id in ids]:
            self._examples.pop(example.id, None)

    def move(self, ids: Iterable[str], label: str) -> str:
        """Put examples into a class, new or old. Returns its name."""
        examples = [self[id] for id in ids]
        label = self.add_class(label)
        self._examples |= {example.id: replace(example, label=label) for example in examples}
        return label

    def enable(self, ids: Iterable[str], enabled: bool = True) -> None:
        """Include examples in X and y, or keep them without."""
        examples = [self[id] for id in ids]
        self._examples |= {example.id: replace(example, enabled=enabled) for example in examples}

    def enable_class(self, name: str, enabled: bool = True) -> str:
        """Include a class in X and y, or keep it without. Returns its name."""
        label = self.label(name)
        self.enable([example.id for example in self.examples if example.label == label], enabled)
        return label

    def re_embed(self, encoder: Encoder, progress: Progress | None = None) -> None:
        """Embed all thumbnails with another model. All change or, when something raises on the way, none."""
        examples, fresh = self.examples, dict[str, Example]()
        thumbnails = ((example, example.thumbnail) for example in examples)
        for batch in batches(thumbnails, name=lambda example: example.name):
            rows = encoder.embed(batch.pictures)
            fresh |= {
                example.id: replace(example, embedding=row.copy())
                for example, row in zip(batch.keys, rows, strict=True)
            }
            if progress:
                progress(batch.done, len(examples))
        self._examples, self.model, self.fingerprint = fresh, encoder.name, encoder.fingerprint

    def check_model(self, encoder: Encoder) -> None:
        """Raise GalleryError when another model made the embeddings, or cannot have made them."""
        if encoder.fingerprint != self.fingerprint:
            raise GalleryError(
                f"this gallery was made with {shown_name(self.model)} and {shown_name(encoder.name)} came: "
                "choose that model, or embed the gallery again (re_embed)."
            )
        made = encoder.config.hidden_size
        for example in self.examples[:1]:  # all have the same length
            if len(example.embedding) != made:
                raise GalleryError(
                    f"this gallery's embeddings have {len(example.embedding)} numbers and {shown_name(encoder.name)} "
                    f"makes {made}: send the pictures again."
                )


def encoded(thumbnail: Image.Image) -> bytes:
    """The thumbnail that is kept and served: never the uploaded bytes or their metadata."""
    out = io.BytesIO()
    thumbnail.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def check_room(examples: int, nbytes: int) -> None:
    """Raise GalleryError when a gallery may not hold so many examples, or so many bytes of them."""
    if examples > limits.MAX_EXAMPLES:
        raise GalleryError(
            f"A gallery holds at most {limits.MAX_EXAMPLES} examples; this would make {examples}: remove some first."
        )
    if nbytes > limits.GALLERY_BYTES:
        most = limits.GALLERY_BYTES / limits.MIB
        raise GalleryError(f"A gallery holds at most {most:g} MiB: remove some examples first.")
