"""The pictures of a run: in memory as uint8 when they fit, else read from disk a batch ahead of the training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vitmsn.data import DataSet, Record, to_uint8
from vitmsn.errors import DataError, ImageError
from vitmsn.image import ViTMSNImageProcessor, decode

SHARE_OF_MEMORY = 0.4  # of what is free, that pictures may take


class Pictures(Protocol):
    """What a run trains on; a uint8 tensor (N, 3, side, side) is such."""

    def __len__(self) -> int: ...
    def __getitem__(self, indices: Tensor, /) -> Tensor: ...


class Streamed:
    """Pictures that stay on disk: decoded and squashed when they are asked for, in threads.

    A picture that cannot be decoded is replaced by the one before it in its batch (its views are others), with a
    warning that names it.

    Args:
        side: of the pictures given, in pixels.
    """

    def __init__(self, dataset: DataSet, side: int) -> None:
        self.dataset, self.side = dataset, side
        self._processor = ViTMSNImageProcessor(side)
        self._decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._ahead: tuple[list[int], Future[Tensor]] | None = None
        self._bad: set[str] = set()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, indices: Tensor, /) -> Tensor:
        """(B,) int64 -> (B, 3, side, side) uint8."""
        wanted = indices.tolist()
        if self._ahead is not None and self._ahead[0] == wanted:
            return self._ahead[1].result()
        return self._read(wanted)

    def prefetch(self, indices: Tensor) -> None:
        """Begin to read what will be asked for next."""
        wanted = indices.tolist()
        self._ahead = wanted, self._reader.submit(self._read, wanted)

    def _read(self, wanted: list[int]) -> Tensor:
        found = list(self._decoders.map(self._decode, self.dataset.take(wanted)))
        good = next((pixels for pixels in found if pixels is not None), None)
        if good is None:
            raise DataError(f"None of {len(wanted)} pictures of {self.dataset.name} can be decoded; check the data.")
        for place, pixels in enumerate(found):
            good = found[place] = good if pixels is None else pixels
        return torch.from_numpy(np.stack(found))  # type: ignore[arg-type]

    def _decode(self, record: Record) -> np.ndarray | None:
        name, data, _ = record
        try:
            return np.asarray(self._processor.view(decode(data, name=name))).transpose(2, 0, 1)
        except ImageError as error:
            if name not in self._bad:
                self._bad.add(name)
                warnings.warn(f"{error} Another picture of its batch stands in for it.", stacklevel=2)
            return None


def open_pictures(
    dataset: DataSet, side: int, stream: bool | None = None, progress: Callable[[int, int], object] | None = None
) -> tuple[Tensor | Streamed, Tensor]:
    """Pictures to train on, and their labels (N,) int64, -1 without one.

    Args:
        side: at which pictures are kept, in pixels.
        stream: leave them on disk; ``None``: when they would take more than 40 % of the free memory.
        progress: called with (done, total) while pictures are read into memory.
    """
    if stream is None:
        stream = len(dataset) * 3 * side * side > SHARE_OF_MEMORY * _free_memory()
    if stream:
        return Streamed(dataset, side), torch.from_numpy(dataset.labels.copy())
    return to_uint8(dataset, side, progress)


def on_device(pictures: Tensor | Streamed, device: torch.device) -> Tensor | Streamed:
    """The same on the training device, where views are made, if that is an accelerator with room for them."""
    if isinstance(pictures, Streamed) or device.type != "cuda":
        return pictures
    room = SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]
    return pictures.to(device) if pictures.nbytes < room else pictures


def _free_memory() -> int:
    """Bytes; all there is where the system does not tell what is free."""
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
