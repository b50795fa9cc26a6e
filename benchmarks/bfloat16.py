"""What bfloat16 changes: embeddings, nearest neighbors and classes of the embedded model, beside those of float32.

    python -m benchmarks bfloat16              half a minute on two cores

The pictures are those of ``benchmarks.unseen``: crops of few photographs and textures, digits. Many are nearly alike,
so that small errors change which one is nearest. Each backend is measured, and the plain forward.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from benchmarks import Figure, Missing, Row, has_bfloat16, small, unseen
from vitmsn.encoder import Encoder


def rows(quick: bool = False) -> Iterator[Row]:
    if not has_bfloat16():
        raise Missing("this processor has no bfloat16 instructions")
    pictures = [picture for _, some, _ in unseen.sets() for picture in some][:: 4 if quick else 1]
    exact = Encoder.from_pretrained(None, device="cpu", dtype="float32", backend="torch")
    wanted = exact.embed(pictures)
    encoders = {name: Encoder.from_pretrained(None, "cpu", "bfloat16", name) for name in small.backends()}
    found = {name: encoder.embed(pictures) for name, encoder in encoders.items()}
    found["the plain forward"] = _plain(encoders["torch"], pictures)
    for name, embeddings in found.items():
        what = f"embedded model, {len(pictures)} pictures, bfloat16 by {name}:"
        cosines = np.array([_cosine(*pair) for pair in zip(embeddings, wanted, strict=True)])
        error, low = f"{1 - cosines.mean():.1e} from 1 on average", cosines.min()
        yield Row(f"{what} lowest cosine to float32", f"{low:.5f}", error, Figure(low, low, low), 0.9995)
        for claim, one, other, least in (
            ("the same nearest picture", _nearest(exact, embeddings), _nearest(exact, wanted), 0.995),
            ("the same class", _classes(exact, embeddings), _classes(exact, wanted), None),
        ):
            same = float((one == other).mean())
            yield Row(f"{what} {claim}", f"{(one == other).sum()}", f"{len(one)}", Figure(same, same, same), least)


def _plain(encoder: Encoder, pictures: list) -> NDArray[np.float32]:
    pixels = encoder.processor(pictures)["pixel_values"].to(torch.bfloat16)
    with torch.inference_mode():
        return torch.cat([encoder.model(some).last_hidden_state[:, 0].float() for some in pixels.split(64)]).numpy()


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(F.cosine_similarity(torch.from_numpy(one), torch.from_numpy(other), dim=0))


def _nearest(encoder: Encoder, embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    rows = F.normalize(torch.from_numpy(embeddings - encoder.feature_mean), dim=1)
    return (rows @ rows.T).fill_diagonal_(-2).argmax(1).numpy()


def _classes(encoder: Encoder, embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    return encoder.class_probabilities(embeddings).argmax(1)
