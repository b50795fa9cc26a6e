"""A gallery as one file: a zip with gallery.json, embeddings.safetensors and pictures/, written and read again.

A bundle is read as any other zip is, and every value in it is checked.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from vitmsn import limits
from vitmsn.archive import Archive
from vitmsn.errors import GalleryError, ImageError
from vitmsn.gallery import PIXELS, Example, Gallery, Progress, check_room, encoded
from vitmsn.image import decode
from vitmsn.names import shown_name

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

FORMAT, VERSION = "vitmsn-gallery", 1
SQUARABLE = 1e15  # of a number in an embedding: squares of these still have a sum
ABOUT, EMBEDDINGS = "gallery.json", "embeddings.safetensors"
TOP = {"model": str, "fingerprint": str, "settings": dict, "classes": list, "examples": list}
FIELDS = {"id": str, "label": str, "name": str, "digest": str, "enabled": bool}


def save(gallery: Gallery, path: str | os.PathLike[str]) -> Path:
    """Write a gallery to one zip, replaced atomically; equal galleries give equal files. Returns the path."""
    target = Path(path)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "model": gallery.model,
        "fingerprint": gallery.fingerprint,
        "settings": gallery.settings,
        "classes": gallery.classes,
        "examples": [{key: getattr(example, key) for key in FIELDS} for example in gallery.examples],
    }
    rows = [example.embedding for example in gallery.examples]
    matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    raw = np.array([example.pixels for example in gallery.examples], np.uint8).reshape(-1, PIXELS)
    try:
        text = json.dumps(about, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GalleryError(f"settings hold something else than plain values ({error}): take it out.") from error
    pictures = {_picture(example.id): example.thumbnail for example in gallery.examples}
    files = {
        ABOUT: text.encode(),
        EMBEDDINGS: safetensors.numpy.save({"embeddings": matrix, "pixels": raw}),
        **pictures,
    }
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.resolve().parent) as beside:
            fresh = Path(beside) / "gallery"
            with zipfile.ZipFile(fresh, "w") as packed:
                for name, data in files.items():
                    info = zipfile.ZipInfo(name)  # dated 1980, so that only the content counts
                    info.compress_type = zipfile.ZIP_DEFLATED if name == ABOUT else zipfile.ZIP_STORED
                    packed.writestr(info, data)
            os.replace(fresh, target)
    except OSError as error:
        raise GalleryError(
            f"{shown_name(target.name)} cannot be written ({error.strerror}): choose another place."
        ) from error
    return target


def is_bundle(source: bytes | str | os.PathLike[str]) -> bool:
    """Whether a zip is for ``load`` rather than for ``archive.read_zip``. Raises ArchiveError as they do."""
    archive = Archive(source)
    archive.close()
    return any(info.filename == ABOUT for info in archive.infos)


def load(
    source: bytes | str | os.PathLike[str],
    encoder: Encoder,
    *,
    re_embed: bool = False,
    progress: Progress | None = None,
) -> Gallery:
    """Read what ``save`` wrote, as ``read`` does, for the model that made it.

    A gallery made by another model is refused, unless ``re_embed`` asks to embed its thumbnails with this one.
    """
    gallery = read(source, progress)
    if re_embed and gallery.fingerprint != encoder.fingerprint:
        gallery.re_embed(encoder, progress)
    gallery.check_model(encoder)
    return gallery


def read(source: bytes | str | os.PathLike[str], progress: Progress | None = None) -> Gallery:
    """Read what ``save`` wrote, for any model, from a path or bytes. Every picture is encoded again.

    Raises ArchiveError for a hostile or damaged zip, GalleryError for one that is not such a gallery.
    """
    archive = Archive(source)
    try:
        return _checked(archive, progress)
    finally:
        archive.close()


@dataclass(frozen=True)
class _Maker:
    """The model that a bundle names."""

    name: str
    fingerprint: str


def _picture(id: str) -> str:
    return f"pictures/{id}.jpg"


def _checked(archive: Archive, progress: Progress | None) -> Gallery:
    """The gallery in a bundle, every value of it checked."""

    def need(good: object, what: str) -> None:
        if not good:
            raise GalleryError(f"{archive.shown} is not a gallery saved here: {what}; save it again, or send pictures.")

    def part(name: str, most: int) -> bytes:
        need(name in members, f"{name} is missing")
        data = archive.load(members[name], most)
        need(isinstance(data, bytes), f"{name} is {data!r:.80}")
        return cast(bytes, data)

    members = {"/".join(archive.parts(info)): info for info in archive.infos}
    need(len(members) == len(archive.infos), "a name comes twice")
    about: Any = None
    text = part(ABOUT, limits.MAX_HEADER_BYTES)
    with suppress(RecursionError, ValueError):  # the latter also for numbers of thousands of digits
        about = json.loads(text)
    need(isinstance(about, dict) and about.get("format") == FORMAT, f"{ABOUT} is damaged or about something else")
    need(about.get("version") == VERSION, "a newer version wrote it")
    for key, kind in TOP.items():
        need(type(about.get(key)) is kind, f"its {key} are missing or wrong")
    rows, classes, settings = about["examples"], about["classes"], about["settings"]
    need(all(isinstance(name, str) for name in classes), "a class has no name")
    need(
        len(settings) <= 100 and all(_plain(value) for value in settings.values()), "its settings are not plain values"
    )
    check_room(len(rows), 0)
    tensors: dict[str, Any] = {}
    with suppress(SafetensorError, KeyError, TypeError):
        tensors = safetensors.numpy.load(part(EMBEDDINGS, limits.GALLERY_BYTES))
    matrix, raw = tensors.get("embeddings"), tensors.get("pixels")
    need(matrix is not None and matrix.dtype == np.float32 and matrix.ndim == 2, f"{EMBEDDINGS} is damaged")
    need(raw is not None and raw.dtype == np.uint8 and raw.ndim == 2, f"{EMBEDDINGS} is damaged")
    matrix, raw = cast(NDArray[np.float32], matrix), cast(NDArray[np.uint8], raw)
    fits = len(matrix) == len(rows) and raw.shape == (len(rows), PIXELS) and (np.abs(matrix) < SQUARABLE).all()
    need(fits, "its embeddings do not fit its examples")

    gallery = Gallery(_Maker(shown_name(about["model"]), about["fingerprint"]))
    gallery.settings = settings
    for name in classes:
        gallery.add_class(name)

    def examples() -> Iterator[Example]:
        ids = set()
        for done, (row, embedding, pixels) in enumerate(zip(rows, matrix, raw, strict=True), start=1):
            if progress:
                progress(done, len(rows))
            need(isinstance(row, dict) and row.keys() == FIELDS.keys(), "an example is incomplete")
            need(all(type(row[key]) is kind for key, kind in FIELDS.items()), "an example is wrong")
            need(re.fullmatch(r"e[1-9][0-9]{0,8}", row["id"]) and row["id"] not in ids, "an example's id is wrong")
            ids.add(row["id"])
            need(re.fullmatch(r"[0-9a-f]{64}", row["digest"]), "an example's digest is wrong")
            need(row["label"] in gallery.classes, "an example's class is missing")
            name = shown_name(row["name"])
            data = part(_picture(row["id"]), limits.MAX_IMAGE_BYTES)
            try:
                picture = decode(data, name=name, most=limits.THUMBNAIL_SIDE)
            except ImageError as error:
                raise GalleryError(f"{archive.shown} is damaged: {error}") from error
            thumbnail = encoded(picture.thumbnail(limits.THUMBNAIL_SIDE))
            kept = {"name": name, "thumbnail": thumbnail, "embedding": embedding.copy(), "pixels": pixels.copy()}
            yield Example(**row | kept)

    gallery.restore(examples())
    return gallery


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
