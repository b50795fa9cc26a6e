"""What a model says of embeddings: classes, or else prototypes; and the loss between two views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitmsn.encoder import Encoder
from vitmsn.errors import MissingHeadError

PROMINENT = 5  # prototypes of the target that are listed, and of the anchor as far as they are others


@dataclass(frozen=True)
class Predictions:
    """What a model says of N embeddings: ``kind`` is class or prototype, ``index`` (N,) the most probable of
    ``names``, ``probabilities`` (N, names). From ``threshold`` on a class is sure; a prototype always is."""

    kind: str
    names: Sequence[str]
    probabilities: np.ndarray
    threshold: float = 0.0

    @property
    def index(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def probability(self) -> np.ndarray:
        """(N,) of the most probable."""
        return self.probabilities.max(1)

    def name(self, place: int) -> str:
        """The answer to embedding ``place``, in words."""
        return self.names[int(self.index[place])]


def predict(encoder: Encoder, embeddings: np.ndarray) -> Predictions:
    """The most probable class of each embedding (N, D), or the nearest prototype where there is no classifier.

    Raises:
        MissingHeadError: the model has neither, so there is no answer that could change.
    """
    if encoder.has_classifier:
        return Predictions("class", encoder.labels, encoder.class_probabilities(embeddings), encoder.threshold)
    if encoder.has_msn_head:
        shares = encoder.assign_embeddings(embeddings)
        return Predictions("prototype", [f"prototype {number + 1}" for number in range(shares.shape[1])], shares)
    raise MissingHeadError(
        f"{encoder.name} has neither a classifier nor prototypes, so it gives no answer that could change; choose a "
        "model that has, like the embedded one."
    )


@dataclass(frozen=True)
class Assignment:
    """The loss as MSN computes it for one masked view (arXiv 2204.07141, equation 2), in nats.

    Attributes:
        target: (P,) of the full view, sharpened; what the masked view should have said.
        anchor: (P,) of the masked view.
    """

    target: np.ndarray
    anchor: np.ndarray

    @property
    def cross_entropy(self) -> float:
        """How surprised the target is by the anchor: ``least`` at best, ``even`` for an anchor that knows nothing."""
        return float(cross_entropies(self.target[None], self.anchor[None])[0])

    @property
    def least(self) -> float:
        """The target's own entropy: no anchor's cross-entropy is below it."""
        return float(cross_entropies(self.target[None], self.target[None])[0])

    @property
    def even(self) -> float:
        """log P: the cross-entropy of an anchor that gives every prototype the same share."""
        return math.log(len(self.target))

    def prominent(self) -> list[int]:
        """The prototypes with the largest shares of the target, then those of the anchor that are not among them."""
        first = np.argsort(-self.target, kind="stable")[:PROMINENT]
        others = [index for index in np.argsort(-self.anchor, kind="stable")[:PROMINENT] if index not in first]
        return [int(index) for index in [*first, *others[: PROMINENT - 2]]]

    def to_dict(self) -> dict[str, Any]:
        """The cross-entropy in nats, between its least and its even value, and the prominent prototypes, from 1."""
        return {
            "cross_entropy": round(self.cross_entropy, 6),
            "cross_entropy_least": round(self.least, 6),
            "cross_entropy_even": round(self.even, 6),
            "prototypes": [
                {
                    "prototype": index + 1,
                    "full": round(float(self.target[index]), 6),
                    "masked": round(float(self.anchor[index]), 6),
                }
                for index in self.prominent()
            ],
        }


def assignment(encoder: Encoder, full: np.ndarray, masked: np.ndarray) -> Assignment:
    """Embeddings of the full view and of a masked view, (1, D) each -> the loss between them.

    Raises:
        MissingHeadError: no prototypes.
    """
    return Assignment(encoder.assign_embeddings(full, sharpen=True)[0], encoder.assign_embeddings(masked)[0])


def cross_entropies(targets: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(N, P) and (N, P) -> (N,), in nats."""
    return -(targets * np.log(np.maximum(anchors, np.finfo(np.float32).tiny))).sum(1)
