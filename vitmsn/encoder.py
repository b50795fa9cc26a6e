"""Pictures -> embeddings, tokens, classes, prototype assignments: a model, its preprocessing and its heads as one.

Everything that needs a model's view of a picture asks an :class:`Encoder`. How a forward is computed is in ``runner``,
what is kept of pictures in ``encodings``, what is said of embeddings in ``heads``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vitmsn import checkpoint, limits, pickled
from vitmsn.classification import MULTI, SINGLE, Classification
from vitmsn.config import VARIANTS, ViTMSNConfig, pair
from vitmsn.devices import choose_device, choose_dtype
from vitmsn.encodings import Encodings, Progress, cls_tokens
from vitmsn.errors import InputError
from vitmsn.heads import Heads, opened
from vitmsn.image import ImageSource, ViTMSNImageProcessor, decode, listed
from vitmsn.masking import Keep, keep_rows
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead
from vitmsn.outputs import ViTMSNOutput
from vitmsn.pickled import Reference
from vitmsn.runner import ModelRunner
from vitmsn.scikit import SETTINGS, PictureTransformer
from vitmsn.timing import timings


class Encoder(PictureTransformer):
    """A model, its preprocessing and its heads on a device. Safe to share between threads, and a scikit-learn
    transformer (``scikit``) that can be pickled (``pickled``).

    Attributes:
        name, source: how it was asked for, and what was opened.
        model, processor, config, device, dtype: the parts. Outputs are float32 whatever ``dtype`` is.
        runner: computes the model's forwards, with their engine, lock and timing.
        labels: the classes it can name, or what a regression's numbers are of; empty without a head.
        feature_mean: (D,) float32 mean embedding of the pre-training data, or None; center on it before distances.
        fingerprint: hex digest of weights and preprocessing; encoders that share it give the same embeddings.
        card: what its folder's ``vitmsn.json`` says (threshold, kinds of labels, where it was trained).
        reference: where it was opened, by which a pickle names it; None where a pickle holds its weights.
    """

    reference: Reference | None = None
    runner_class: type[ModelRunner] = ModelRunner

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
        self.source = source or name
        self._processor = processor
        self.feature_mean, self.card = feature_mean, card or {}
        self.fingerprint = _fingerprint(model, processor)  # before weights are rounded to dtype
        self.runner = self.runner_class(name, model, device, dtype, backend)
        self._heads = Heads(self.runner, classifier, msn_head, self.card)
        self._encodings = Encodings(self.runner, processor)

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
        classifier, msn_head = opened(loaded)
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
        with self.runner.lock:
            self._processor, self.fingerprint = processor, _fingerprint(self.model, processor)
            self._encodings = Encodings(self.runner, processor)

    @property
    def name(self) -> str:
        return self.runner.name

    @name.setter
    def name(self, name: str) -> None:
        self.runner.name = name

    @property
    def model(self) -> ViTMSNModel:
        return self.runner.model

    @property
    def config(self) -> ViTMSNConfig:
        return self.runner.model.config

    @property
    def device(self) -> torch.device:
        return self.runner.device

    @property
    def dtype(self) -> torch.dtype:
        return self.runner.dtype

    @property
    def labels(self) -> list[str]:
        return self._heads.labels

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
        return self._heads.problem_type

    @property
    def threshold(self) -> float:
        """The probability from which a class is sure."""
        return self._heads.threshold

    @property
    def has_classifier(self) -> bool:
        """Whether it names classes, with probabilities; a regression does not."""
        return self.problem_type in (SINGLE, MULTI)

    @property
    def has_msn_head(self) -> bool:
        return self._heads.msn_head is not None

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear head on CLS, frozen, in float32; what a relevance map goes back from."""
        return self._heads.classifier

    @property
    def msn_head(self) -> MSNHead | None:
        """Projector and prototypes, frozen, in float32."""
        return self._heads.msn_head

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
        return self.runner.backend

    @property
    def engine(self) -> str:
        """What computes its forwards: "openvino", "compiled", "packed" (by torch), or "plain: " and why."""
        return self.runner.forward().engine

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
        where = self._size(size)
        rows = keep_rows(keep_indices, len(sources), math.prod(self.grid(where)))
        if len(sources) == 1:
            out = self._encodings.tokens(decode(sources[0]), where, rows[0] if rows else None)
            if progress is not None:
                progress(1, 1)
            return cls_tokens(out, layernorm).copy()  # not a view of what is kept
        found = np.empty((len(sources), self.config.hidden_size), np.float32)
        for part, embedded in self._encodings.embed(sources, where, rows, layernorm=layernorm, batch_size=batch_size):
            found[part] = embedded
            if progress is not None:
                progress(part.stop, len(sources))
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
        return self._encodings.tokens(decode(image), where, rows[0] if rows else None)

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
        return self._heads.classify(embeddings, top_k)

    def class_probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of this model -> calibrated probabilities (N, classes) float32.

        They add up to one where one class is right (``problem_type``), and are each between 0 and 1 where several may.

        Raises:
            MissingHeadError: the model has no trained classifier.
        """
        return self._heads.probabilities(embeddings)

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) -> what transformers' pipeline calls scores (N, labels): probabilities, or the numbers of a
        regression.

        Raises:
            MissingHeadError: the model has no trained head.
        """
        return self._heads.scores(embeddings)

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
        self._heads.check_prototypes()
        return self.assign_embeddings(self.embed(images, keep_indices=keep_indices), sharpen=sharpen)

    def assign_embeddings(
        self, embeddings: np.ndarray, *, sharpen: bool = False, temperature: float | None = None
    ) -> np.ndarray:
        """:meth:`assign` for embeddings (N, D) of this model.

        Args:
            temperature: replaces the head's own, sharpened or not.
        """
        return self._heads.assign(embeddings, sharpen, temperature)

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
        if repeats < 1:
            raise InputError(f"repeats is {repeats}; it must be at least 1.")
        where = self._size(size)
        rows = keep_rows(keep_indices, 1, math.prod(self.grid(where)))
        keep = torch.from_numpy(np.stack(rows)) if rows else None
        pixels = self._encodings.pixels(decode(image), where)
        with timings() as forwards:
            for _ in range(int(warm_up) + repeats):
                self.runner.run(pixels, keep, hidden=False)
        return float(np.median([forward.milliseconds for forward in forwards[-repeats:]]))

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


def _fingerprint(model: ViTMSNModel, processor: ViTMSNImageProcessor) -> str:
    # settings that weights do not show: the number of heads, the activation, ...
    unseen = ("hidden_act", "image_size", "layer_norm_eps", "num_attention_heads", "patch_size")
    settings = {name: getattr(model.config, name) for name in unseen} | {"processor": processor.to_dict()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()
