"""A model with everything that the walkthrough needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.ui import CONFIG
from vitmsn import checkpoint
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead


@pytest.fixture(scope="session")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A backbone with a projector, eight prototypes and a feature mean."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "headed"
    checkpoint.save(
        folder,
        CONFIG,
        ViTMSNModel(replace(CONFIG, initializer_range=0.3)).state_dict(),
        msn_head=MSNHead(16, 12, 6, 8).state_dict(),
        feature_mean=torch.full((16,), 0.1),
        processor=ViTMSNImageProcessor(16).to_dict(),
    )
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")
