"""Forwards of a frozen backbone on its device: by the fastest engine, timed, and carried on where memory is short."""

from __future__ import annotations

import threading
import time
import warnings

import torch
from torch import Tensor, nn

from vitmsn.backend import Forward, choose_backend, fits, prepare
from vitmsn.config import pair
from vitmsn.devices import choose_dtype, short_of_memory
from vitmsn.errors import InputError
from vitmsn.model import ViTMSNModel
from vitmsn.outputs import ViTMSNOutput
from vitmsn.timing import Timing, record


class ModelRunner:
    """A backbone, frozen, on a device; threads may share it, and it computes one forward at a time.

    Args:
        name: of the model, for messages and timings.
        asked_backend: as :func:`vitmsn.backend.choose_backend` takes it.

    Attributes:
        model: the backbone.
        dtype: what it computes in.
        lock: held during a forward, and by whoever has to look before and after it.
        companions: modules that go where the backbone goes.
    """

    def __init__(
        self, name: str, model: ViTMSNModel, device: str | torch.device, dtype: torch.dtype, asked_backend: str
    ) -> None:
        self.name, self.dtype, self.asked_backend = name, dtype, asked_backend
        self.model = model.to(device, dtype).eval().requires_grad_(False)
        choose_backend(asked_backend, self.device, dtype)  # what is not there is said now
        self.lock = threading.RLock()
        self.companions: list[nn.Module] = []
        self._made: Forward | None = None

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def backend(self) -> str:
        """What is to compute, "torch", "compile" or "openvino"; :meth:`forward` says what does."""
        return choose_backend(self.asked_backend, self.device, self.model.dtype)

    def forward(self, hidden: bool = False) -> Forward:
        """Made when first needed, for every layer's tokens or the last; anew where someone has changed the weights."""
        with self.lock:
            if self._made is None or not fits(self._made, self.model):
                self._made = None  # frees the old one first
                self._made = prepare(self.model, self.backend, hidden)
            return self._made

    def tokens(self, size: tuple[int, int], kept: int | None) -> int:
        """How many a picture has: of an input of ``size`` (height, width) whose patches are all there, or ``kept``."""
        height, width = pair(self.model.config.patch_size)
        return 1 + (kept if kept is not None else (size[0] // height) * (size[1] // width))

    def run(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
        """One forward; in halves where memory is short, then on the CPU with a warning, where the model stays.

        Args:
            pixels: (B, 3, H, W) float32.
            keep: (B, K) int64, the patches kept; None: all.
            hidden: whether every layer's tokens are wanted.

        Raises:
            InputError: memory is short all the same.
        """
        with self.lock:
            return self._run(pixels, keep, hidden)

    def _run(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
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
                self._run(pixels[part], None if keep is None else keep[part], hidden)
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
        self.dtype = choose_dtype("auto", torch.device("cpu"), self.model.config.gigaflops())
        self.model.to("cpu", self.dtype)
        for module in self.companions:
            module.to("cpu")
        try:
            return self._timed(pixels, keep, hidden)
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
        raise self._too_large(pixels)

    def compute(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
        """The forward itself; a subclass may compute elsewhere (`ui.zero_gpu`)."""
        forward = self.forward(hidden)
        with torch.inference_mode():
            out = forward.compute(pixels, keep, hidden)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        return out

    def _timed(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
        started = time.perf_counter()
        out = self.compute(pixels, keep, hidden)
        milliseconds = 1000 * (time.perf_counter() - started)
        height, width = pixels.shape[-2:]
        patches = out.last_hidden_state.shape[1] - 1
        record(Timing(self.name, milliseconds, len(pixels), patches, (height, width)))
        return out

    def _too_large(self, pixels: Tensor) -> InputError:
        height, width = pixels.shape[-2:]
        return InputError(
            f"There is not enough memory for {self.name} with an input of {height} x {width} pixels; choose a smaller "
            "input or another model, or try again later."
        )
