"""Pictures -> embeddings, tokens, classes, prototype assignments: one model behind one lock and one cache.

Everything that needs a model's view of a picture asks an :class:`Encoder`. A picture is encoded once for each input
size and mask; results are cached, up to ``limits.CACHE_BYTES``, by (fingerprint, size, what the model sees of the
picture, patches kept).
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor, nn

from vitmsn import checkpoint, limits, pickled
from vitmsn.backend import Forward, choose_backend, fits, prepare
from vitmsn.classification import MULTI, REGRESSION, SINGLE, Classification
from vitmsn.config import VARIANTS, ViTMSNConfig, pair
from vitmsn.devices import choose_device, choose_dtype, short_of_memory
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.image import (
    Batch,
    CachedView,
    ImageSource,
    Picture,
    ViewCache,
    ViTMSNImageProcessor,
    ahead,
    batches,
    decode,
    decoding_threads,
    listed,
)
from vitmsn.masking import Keep, keep_rows
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead, log_assignment
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import TOKENS
from vitmsn.pickled import Reference
from vitmsn.scikit import SETTINGS, PictureTransformer
from vitmsn.timing import Timing, record, timings

Progress = Callable[[int, int], None]
_Key = tuple[str, tuple[int, int], str, bytes]

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


class Encoder(PictureTransformer):
    """A model, its preprocessing and its heads on a device. Safe to share between threads, and a scikit-learn
    transformer (``scikit``) that can be pickled (``pickled``).

    Attributes:
        name, source: how it was asked for, and what was opened.
        model, processor, config, device, dtype: the parts. Outputs are float32 whatever ``dtype`` is.
        labels: the classes it can name, or what a regression's numbers are of; empty without a head.
        feature_mean: (D,) float32 mean embedding of the pre-training data, or None; center on it before distances.
        fingerprint: hex digest of weights and preprocessing; encoders that share it give the same embeddings.
        card: what its folder's ``vitmsn.json`` says (threshold, kinds of labels, where it was trained).
        reference: where it was opened, by which a pickle names it; None where a pickle holds its weights.
    """

    reference: Reference | None = None

    def __init__(
        self,
        model: ViTMSNModel,
        processor: ViTMSNImageProcessor,
        *,
        name: str,
        source: str = "",
        classifier: nn.Linear | None = None,
        msn_head: MSNHead | None = None,
        feature_mean: np.ndarray | None = None,
        card: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.name, self.source = name, source or name
        self._processor, self.config = processor, model.config
        self.dtype = dtype
        self._backend = backend
        self.feature_mean, self.card = feature_mean, card or {}
        self.fingerprint = _fingerprint(model, processor)
        self.model = model.to(device, dtype).eval().requires_grad_(False)
        # heads are small and probabilities depend on them: they stay in float32
        self._classifier = classifier.to(self.device).eval().requires_grad_(False) if classifier is not None else None
        self._msn_head = msn_head.to(self.device).eval().requires_grad_(False) if msn_head is not None else None
        self.labels = list(self.config.id2label.values()) if classifier is not None else []
        choose_backend(backend, self.device, dtype)  # what is not there is said now
        self._lock = threading.RLock()
        self._waiting: list[_Wanted] = []
        self._views = ViewCache(processor, VIEWS)
        self._made: Forward | None = None
        self._cache: LRUCache[_Key, np.ndarray | ViTMSNOutput] = LRUCache(limits.CACHE_BYTES, getsizeof=_bytes)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        backend: str = "auto",
    ) -> Encoder:
        """Load a hub id, a folder or a file; ``None`` is the model that comes with the package.

        Args:
            device: "auto" takes CUDA where there is one, else the CPU.
            dtype: "auto" takes float32 for a small model, like the embedded one, and for a larger one bfloat16 where
                the device is faster in it.
            backend: what computes: "torch", "compile" (``torch.compile``, for many pictures of one size), "openvino",
                or "auto", which takes OpenVINO on a CPU where it is installed, else torch.

        Raises:
            CheckpointError: it cannot be loaded faithfully.
            InputError, MissingPackageError: a device, a precision or a backend that is not there.
        """
        loaded = checkpoint.load(checkpoint.embedded() if name_or_path is None else name_or_path)
        name = Path(loaded.source).name if name_or_path is None else str(name_or_path)
        classifier = None
        if loaded.classifier:
            labels, dim = loaded.classifier["weight"].shape
            classifier = nn.Linear(dim, labels)
            classifier.load_state_dict(loaded.classifier)
        msn_head = None
        if "prototypes" in loaded.msn_head and len(loaded.msn_head) > 1:
            msn_head = MSNHead.from_tensors(loaded.msn_head, loaded.temperature, loaded.sharpening)
        height, width = pair(loaded.config.image_size)
        chosen = choose_device(device)
        encoder = cls(
            ViTMSNModel.from_checkpoint(loaded),
            ViTMSNImageProcessor.from_dict(
                loaded.processor, source=loaded.source, size={"height": height, "width": width}
            ),
            name=name,
            source=loaded.source,
            classifier=classifier,
            msn_head=msn_head,
            feature_mean=None if loaded.feature_mean is None else loaded.feature_mean.numpy(),
            card=loaded.card,
            device=chosen,
            dtype=choose_dtype(dtype, chosen, loaded.config.gigaflops()),
            backend=backend,
        )
        encoder.reference = Reference(loaded.reference, device, str(dtype).removeprefix("torch."), backend)
        return encoder

    @classmethod
    def random(
        cls,
        config: ViTMSNConfig | None = None,
        seed: int = 0,
        device: str = "auto",
        backend: str = "auto",
        processor: ViTMSNImageProcessor | None = None,
    ) -> Encoder:
        """Random weights, to compare with: what did training change?

        Args:
            config: the architecture; by default that of the embedded model, which then also gives the preprocessing.
            processor: the preprocessing; by default pictures are squashed to ``config.image_size``.
        """
        if config is None:
            config = VARIANTS["tiny-8-64"]
            processor = processor or ViTMSNImageProcessor.from_pretrained(checkpoint.embedded())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ViTMSNModel(config)
        height, width = pair(config.image_size)
        processor = processor or ViTMSNImageProcessor(size={"height": height, "width": width})
        chosen = choose_device(device)
        return cls(model, processor, name="random weights", source=f"seed {seed}", device=chosen, backend=backend)

    @property
    def processor(self) -> ViTMSNImageProcessor:
        """The preprocessing. Another one may take its place: the fingerprint follows, and what was cached under the
        old one is not used."""
        return self._processor

    @processor.setter
    def processor(self, processor: ViTMSNImageProcessor) -> None:
        with self._lock:
            self._processor, self.fingerprint = processor, _fingerprint(self.model, processor)
            self._views = ViewCache(processor, VIEWS)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def width(self) -> int:
        """D, the numbers of an embedding."""
        return self.config.hidden_size

    def __repr__(self) -> str:
        changed = [f"{name}={value!r}" for name, value in self._settings.items() if value != SETTINGS[name]]
        return f"Encoder({', '.join([repr(self.name), *changed])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled.opened, (type(self), pickled.state(self))

    def __copy__(self) -> Encoder:
        return self.__sklearn_clone__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoder:
        """Weights, lock and cache of its own."""
        twin = type(self)(**pickled.parts(self))
        twin.reference, twin.fingerprint = self.reference, self.fingerprint
        twin._settings, twin._container = dict(self._settings), self._container
        return twin

    @property
    def problem_type(self) -> str | None:
        """What the head answers, as transformers' pipeline reads its config; None without a head."""
        if self._classifier is None:
            return None
        if self.config.problem_type == REGRESSION:
            return REGRESSION
        return MULTI if self.config.problem_type == MULTI or self.config.num_labels == 1 else SINGLE

    @property
    def has_classifier(self) -> bool:
        """Whether it names classes, with probabilities; a regression does not."""
        return self.problem_type in (SINGLE, MULTI)

    @property
    def has_msn_head(self) -> bool:
        return self._msn_head is not None

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear head on CLS, frozen, in float32; what a relevance map goes back from."""
        return self._classifier

    @property
    def msn_head(self) -> MSNHead | None:
        """Projector and prototypes, frozen, in float32."""
        return self._msn_head

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels of the input."""
        return pair(self.config.patch_size)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input in pixels, where no other is asked for."""
        return self.processor.input_size

    def grid(self, size: int | tuple[int, int] | None = None) -> tuple[int, int]:
        """(rows, columns) of the patches of an input of ``size``, a side or (height, width); by default ``input_size``.

        Raises:
            InputError: a size that whole patches do not fill, or of too many of them.
        """
        (height, width), (patch_height, patch_width) = self._size(size), self.patch_size
        return height // patch_height, width // patch_width

    @property
    def backend(self) -> str:
        """What is to compute its forwards, "torch", "compile" or "openvino"; :attr:`engine` says what does."""
        return choose_backend(self._backend, self.device, self.model.dtype)

    @property
    def engine(self) -> str:
        """What computes its forwards: "openvino", "compiled", "packed" (by torch), or "plain: " and why."""
        return self._prepared().engine

    # Results

    def embed(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        keep_indices: Keep = None,
        size: int | None = None,
        layernorm: bool = True,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """CLS embeddings.

        Args:
            images: one or many, in anything ``image.decode`` takes; decoded a batch at a time (``image.batches``), and
                the next batch during the forward.
            keep_indices: patches kept, (K,) or (1, K) for all pictures or (N, K); the others are dropped, not blanked.
            size: side of the input in pixels, a multiple of the patch; positions are interpolated.
            layernorm: after the final LayerNorm; False is before it, where MSN's low-shot protocol takes them.
            progress: called with (pictures done, pictures in all) after every batch.

        Returns:
            (N, D) float32. Norms differ widely between models: normalize before distances.

        Example:
            >>> pictures = np.zeros((2, 64, 64, 3), dtype=np.uint8)
            >>> Encoder.random(device="cpu").embed(list(pictures)).shape
            (2, 192)

        Raises:
            ImageError, InputError: a picture, size or mask that cannot be taken, named.
        """
        sources = listed(images)
        if not sources:
            return np.zeros((0, self.config.hidden_size), np.float32)
        height, width = self._size(size)
        rows = keep_rows(keep_indices, len(sources), math.prod(self.grid((height, width))))
        if len(sources) == 1:
            out = self._tokens(decode(sources[0]), (height, width), rows[0] if rows else None)
            if progress is not None:
                progress(1, 1)
            return _cls(out, layernorm).copy()  # not a view of what the cache holds
        found = np.empty((len(sources), self.config.hidden_size), np.float32)
        together = batch_size or self._together((height, width), rows)
        decoded = batches(enumerate(sources), size=together, threads=decoding_threads())
        for batch in ahead(self._ready(batch, (height, width), rows, layernorm) for batch in decoded):
            found[batch.part] = self._embed_batch(batch, (height, width), rows, layernorm)
            if progress is not None:
                progress(batch.part.stop, len(sources))
        return found

    def tokens(
        self, image: ImageSource, *, size: int | tuple[int, int] | None = None, keep_indices: Keep = None
    ) -> ViTMSNOutput:
        """Every layer's tokens of one picture, for attention maps: batch 1, float32, on the CPU; cached.

        Args:
            size, keep_indices: as in :meth:`embed`; a size may also be (height, width), for pictures that keep theirs.
        """
        where = self._size(size)
        rows = keep_rows(keep_indices, 1, math.prod(self.grid(where)))
        return self._tokens(decode(image), where, rows[0] if rows else None)

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        top_k: int = 5,
        keep_indices: Keep = None,
        progress: Progress | None = None,
    ) -> list[Classification]:
        """Name what is in each picture; a regression gives its numbers.

        Raises:
            MissingHeadError: the model has no trained head.
        """
        embedded = self.embed(images, keep_indices=keep_indices, progress=progress)
        return self.classify_embeddings(embedded, top_k=top_k)

    def classify_embeddings(self, embeddings: np.ndarray, *, top_k: int = 5) -> list[Classification]:
        """:meth:`classify` for embeddings (N, D) of this model."""
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; it must be at least 1.")
        return [self._classification(row, top_k) for row in self.scores(embeddings)]

    def class_probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of this model -> calibrated probabilities (N, classes) float32.

        They add up to one where one class is right (``problem_type``), and are each between 0 and 1 where several may.

        Raises:
            MissingHeadError: the model has no trained classifier.
        """
        if self.problem_type == REGRESSION:
            raise MissingHeadError(
                f"{self.name} gives numbers ({', '.join(self.labels[:3])}) and no probabilities of classes; take them "
                "from scores or classify, or choose a model with a classifier."
            )
        return self.scores(embeddings)

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) -> what transformers' pipeline calls scores (N, labels): probabilities, or the numbers of a
        regression.

        Raises:
            MissingHeadError: the model has no trained head.
        """
        if self._classifier is None:
            raise MissingHeadError(
                f"{self.name} is a backbone without a trained classifier, so it has no class to name; teach it your "
                "own classes (few-shot), or choose a model with a classifier."
            )
        rows = self._rows(embeddings)
        with self._lock, torch.inference_mode():
            logits = self._classifier(rows.to(self.device))
            if self.problem_type != REGRESSION:
                logits = logits.sigmoid() if self.problem_type == MULTI else logits.softmax(-1)
            return logits.cpu().numpy()

    def assign(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        keep_indices: Keep = None,
        sharpen: bool = False,
    ) -> np.ndarray:
        """Probabilities over the prototypes (N, P) float32: an anchor's assignment, or a target's when sharpened.

        Raises:
            MissingHeadError: the checkpoint carries no projector and prototypes.
        """
        self._check_prototypes()
        return self.assign_embeddings(self.embed(images, keep_indices=keep_indices), sharpen=sharpen)

    def assign_embeddings(
        self, embeddings: np.ndarray, *, sharpen: bool = False, temperature: float | None = None
    ) -> np.ndarray:
        """:meth:`assign` for embeddings (N, D) of this model.

        Args:
            temperature: replaces the head's own, sharpened or not.
        """
        head = self._check_prototypes()
        rows = self._rows(embeddings)
        with self._lock, torch.inference_mode():
            rows = rows.to(self.device)
            if temperature is None:
                assigned = head.assign(rows, sharpen)
            else:
                assigned = log_assignment(head(rows), head.prototypes, temperature)
            return assigned.exp().cpu().numpy()

    def _check_prototypes(self) -> MSNHead:
        if self._msn_head is None:
            raise MissingHeadError(
                f"{self.name} carries no projector and prototypes, so nothing can be assigned; choose a model that "
                "does, like the embedded one."
            )
        return self._msn_head

    def time(
        self,
        image: ImageSource,
        *,
        keep_indices: Keep = None,
        size: int | None = None,
        repeats: int = 5,
        warm_up: bool = True,
    ) -> float:
        """Milliseconds of one forward of one picture, never cached: the median of ``repeats``.

        Args:
            warm_up: one forward more before them, not counted: the first of its size prepares its products.
        """
        where = self._size(size)
        rows = keep_rows(keep_indices, 1, math.prod(self.grid(where)))
        pixels = self._pixels([self._views.take(decode(image), where)])
        with timings() as forwards:
            for _ in range(int(warm_up) + repeats):
                with self._lock:
                    self._forward(pixels, rows, hidden=False)
        return float(np.median([forward.milliseconds for forward in forwards[-repeats:]]))

    # Computation

    def _rows(self, embeddings: np.ndarray) -> Tensor:
        """Embeddings (N, D) of this model, checked."""
        rows = torch.tensor(np.asarray(embeddings, np.float32))
        if rows.ndim != 2 or rows.shape[1] != self.config.hidden_size:
            raise InputError(
                f"The embeddings are {tuple(rows.shape)}; {self.name} makes and takes (pictures, "
                f"{self.config.hidden_size})."
            )
        return rows

    def _together(self, size: tuple[int, int], rows: list[np.ndarray] | None) -> int:
        """Pictures in a batch: on a CPU few enough that decoding the next ones takes place during their forward."""
        if self.device.type != "cpu":
            return limits.MAX_BATCH
        tokens = 1 + (math.prod(self.grid(size)) if rows is None else len(rows[0]))
        return max(8, 2 * TOKENS // tokens)

    def _pixels(self, views: list[CachedView]) -> Tensor:
        """The input of the network, (B, 3, H, W)."""
        return torch.from_numpy(self.processor.normalized([view.image for view in views]))

    def _ready(
        self, batch: Batch[int], size: tuple[int, int], rows: list[np.ndarray] | None, layernorm: bool
    ) -> _Ready:
        """All that a batch needs before its forward; runs beside the forward of another one."""
        part = slice(batch.keys[0], batch.done)
        before = "" if layernorm else "before the final LayerNorm "
        masks: Sequence[np.ndarray | None] = [None] * len(batch.pictures) if rows is None else rows[part]
        views = [self._views.take(picture, size) for picture in batch.pictures]
        keys = [self._key(size, view, row, before) for view, row in zip(views, masks, strict=True)]
        return _Ready(part, keys, views)

    def _embed_batch(
        self, batch: _Ready, size: tuple[int, int], rows: list[np.ndarray] | None, layernorm: bool
    ) -> np.ndarray:
        with self._lock:
            found = [self._cache.get(key) for key in batch.keys]
            missing = [i for i, entry in enumerate(found) if entry is None]
            if missing:
                pixels = self._pixels([batch.views[i] for i in missing])
                masks = None if rows is None else [rows[batch.part][i] for i in missing]
                out = self._forward(pixels, masks, not layernorm)
                for row, i in zip(_cls(out, layernorm), missing, strict=True):
                    self._remember(batch.keys[i], row.copy())
                    found[i] = row
        return np.stack([_row(entry, layernorm) for entry in found])

    def _tokens(self, picture: Picture, size: tuple[int, int], row: np.ndarray | None) -> ViTMSNOutput:
        """Every layer's tokens of a picture. Threads that wait for one another's forward go through the next together:
        whoever comes first computes for all, and the others find theirs in the cache."""
        view = self._views.take(picture, size)
        wanted = _Wanted(self._key(size, view, row), size, view, row)
        self._waiting.append(wanted)
        try:
            with self._lock:
                known = self._cache.get(wanted.key)
                if isinstance(known, ViTMSNOutput):
                    return known
                group = self._with_those_waiting(wanted)
                pixels = self._pixels([one.view for one in group])
                out = self._forward(pixels, [one.row for one in group if one.row is not None] or None, hidden=True)
                found = [_one_of(out, place, one.row) for place, one in enumerate(group)]
                for one, its in zip(group, found, strict=True):
                    self._remember(one.key, its)
                return found[0]
        finally:
            self._waiting.remove(wanted)

    def _with_those_waiting(self, wanted: _Wanted) -> list[_Wanted]:
        """What is wanted, and what other threads wait for that fits into the same forward."""
        kept = None if wanted.row is None else len(wanted.row)
        tokens = 1 + (math.prod(self.grid(wanted.size)) if kept is None else kept)
        group = {wanted.key: wanted}
        for other in list(self._waiting):
            if len(group) >= TOKENS // tokens:
                break
            same = other.size == wanted.size and (None if other.row is None else len(other.row)) == kept
            if same and other.key not in self._cache:
                group.setdefault(other.key, other)
        return list(group.values())

    def _remember(self, key: _Key, value: np.ndarray | ViTMSNOutput) -> None:
        if _bytes(value) <= self._cache.maxsize:
            self._cache[key] = value

    def _forward(self, pixels: Tensor, rows: list[np.ndarray] | None, hidden: bool) -> ViTMSNOutput:
        """One forward; in halves where memory is short, then on the CPU with a warning; InputError if that fails."""
        keep = None if rows is None else torch.from_numpy(np.stack(rows))
        try:
            return self._timed(pixels, keep, hidden)
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            on_device = isinstance(error, torch.cuda.OutOfMemoryError)
        if on_device:
            torch.cuda.empty_cache()
        if len(pixels) > 1:
            half = len(pixels) // 2
            parts = [
                self._forward(pixels[part], None if rows is None else rows[part], hidden)
                for part in (slice(None, half), slice(half, None))
            ]
            states = zip(*(part.hidden_states for part in parts if part.hidden_states), strict=True)
            return ViTMSNOutput(
                torch.cat([part.last_hidden_state for part in parts]),
                parts[0].grid,
                hidden_states=tuple(torch.cat(state) for state in states) or None,
            )
        if not on_device:
            raise self._too_large(pixels)
        warnings.warn(f"{self.device} has not enough memory for {self.name}; it continues on the CPU.", stacklevel=2)
        self.dtype = choose_dtype("auto", torch.device("cpu"), self.config.gigaflops())
        self.model.to("cpu", self.dtype)
        for head in (self._classifier, self._msn_head):
            if head is not None:
                head.to("cpu")
        try:
            return self._timed(pixels, keep, hidden)
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
        raise self._too_large(pixels)

    def _too_large(self, pixels: Tensor) -> InputError:
        height, width = pixels.shape[-2:]
        return InputError(
            f"There is not enough memory for {self.name} with an input of {height} x {width} pixels; choose a smaller "
            "input or another model, or try again later."
        )

    def _prepared(self, hidden: bool = False) -> Forward:
        """Made when first needed, for every layer's tokens or the last; anew where someone has changed the weights."""
        with self._lock:
            if self._made is None or not fits(self._made, self.model):
                self._made = None  # frees the old one first
                self._made = prepare(self.model, self.backend, hidden)
            return self._made

    def _timed(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
        started = time.perf_counter()
        out = self._compute(pixels, keep, hidden)
        milliseconds = 1000 * (time.perf_counter() - started)
        height, width = pixels.shape[-2:]
        patches = out.last_hidden_state.shape[1] - 1
        timing = Timing(self.name, milliseconds, len(pixels), patches, (height, width))
        record(timing)
        return out

    def _compute(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
        """The forward itself; a subclass may compute elsewhere (`ui.zero_gpu`)."""
        forward = self._prepared(hidden)
        with torch.inference_mode():
            out = forward.compute(pixels, keep, hidden)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        return out

    def _size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        height, width = self.input_size if size is None else (size, size) if isinstance(size, int) else size
        patch_height, patch_width = self.patch_size
        if height < patch_height or width < patch_width or height % patch_height or width % patch_width:
            raise InputError(
                f"The input would be {height} x {width} pixels; it must be made of whole patches of {patch_height} x "
                f"{patch_width}: choose a multiple."
            )
        patches = (height // patch_height) * (width // patch_width)
        if patches > limits.MAX_TOKENS:
            raise InputError(
                f"An input of {height} x {width} pixels has {patches} patches; at most {limits.MAX_TOKENS} are taken: "
                "choose a smaller one."
            )
        return height, width

    def _key(self, size: tuple[int, int], view: CachedView, row: np.ndarray | None, what: str = "") -> _Key:
        return self.fingerprint, size, what + view.digest, b"" if row is None else row.tobytes()

    def _classification(self, probabilities: np.ndarray, top_k: int) -> Classification:
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        threshold = float(self.card.get("not_sure_below", 0.5))
        problem = self.problem_type or SINGLE
        right = int((probabilities[best] >= threshold).sum()) if problem == MULTI else 1
        sure = problem == REGRESSION or bool(probabilities[best[0]] >= threshold)
        kind, total = None, 0.0
        if not sure and problem == SINGLE:  # probabilities of classes that do not exclude each other do not add up
            place = {label: index for index, label in enumerate(self.labels)}
            for name, members in self.card.get("kinds", {}).items():
                share = float(sum(probabilities[place[label]] for label in members if label in place))
                if share >= threshold and share > total:
                    kind, total = name, share
        labels, shares = [self.labels[i] for i in best], [float(probabilities[i]) for i in best]
        return Classification(labels, shares, sure, kind, total, problem, right)


def _fingerprint(model: ViTMSNModel, processor: ViTMSNImageProcessor) -> str:
    # settings that weights do not show: the number of heads, the activation, ...
    unseen = ("hidden_act", "image_size", "layer_norm_eps", "num_attention_heads", "patch_size")
    settings = {name: getattr(model.config, name) for name in unseen} | {"processor": processor.to_dict()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


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


def _cls(out: ViTMSNOutput, layernorm: bool) -> np.ndarray:
    """The CLS token of each picture, (B, D) float32."""
    if layernorm:
        return out.last_hidden_state[:, 0].float().cpu().numpy()
    assert out.hidden_states is not None
    return out.hidden_states[-1][:, 0].float().cpu().numpy()


def _row(entry: np.ndarray | ViTMSNOutput | None, layernorm: bool) -> np.ndarray:
    """A cached result of one picture -> its CLS token (D,)."""
    assert entry is not None
    return entry if isinstance(entry, np.ndarray) else _cls(entry, layernorm)[0]
