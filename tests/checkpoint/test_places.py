"""Where a model can be: embedded, or among the published variants."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitmsn import checkpoint
from vitmsn.config import VARIANTS
from vitmsn.errors import CheckpointError
from vitmsn.model import ViTMSNModel


def test_embedded_models_open_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (checkpoint.EMBEDDED, checkpoint.MSN_ONLY):
        loaded = checkpoint.load(name)
        assert loaded.msn_head and loaded.source == name
        assert bool(loaded.classifier) == (name == checkpoint.EMBEDDED)  # no labels, no classifier
        assert checkpoint.read_processor(name) == checkpoint.read_processor(checkpoint.embedded(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / checkpoint.EMBEDDED).mkdir()  # what is here comes first
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        checkpoint.load(checkpoint.EMBEDDED)


def test_a_missing_embedded_model_is_named() -> None:
    with pytest.raises(CheckpointError, match="embedded model 'no-such-model' is not installed"):
        checkpoint.embedded("no-such-model")


def test_shapes_of_the_published_variants_are_those_of_the_network() -> None:
    for name, config in VARIANTS.items():
        with torch.device("meta"):
            network = ViTMSNModel(config, use_mask_token=True)
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        assert shapes == config.shapes(mask_token=True), name
