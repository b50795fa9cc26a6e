"""Every reader of untrusted bytes, with small valid files to start from: for property tests and for fuzzing."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from tests.support.galleries import Fake, pictures, png
from tests.support.zips import zipped
from vitmsn import archive, bundle, image, masking
from vitmsn.checkpoint.safe import open_weights, read_tensor
from vitmsn.errors import ArchiveError, CheckpointError, ImageError, InputError, ViTMSNError
from vitmsn.gallery import Gallery
from vitmsn.ui import request_body
from vitmsn.ui.request_body import objects, parse, shape


@dataclass(frozen=True)
class Reader:
    """`read(data)` returns, or raises one of `refusals` with a sentence; nothing else may happen."""

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]


def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    made = []
    for kind, more in (
        *(("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})),
        *(("BMP", {}), ("GIF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})),
    ):
        out = io.BytesIO()
        picture.save(out, kind, **more)  # type: ignore[arg-type]
        made.append(out.getvalue())
    return made


def _zips() -> list[bytes]:
    return [zipped({"cat/1.png": png(), "dog/2.png": png((1, 2, 3)), "__MACOSX/x": b"x"}), zipped({})]


def _bundles() -> list[bytes]:
    gallery = Gallery(Fake())
    gallery.add("cat", pictures(10, 20), Fake().embed(pictures(10, 20)))
    with tempfile.TemporaryDirectory() as folder:
        return [bundle.save(gallery, Path(folder) / "a.zip").read_bytes()]


def _safetensors() -> list[bytes]:
    return [safetensors.torch.save({"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, {"c": "d"})]


def _pickles() -> list[bytes]:
    out = io.BytesIO()
    torch.save({"state_dict": {"a": torch.ones(2, 3)}, "epoch": 3}, out)
    return [out.getvalue()]


def _weights(ending: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"weights{ending}"
            path.write_bytes(data)
            tensors, _ = open_weights(path)
            return [read_tensor([tensor]) for tensor in tensors.values()]

    return read


def _body(data: bytes) -> Any:
    value = parse(data)
    return shape(value) or [request_body.is_uploaded(entry) for entry in objects(value)]


READERS = {
    "picture": Reader(image.decode, (ImageError,), _pictures),
    "archive": Reader(lambda data: list(archive.read_zip(data)), (ArchiveError,), _zips),
    "bundle": Reader(bundle.read, (ViTMSNError,), _bundles),
    "safetensors": Reader(_weights(".safetensors"), (CheckpointError,), _safetensors),
    "pickle": Reader(_weights(".bin"), (CheckpointError,), _pickles),
    "mask": Reader(
        lambda data: masking.read_painted(data.decode("latin-1"), (4, 5)),
        (InputError,),
        lambda: [b"1.1, 2.3-4.5", b"4.5"],
    ),
    "request": Reader(
        _body,
        (ValueError,),
        lambda: [
            json.dumps({"data": [{"path": "/a", "meta": {"_type": "gradio.FileData"}}], "fn_index": 3}).encode(),
            b'{"session_hash": "abc", "data": [1.5, null, "x"]}',
        ],
    ),
}
