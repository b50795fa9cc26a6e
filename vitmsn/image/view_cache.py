"""What a model sees of the last pictures, each resized once: many masked views of a picture need it."""

from __future__ import annotations

import hashlib
import threading
import weakref
from dataclasses import dataclass

from cachetools import LRUCache
from PIL import Image

from vitmsn.image.decode import Picture
from vitmsn.image.processor import ViTMSNImageProcessor


@dataclass(frozen=True)
class CachedView:
    """A picture as a model sees it: RGB, resized and cropped. ``digest`` (SHA-256, hex) is of its pixels.

    What a network gives follows from these pixels alone, and they are far fewer than the picture's own: answers are
    kept under their digest.
    """

    image: Image.Image
    digest: str


class ViewCache:
    """What is seen of pictures through one preprocessing; the last ``most`` of them are kept. Threads may share it."""

    def __init__(self, processor: ViTMSNImageProcessor, most: int) -> None:
        self._processor, self._lock = processor, threading.Lock()
        self._known: LRUCache[tuple[int, tuple[int, int]], tuple[weakref.ref[Picture], CachedView]] = LRUCache(most)

    def take(self, picture: Picture, size: tuple[int, int]) -> CachedView:
        """``picture`` at an input of ``size``, (height, width)."""
        key = id(picture), size
        with self._lock:
            known = self._known.get(key)
        if known is not None and known[0]() is picture:  # else the id was that of a picture that is gone
            return known[1]
        image = self._processor.view(picture, size)
        view = CachedView(image, hashlib.sha256(image.tobytes()).hexdigest())
        with self._lock:
            self._known[key] = weakref.ref(picture), view
        return view
