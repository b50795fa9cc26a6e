"""ViT-MSN: masked siamese vision transformers, to use, to look into and to train."""

__version__ = "0.1.0"
