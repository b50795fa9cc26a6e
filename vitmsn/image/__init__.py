"""From untrusted bytes to the network's input.

bytes, path or PIL -> decode -> Picture (upright, sRGB, 8 bit) -> ViTMSNImageProcessor -> pixel_values (N, 3, H, W)
"""

from vitmsn.image.batches import Batch, ahead, batches, decoding_threads
from vitmsn.image.decode import WHITE, ImageSource, Picture, decode, listed
from vitmsn.image.formats import EXTENSIONS, SNIFFED, SUPPORTED, is_picture
from vitmsn.image.pixels import Budget, check_total, counted
from vitmsn.image.processor import IMAGENET_MEAN, IMAGENET_STD, RECIPES, ImageInputs, Size, ViTMSNImageProcessor
from vitmsn.image.view_cache import CachedView, ViewCache

__all__ = [
    "EXTENSIONS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RECIPES",
    "SNIFFED",
    "SUPPORTED",
    "WHITE",
    "Batch",
    "Budget",
    "CachedView",
    "ImageInputs",
    "ImageSource",
    "Picture",
    "Size",
    "ViTMSNImageProcessor",
    "ViewCache",
    "ahead",
    "batches",
    "check_total",
    "counted",
    "decode",
    "decoding_threads",
    "is_picture",
    "listed",
]
