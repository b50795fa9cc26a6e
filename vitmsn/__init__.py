"""ViT-MSN: masked siamese vision transformers, to use, to look into and to train.

The public names load what they need when they are first used, so that ``import vitmsn`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitmsn.config import ViTMSNConfig
    from vitmsn.encoder import Encoder
    from vitmsn.image import ViTMSNImageProcessor
    from vitmsn.model import ViTMSNForImageClassification, ViTMSNModel
    from vitmsn.msn_head import MSNHead

__version__ = "0.1.0"

__all__ = [
    "Encoder",
    "MSNHead",
    "ViTMSNConfig",
    "ViTMSNForImageClassification",
    "ViTMSNImageProcessor",
    "ViTMSNModel",
]

_HOMES = {
    "Encoder": "encoder",
    "MSNHead": "msn_head",
    "ViTMSNConfig": "config",
    "ViTMSNForImageClassification": "model",
    "ViTMSNImageProcessor": "image",
    "ViTMSNModel": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitmsn' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"vitmsn.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
