"""Open a teacher: a model of this package, one of transformers, a function, or a file of answers.

    open_teacher("facebook/vit-msn-small")             a folder, file or hub id that this package reads
    open_teacher("transformers:google/vit-base-patch16-224")
    open_teacher("my_teacher.py:answer")               (B, 3, side, side) uint8 -> (B, classes) probabilities
    open_teacher("answers.npy")                        (N, classes), a row for each picture of the data set

A model of this package answers with its classes; without a classifier with its prototypes; without those with its
features, as the softmax over centers that k-means finds among them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitmsn import extras
from vitmsn.errors import DataError, InputError
from vitmsn.training.answers import Answerer

CENTERS, SAMPLE = 512, 10_000  # of k-means over a teacher's features, and the pictures it uses
SHARP = 0.025  # temperature of a teacher's features against the centers: MSN's target temperature, tau * T


@dataclass(frozen=True)
class Teacher:
    """Something that answers pictures with probabilities.

    Attributes:
        name: as it was asked for.  checksum: of what decides its answers.
        answer: (B, 3, side, side) uint8 -> (B, classes); None for a file of answers.
        classes: the names of what it answers with; empty where they have none.
        rows: (N, classes) of a file of answers; None otherwise.
    """

    name: str
    checksum: str
    answer: Answerer | None
    classes: tuple[str, ...] = ()
    rows: np.ndarray | None = None


def open_teacher(source: str, pictures: Tensor, device: str = "auto") -> Teacher:
    """Open a teacher by name; see the module for the forms.

    Args:
        pictures: (N, 3, h, w) uint8, among which k-means looks for centers where a model has features only.

    Raises:
        InputError: there is no such file or function.
        ViTMSNError: the model cannot be loaded.
    """
    path, _, function = source.rpartition(":")
    if path.endswith(".py"):
        return _of_function(source, Path(path), function)
    if source.endswith(".npy"):
        return _of_file(source)
    if source.startswith("transformers:"):
        return _of_transformers(source, source.removeprefix("transformers:"), device)
    return _of_encoder(source, pictures, device)


def _of_function(source: str, path: Path, name: str) -> Teacher:
    if not path.is_file():
        raise InputError(f"There is no file {path}; give a teacher as FILE.py:FUNCTION.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a .py file always has them
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answer = getattr(module, name, None)
    if not callable(answer):
        raise InputError(f"{path} has no function {name!r}; give a teacher as FILE.py:FUNCTION.")
    return Teacher(source, hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest(), answer)


def read_probabilities(source: str) -> np.ndarray:
    """A .npy file of (pictures, classes), memory-mapped.

    Raises:
        InputError: it cannot be read.
        DataError: it holds something else.
    """
    try:
        rows = np.load(source, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} is not an array ({error}); give a .npy file of (pictures, classes).") from error
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise DataError(f"{source} holds {rows.dtype} {rows.shape}; probabilities (pictures, classes) are needed.")
    found: np.ndarray = rows
    return found


def _of_file(source: str) -> Teacher:
    rows = read_probabilities(source)
    digest = hashlib.blake2b(repr((rows.shape, rows.dtype.str)).encode(), digest_size=8)
    for first in range(0, len(rows), 4096):
        digest.update(np.ascontiguousarray(rows[first : first + 4096]).tobytes())
    return Teacher(source, digest.hexdigest(), None, rows=rows)


def _of_encoder(source: str, pictures: Tensor, device: str) -> Teacher:
    from vitmsn.classification import SINGLE
    from vitmsn.encoder import Encoder

    encoder = Encoder.from_pretrained(source, device)
    if encoder.problem_type not in (None, SINGLE):
        raise InputError(
            f"{source} answers with {encoder.problem_type}, and a student learns shares that add up to one: give a "
            "classifier of which one class is right, or a backbone."
        )

    def embed(pixels: Tensor) -> np.ndarray:
        return encoder.embed([Image.fromarray(one) for one in pixels.permute(0, 2, 3, 1).cpu().numpy()])

    answer: Callable[[np.ndarray], np.ndarray]
    if encoder.labels:
        answer, classes = encoder.class_probabilities, tuple(encoder.labels)
    elif encoder.has_msn_head:
        answer, classes = (lambda embedded: encoder.assign_embeddings(embedded, sharpen=True)), ()
    else:
        answer, classes = _near_centers(embed(_spread(pictures))), ()
    return Teacher(source, encoder.fingerprint, lambda pixels: torch.from_numpy(answer(embed(pixels))), classes)


def _spread(pictures: Tensor) -> Tensor:
    return pictures[:: max(1, -(-len(pictures) // SAMPLE))]


def _near_centers(embedded: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Embeddings -> softmax over the centers that k-means finds, on the sphere around their mean."""
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import normalize

    mean = embedded.mean(0)
    k = min(CENTERS, len(embedded) // 4)
    if k < 2:
        raise DataError(f"{len(embedded)} pictures are too few for centers of a teacher's features; 8 are needed.")
    centers = normalize(KMeans(k, n_init=1, random_state=0).fit(normalize(embedded - mean)).cluster_centers_)
    return lambda rows: torch.from_numpy(normalize(rows - mean) @ centers.T / SHARP).softmax(1).numpy()


def _of_transformers(source: str, name: str, device: str) -> Teacher:
    with extras.named():
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    from vitmsn.devices import choose_device

    chosen = choose_device(device)
    processor: Any = AutoImageProcessor.from_pretrained(name)
    model: Any = AutoModelForImageClassification.from_pretrained(name).to(chosen).eval()

    @torch.inference_mode()
    def answer(pixels: Tensor) -> Tensor:
        given = processor(images=list(pixels.permute(0, 2, 3, 1).cpu().numpy()), return_tensors="pt")
        return model(pixel_values=given["pixel_values"].to(chosen)).logits.float().softmax(1).cpu()

    classes = tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))
    return Teacher(source, _checksum(model.state_dict()), answer, classes)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
