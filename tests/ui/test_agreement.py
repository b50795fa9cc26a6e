"""Classify, Attention, Masking and the API give a picture the same name: they use one model in one way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitmsn import image
from vitmsn.data import open_data
from vitmsn.encoder import Encoder
from vitmsn.image import Picture
from vitmsn.ui.attention.map_view import AttentionControls, see
from vitmsn.ui.attention.tab import doubt
from vitmsn.ui.masking import tab as masking_tab
from vitmsn.ui.shared import examples, html


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_pretrained(device="cpu")


def agree(encoder: Encoder, pictures: list[Picture]) -> None:
    together = encoder.classify(pictures, top_k=1)  # as "Several pictures" and the command line do
    grid = encoder.grid()
    for picture, known in zip(pictures, together, strict=True):
        name = known.labels[0]
        [page] = encoder.classify([picture], top_k=5)  # Classify, and /classify
        assert (page.labels[0], page.sure) == (name, known.sure)
        kept = np.ones(grid, bool)
        kept[0, 0] = False
        found = masking_tab.compare(encoder, picture, kept)
        [before] = encoder.classify_embeddings(found.full, top_k=1)
        assert (before.labels[0], before.sure) == (name, known.sure)
        assert name in masking_tab.sentence(encoder, found, (1.0, 1.0))
        assert html.text(name) in doubt(encoder, see(encoder, picture, AttentionControls(kind="relevance")))


def test_all_tabs_name_the_examples_alike(encoder: Encoder) -> None:
    agree(encoder, [image.decode(example.picture) for example in examples.photographs()])


def test_all_tabs_name_three_hundred_held_out_pictures_alike(encoder: Encoder, shared_data: Path) -> None:
    queries = open_data(shared_data / "tiny-imagenet", split="validation")
    agree(
        encoder, [image.decode(record.data) for record in queries.subset(range(0, len(queries), len(queries) // 300))]
    )
