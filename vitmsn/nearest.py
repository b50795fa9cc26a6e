"""What an embedding, or a prototype, looks like: the pictures of a gallery that are nearest to it.

index = PictureIndex(Encoder.from_pretrained(), sorted(Path("photos").glob("*.jpg")))
print(index.nearest(index.encoder.embed("cat.jpg"))[0])    # five pictures, the most similar first
print(index.prototype(17).to_dict())                        # the pictures of one group the network invented
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitmsn.encoder import Encoder
from vitmsn.encodings import Progress
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import ImageSource, ahead, batches, listed


@dataclass(frozen=True)
class NearPicture:
    """One picture of a gallery beside an embedding or a prototype.

    Attributes:
        place: its place in the gallery, from 0.
        name: its name there.
        similarity: cosine of the embeddings, centered if the model has a feature mean; None beside a prototype.
        probability: of the prototype for this picture; None beside an embedding.
    """

    place: int
    name: str
    similarity: float | None = None
    probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; null for what does not apply."""
        return {
            "name": self.name,
            "similarity": None if self.similarity is None else round(self.similarity, 6),
            "probability": None if self.probability is None else round(self.probability, 6),
        }


@dataclass(frozen=True)
class PrototypeStrip:
    """A prototype as the pictures that count it most.

    Attributes:
        prototype: its number, from 0.
        pictures: those with the highest probability of it, first the highest.
        first: how many pictures of the gallery have it as their most probable prototype.
        share: its mean probability over the gallery.
    """

    prototype: int
    pictures: tuple[NearPicture, ...]
    first: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the prototype counts from 1."""
        return {
            "prototype": self.prototype + 1,
            "first": self.first,
            "share": round(self.share, 6),
            "pictures": [picture.to_dict() for picture in self.pictures],
        }


class PictureIndex:
    """A gallery of pictures, embedded once by one model, to find those nearest to something.

    Args:
        encoder: the model.
        images: the gallery, at least one picture, in anything ``image.decode`` takes.
        names: of the pictures; by default their own.
        progress: called with (pictures done, pictures in all) after every batch.

    Attributes:
        embeddings: (N, D) float32.
        assigned: (N, P) float32 probabilities over the prototypes; None for a model without them.

    Raises:
        InputError: no picture, or another number of names.
        ImageError: a picture that cannot be read, named.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: ImageSource | Iterable[ImageSource],
        names: Sequence[str] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        sources = listed(images)
        if not sources:
            raise InputError("A gallery of 0 pictures came and at least one is needed; give pictures to compare with.")
        if names is not None and len(names) != len(sources):
            raise InputError(f"{len(sources)} pictures came with {len(names)} names; give one name for each.")
        self.encoder = encoder
        self.names: list[str] = []
        rows = []
        for batch in ahead(batches(enumerate(sources))):
            self.names += [picture.name for picture in batch.pictures]
            rows.append(encoder.embed(batch.pictures))
            if progress is not None:
                progress(batch.done, len(sources))
        self.names = list(names) if names is not None else self.names
        self.embeddings = np.concatenate(rows)
        self.assigned = encoder.assign_embeddings(self.embeddings) if encoder.has_msn_head else None
        self._units = self._directions(self.embeddings)

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, embeddings: np.ndarray, count: int = 5) -> list[tuple[NearPicture, ...]]:
        """The ``count`` most similar pictures for each embedding (M, D) of the same model, the nearest first.

        Raises:
            InputError: embeddings of another width, or a count below 1.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embeddings.shape[1]:
            raise InputError(
                f"Embeddings of shape {tuple(embeddings.shape)} came and (pictures, {self.embeddings.shape[1]}) is "
                "needed; make them with the encoder of this gallery."
            )
        similarity = self._directions(embeddings) @ self._units.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, : _count(count)]
        return [
            tuple(NearPicture(int(place), self.names[place], similarity=float(row[place])) for place in places)
            for row, places in zip(similarity, order, strict=True)
        ]

    def prototype(self, number: int, count: int = 6) -> PrototypeStrip:
        """Prototype ``number`` (from 0) as the ``count`` pictures with the highest probability of it.

        Raises:
            MissingHeadError: the model has no prototypes.
            InputError: a number that it does not have, or a count below 1.
        """
        assigned = self._assigned()
        if not 0 <= number < assigned.shape[1]:
            raise InputError(
                f"Prototype {number} was asked for and this model has 0 to {assigned.shape[1] - 1}; choose one of them."
            )
        column = assigned[:, number]
        order = np.argsort(-column, kind="stable")[: _count(count)]
        pictures = tuple(NearPicture(int(p), self.names[p], probability=float(column[p])) for p in order)
        first = int((assigned.argmax(1) == number).sum())
        return PrototypeStrip(int(number), pictures, first, float(column.mean()))

    def prototypes_in_use(self) -> list[int]:
        """The prototypes (from 0) that are the most probable one of some picture, those of most pictures first.

        Raises:
            MissingHeadError: the model has no prototypes.
        """
        numbers, pictures = np.unique(self._assigned().argmax(1), return_counts=True)
        return [int(number) for number in numbers[np.argsort(-pictures, kind="stable")]]

    def _assigned(self) -> np.ndarray:
        if self.assigned is None:
            raise MissingHeadError(
                f"{self.encoder.name} has no prototypes to show pictures of; choose a model that does, like the "
                "embedded one, or ask for the nearest pictures of an embedding."
            )
        return self.assigned

    def _directions(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) unit vectors, around the model's feature mean where it has one."""
        mean = self.encoder.feature_mean
        around = embeddings if mean is None else embeddings - mean
        norms = np.linalg.norm(around, axis=1, keepdims=True)
        directions: np.ndarray = around / np.maximum(norms, np.finfo(np.float32).tiny)
        return directions


def kept(one: Sequence[NearPicture], other: Sequence[NearPicture]) -> int:
    """How many pictures of ``one`` are also in ``other``, in any order."""
    return len({picture.place for picture in one} & {picture.place for picture in other})


def _count(count: int) -> int:
    if count < 1:
        raise InputError(f"{count} pictures were asked for; ask for at least 1.")
    return count
