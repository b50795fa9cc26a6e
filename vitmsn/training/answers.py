"""A teacher's answers to pictures: computed once, kept in memory-mapped files, resumed where it stopped.

    answers = ask(teacher, pictures, folder, TeacherViews(4), checksum)
    answers.take(indices, view=2)  # Probabilities

A teacher is any function from uint8 pictures to probabilities. With ``TeacherViews(0)`` it sees whole pictures. With
more it sees that many seeded crops of each, and the student is later shown the very same crops: a teacher that sees
what the student sees teaches better than one that saw something else (Beyer et al., arXiv 2106.05237). Random numbers
are keyed by picture and view (``augment.keyed_uniform``), so the crops can be drawn again and need no storage.

Of each answer the most probable classes are kept; the rest is spread evenly over the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn.errors import DataError
from vitmsn.files import replacing
from vitmsn.training import augment

KEPT = 32  # classes kept of an answer
BATCH = 64  # pictures asked at once
SAVE_EVERY = 50  # batches between two saves of the progress

Answerer = Callable[[Tensor], Tensor]
"""(B, 3, side, side) uint8 -> (B, classes) probabilities; rows sum to 1."""


@dataclass(frozen=True)
class TeacherViews:
    """The views of each picture that a teacher sees."""

    count: int = 4  # crops of each picture; 0: the whole picture, once
    side: int = 160  # of each view, pixels
    scale: tuple[float, float] = (0.35, 1.0)  # share of the picture that a crop covers
    seed: int = 0

    @property
    def stored(self) -> int:
        """Answers kept of each picture."""
        return max(1, self.count)

    def draw(self, pictures: Tensor, indices: Tensor, view: int) -> Tensor:
        """(B, 3, h, w) uint8 -> (B, 3, side, side) uint8: what the teacher sees in this view of these pictures."""
        if self.count:
            recipe = augment.ViewRecipe(self.side, self.scale, blur=0.0)
            return augment.draw_crop(pictures, indices, recipe, self.seed, view)
        size = (self.side, self.side)
        resized = F.interpolate(pictures.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
        return resized.round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Probabilities:
    """Distributions over classes of which the ``K`` most probable are stored.

    Attributes:
        classes: (B, K) int64.  probabilities: (B, K) float32.
        rest: (B,) float32, the probability of each class that is not stored.
    """

    classes: Tensor
    probabilities: Tensor
    rest: Tensor

    def to(self, device: torch.device) -> Probabilities:
        return Probabilities(self.classes.to(device), self.probabilities.to(device), self.rest.to(device))

    def flip(self) -> Probabilities:
        """In the reverse order of the pictures."""
        return Probabilities(self.classes.flip(0), self.probabilities.flip(0), self.rest.flip(0))

    def divergence(self, logits: Tensor) -> Tensor:
        """Mean KL(self || softmax(logits)) in nats; logits (B, C)."""
        log_q = F.log_softmax(logits.float(), 1)
        others = logits.shape[1] - self.classes.shape[1]
        rest = self.rest[:, None]
        cross = -((self.probabilities - rest) * log_q.gather(1, self.classes)).sum(1) - self.rest * log_q.sum(1)
        entropy = torch.special.entr(self.probabilities).sum(1) + others * torch.special.entr(self.rest)
        return (cross - entropy).mean()


class Answers:
    """A teacher's answers to N pictures in V views, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / "answers.json").read_text())
        self._classes = np.load(folder / "classes.npy", mmap_mode="r")  # (V, N, K) uint16
        self._probabilities = np.load(folder / "probabilities.npy", mmap_mode="r")  # (V, N, K) float16

    @property
    def num_classes(self) -> int:
        return int(self.facts["classes"])

    @property
    def views(self) -> TeacherViews:
        facts = self.facts["views"]
        return TeacherViews(**{**facts, "scale": tuple(facts["scale"])})

    def __len__(self) -> int:
        return int(self._classes.shape[1])

    def take(self, indices: Tensor, view: int = 0) -> Probabilities:
        """The answers to the pictures at ``indices`` (B,) in one view."""
        rows = indices.cpu().numpy()
        probabilities = torch.from_numpy(self._probabilities[view, rows].astype(np.float32))
        others = self.num_classes - probabilities.shape[1]
        left = (1 - probabilities.sum(1)).clamp_min(0)
        rest = left / others if others else torch.zeros_like(left)
        return Probabilities(torch.from_numpy(self._classes[view, rows].astype(np.int64)), probabilities, rest)


