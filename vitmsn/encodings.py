"""What a model makes of pictures, each encoded once for every input size and mask.

Tokens and embeddings are kept, up to ``limits.CACHE_BYTES``, under what the model sees of a picture, the input size and
the patches kept. Threads share one lock, one cache and, where they wait for one another anyway, one forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor

from vitmsn import limits
from vitmsn.image import (
    Batch,
    CachedView,
    ImageSource,
    Picture,
    ViewCache,
    ViTMSNImageProcessor,
    ahead,
    batches,
    decoding_threads,
)
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import TOKENS
from vitmsn.runner import ModelRunner

Progress = Callable[[int, int], None]
_Key = tuple[tuple[int, int], str, bytes]

VIEWS = 16  # of the last pictures, kept for other masks of them


@dataclass(frozen=True)
class _Ready:
    """A batch before its forward: its place among all pictures, their names in the cache, and what the model sees."""

    part: slice
    keys: list[_Key]
    views: list[CachedView]


@dataclass(frozen=True, eq=False)
class _Wanted:
    """One picture whose tokens a thread waits for."""

    key: _Key
    size: tuple[int, int]
    view: CachedView
    row: np.ndarray | None  # the patches kept


class Encodings:
    """The encodings of one model with one preprocessing; threads may share them.

    ``size`` is (height, width) of the input in pixels, of whole patches; a ``row`` is (K,) int64, the patches kept of a
    picture, and None is all of them.
    """

    def __init__(self, runner: ModelRunner, processor: ViTMSNImageProcessor) -> None:
        self._runner, self._processor = runner, processor
        self._lock = runner.lock
        self._waiting: list[_Wanted] = []
        self._views = ViewCache(processor, VIEWS)
        self._cache: LRUCache[_Key, np.ndarray | ViTMSNOutput] = LRUCache(limits.CACHE_BYTES, getsizeof=_bytes)

    def __len__(self) -> int:
        return len(self._cache)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._cache.clear()

    def pixels(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """The input of the network, (1, 3, H, W) float32."""
        return self._pixels([self._views.take(picture, size)])

    def tokens(self, picture: Picture, size: tuple[int, int], row: np.ndarray | None) -> ViTMSNOutput:
        """Every layer's tokens of a picture. Threads that wait for one another's forward go through the next together:
        whoever comes first computes for all, and the others find theirs in the cache."""
        view = self._views.take(picture, size)
        wanted = _Wanted(_key(size, view, row), size, view, row)
        self._waiting.append(wanted)
        try:
            with self._lock:
                known = self._cache.get(wanted.key)
                if isinstance(known, ViTMSNOutput):
                    return known
                group = self._with_those_waiting(wanted)
                pixels = self._pixels([one.view for one in group])
                out = self._run(pixels, [one.row for one in group if one.row is not None] or None, hidden=True)
                found = [_one_of(out, place, one.row) for place, one in enumerate(group)]
                for one, its in zip(group, found, strict=True):
                    self._remember(one.key, its)
                return found[0]
        finally:
            self._waiting.remove(wanted)

    def embed(
        self,
        sources: Sequence[ImageSource],
        size: tuple[int, int],
        rows: list[np.ndarray] | None,
        *,
        layernorm: bool,
        batch_size: int | None,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The CLS tokens of many pictures, batch by batch: their place among all, and (B, D) float32.

        Args:
            sources: decoded a batch at a time, the next one during the forward.
            rows: the patches kept of each picture, as many of each; None: all.
            layernorm: after the final LayerNorm, or before it.
            batch_size: None chooses.
        """
        together = batch_size or self._together(size, rows)
        decoded = batches(enumerate(sources), size=together, threads=decoding_threads())
        for batch in ahead(self._ready(batch, size, rows, layernorm) for batch in decoded):
            yield batch.part, self._embed_batch(batch, rows, layernorm)

    def _together(self, size: tuple[int, int], rows: list[np.ndarray] | None) -> int:
        """Pictures in a batch: on a CPU few enough that decoding the next ones takes place during their forward."""
        if self._runner.device.type != "cpu":
            return limits.MAX_BATCH
        return max(8, 2 * TOKENS // self._runner.tokens(size, None if rows is None else len(rows[0])))

    def _pixels(self, views: list[CachedView]) -> Tensor:
        return torch.from_numpy(self._processor.normalized([view.image for view in views]))

    def _ready(
        self, batch: Batch[int], size: tuple[int, int], rows: list[np.ndarray] | None, layernorm: bool
    ) -> _Ready:
        """All that a batch needs before its forward; runs beside the forward of another one."""
        part = slice(batch.keys[0], batch.done)
        before = "" if layernorm else "before the final LayerNorm "
        masks: Sequence[np.ndarray | None] = [None] * len(batch.pictures) if rows is None else rows[part]
        views = [self._views.take(picture, size) for picture in batch.pictures]
        keys = [_key(size, view, row, before) for view, row in zip(views, masks, strict=True)]
        return _Ready(part, keys, views)

    def _embed_batch(self, batch: _Ready, rows: list[np.ndarray] | None, layernorm: bool) -> np.ndarray:
        with self._lock:
            found = [self._cache.get(key) for key in batch.keys]
            missing = [i for i, entry in enumerate(found) if entry is None]
            if missing:
                pixels = self._pixels([batch.views[i] for i in missing])
                masks = None if rows is None else [rows[batch.part][i] for i in missing]
                out = self._run(pixels, masks, not layernorm)
                for row, i in zip(cls_tokens(out, layernorm), missing, strict=True):
                    self._remember(batch.keys[i], row.copy())
                    found[i] = row
        return np.stack([_cls_token(entry, layernorm) for entry in found])

    def _with_those_waiting(self, wanted: _Wanted) -> list[_Wanted]:
        """What is wanted, and what other threads wait for that fits into the same forward."""
        kept = None if wanted.row is None else len(wanted.row)
        most = TOKENS // self._runner.tokens(wanted.size, kept)
        group = {wanted.key: wanted}
        for other in list(self._waiting):
            if len(group) >= most:
                break
            same = other.size == wanted.size and (None if other.row is None else len(other.row)) == kept
            if same and other.key not in self._cache:
                group.setdefault(other.key, other)
        return list(group.values())

    def _run(self, pixels: Tensor, rows: list[np.ndarray] | None, hidden: bool) -> ViTMSNOutput:
        return self._runner.run(pixels, None if rows is None else torch.from_numpy(np.stack(rows)), hidden)

    def _remember(self, key: _Key, value: np.ndarray | ViTMSNOutput) -> None:
        if _bytes(value) <= self._cache.maxsize:
            self._cache[key] = value


def cls_tokens(out: ViTMSNOutput, layernorm: bool) -> np.ndarray:
    """The CLS token of each picture, (B, D) float32, after the final LayerNorm or before it."""
    if layernorm:
        return out.last_hidden_state[:, 0].float().cpu().numpy()
    assert out.hidden_states is not None
    return out.hidden_states[-1][:, 0].float().cpu().numpy()


def _cls_token(entry: np.ndarray | ViTMSNOutput | None, layernorm: bool) -> np.ndarray:
    """A cached encoding of one picture -> its CLS token (D,)."""
    assert entry is not None
    return entry if isinstance(entry, np.ndarray) else cls_tokens(entry, layernorm)[0]


def _key(size: tuple[int, int], view: CachedView, row: np.ndarray | None, what: str = "") -> _Key:
    return size, what + view.digest, b"" if row is None else row.tobytes()


def _bytes(value: np.ndarray | ViTMSNOutput) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(state.nbytes for state in (value.last_hidden_state, *(value.hidden_states or ())))


def _one_of(out: ViTMSNOutput, place: int, row: np.ndarray | None) -> ViTMSNOutput:
    """One picture of a batch, of which ``row`` was kept: every layer's tokens, float32, on the CPU; it holds nothing
    of the others."""
    assert out.hidden_states is not None
    alone = len(out.last_hidden_state) == 1

    def own(tensor: Tensor) -> Tensor:
        found = tensor[place : place + 1].float().cpu()
        return found if alone else found.clone()

    return ViTMSNOutput(
        last_hidden_state=own(out.last_hidden_state),
        grid=out.grid,
        keep_indices=None if row is None else torch.from_numpy(row)[None],
        hidden_states=tuple(own(state) for state in out.hidden_states),
    )