def fingerprint(pictures: Tensor) -> str:
    """Of (N, 3, h, w) uint8: the same pictures in the same order have the same."""
    digest = hashlib.blake2b(repr(tuple(pictures.shape)).encode(), digest_size=8)
    for part in pictures.split(4096):
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def ask(
    teacher: Answerer | np.ndarray,
    pictures: Tensor,
    folder: Path,
    views: TeacherViews,
    checksum: str,
    progress: Callable[[int, int], object] | None = None,
) -> Answers:
    """All answers, from disk as far as they are there; an interrupted call resumes.

    Args:
        teacher: a function, or its answers to whole pictures, (N, classes).
        pictures: (N, 3, h, w) uint8.
        folder: where answers are kept, each teacher's to each data set in a folder of its own.
        checksum: of the teacher; another teacher's answers are never taken for its.
        progress: called with (done, total) answers.

    Raises:
        DataError: the teacher's answers are no probabilities.
    """
    shown = {**asdict(views), "scale": list(views.scale)}
    kind: dict[str, Any] = {"teacher": checksum, "pictures": fingerprint(pictures), "views": shown}
    name = hashlib.blake2b(json.dumps(kind, sort_keys=True).encode(), digest_size=8).hexdigest()
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    facts_file, total = place / "answers.json", views.stored * len(pictures)
    facts = json.loads(facts_file.read_text()) if facts_file.exists() else {**kind, "done": 0}
    done, stores = int(facts["done"]), None
    while done < total:
        view, first = divmod(done, len(pictures))
        indices = torch.arange(first, min(first + BATCH, len(pictures)))
        if isinstance(teacher, np.ndarray):
            said = torch.from_numpy(np.array(teacher[indices.numpy()]))
        else:
            said = teacher(views.draw(pictures[indices], indices, view))
        found = _checked(said, len(indices))
        top = found.topk(min(KEPT, found.shape[1]), dim=1)
        if stores is None:
            facts["classes"] = found.shape[1]
            stores = _stores(place, (views.stored, len(pictures), top.values.shape[1]), new=done == 0)
        stores[0][view, first : first + len(indices)] = top.indices.numpy()
        stores[1][view, first : first + len(indices)] = top.values.numpy()
        done += len(indices)
        if done == total or (done // BATCH) % SAVE_EVERY == 0:
            for store in stores:
                store.flush()
            with replacing(facts_file) as fresh:
                fresh.write_text(json.dumps({**facts, "done": done}))
            if progress is not None:
                progress(done, total)
    return Answers(place)


def _stores(place: Path, shape: tuple[int, int, int], new: bool) -> tuple[np.memmap, np.memmap]:
    """(classes, probabilities), writable, of what is stored."""
    kinds = (("classes.npy", np.uint16), ("probabilities.npy", np.float16))
    if new:
        return tuple(np.lib.format.open_memmap(place / name, "w+", dtype, shape) for name, dtype in kinds)  # type: ignore[return-value]
    return tuple(np.lib.format.open_memmap(place / name, "r+") for name, _ in kinds)  # type: ignore[return-value]


def _checked(found: Tensor, count: int) -> Tensor:
    found = torch.as_tensor(found).float().cpu()
    good = found.ndim == 2 and len(found) == count and found.shape[1] > 1
    if not good or not (found >= 0).all() or not torch.allclose(found.sum(1), torch.ones(count), atol=1e-2):
        raise DataError(
            f"The teacher answered {tuple(found.shape)} to {count} pictures; it must give a row of probabilities for "
            "each, at least 0 and summing to 1."
        )
    return found
