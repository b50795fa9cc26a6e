"""ZeroGPU: on a Space that borrows a GPU for seconds, large forwards run on it and everything else on the CPU.

The package `spaces` (each Space has it) changes torch and Gradio when it is imported. It must come before Gradio and
before anything uses CUDA, so this module is the first that the app imports. Without ZeroGPU nothing here does anything.

How a borrowed GPU is used: `spaces` forks a process that may use CUDA for a bounded time. Its answers come back through
a pipe, so arrays go in and arrays come out; models are moved to the GPU there, the first one at the start of the app.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from vitmsn import limits
from vitmsn.config import pair
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.model import ViTMSNModel
from vitmsn.outputs import ViTMSNOutput
from vitmsn.runner import ModelRunner

try:
    import spaces
    from spaces.config import Config as _Config
except ImportError:  # not on a Space
    spaces = _Config = None

log = logging.getLogger("vitmsn.ui")

ACTIVE = _Config is not None and bool(_Config.zero_gpu)
DEVICE = "cuda"  # in the process that borrows the GPU
START_SECONDS = 5  # to fork, to move a model and to answer
GFLOPS_A_SECOND = 5_000  # of a slice of a GPU, in float32, at worst
F = TypeVar("F", bound=Callable[..., Any])
Arrays = tuple[np.ndarray, ...]

# Models on the GPU, by fingerprint: put here at the start of the app, or by the process that borrows a GPU.
_resident: dict[str, ViTMSNModel] = {}


def borrows(duration: Callable[..., int]) -> Callable[[F], F]:
    """`spaces.GPU`, or nothing where there is no such package."""

    def decorate(fn: F) -> F:
        return fn if spaces is None else spaces.GPU(fn, duration=duration)

    return decorate


def seconds(gflops: float, *_: object) -> int:
    """How long a forward may take on the GPU; what is asked for is short, as a visitor has minutes a day."""
    return START_SECONDS + math.ceil(gflops / GFLOPS_A_SECOND)


@borrows(seconds)
def forward(
    gflops: float,
    fingerprint: str,
    reopen: Callable[[], Encoder],
    pixels: np.ndarray,
    keep: np.ndarray | None,
    hidden: bool,
) -> Arrays:
    """One forward on the borrowed GPU, in float32.

    Args:
        gflops: its work, which decides how long the GPU is asked for.
        fingerprint, reopen: the model, and how to read it if it is not on the GPU yet.
        pixels, keep: (B, 3, H, W) float32, and the patches kept (B, K), or None for all.
        hidden: whether every layer's tokens are wanted.

    Returns:
        the last layer's tokens after its LayerNorm (B, 1 + K, D) float32; with ``hidden`` every layer's after them.
    """
    if fingerprint not in _resident:
        _resident[fingerprint] = reopen().model.to(DEVICE, torch.float32)
    with torch.inference_mode():
        out = _resident[fingerprint](
            torch.from_numpy(pixels).to(DEVICE),
            keep_indices=None if keep is None else torch.from_numpy(keep).to(DEVICE),
            interpolate_pos_encoding=True,
            output_hidden_states=hidden,
        )
    return tuple(state.float().cpu().numpy() for state in (out.last_hidden_state, *(out.hidden_states or ())))


class BorrowingRunner(ModelRunner):
    """A model on the CPU whose large forwards run on a borrowed GPU.

    Attributes:
        fingerprint, reopen: as :func:`forward` takes them.
    """

    fingerprint: str
    reopen: Callable[[], Encoder]

    def compute(self, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
        height, width = pair(self.model.config.patch_size)
        grid = (pixels.shape[-2] // height, pixels.shape[-1] // width)
        kept = math.prod(grid) if keep is None else keep.shape[-1]
        work = len(pixels) * self.model.config.gigaflops(kept)
        if work < limits.ZERO_GPU_GFLOPS:
            return super().compute(pixels, keep, hidden)
        rows = None if keep is None else keep.numpy()
        try:
            last, *states = forward(work, self.fingerprint, self.reopen, pixels.float().numpy(), rows, hidden)
        except Exception as error:
            log.warning("the borrowed GPU did not answer: %.200r", error)
            raise InputError(
                f"{self.name} needs a GPU for this, and none could be borrowed now ({_reason(error)}); try again "
                "later, or choose a smaller model."
            ) from None
        return ViTMSNOutput(
            last_hidden_state=torch.from_numpy(last),
            grid=grid,
            keep_indices=keep,
            hidden_states=tuple(map(torch.from_numpy, states)) or None,
        )


class BorrowingEncoder(Encoder):
    """An encoder on the CPU whose large forwards run on a borrowed GPU; see :func:`borrowing`."""

    runner_class = BorrowingRunner


def borrowing(opener: Callable[..., Encoder], *args: Any) -> Encoder:
    """The encoder of ``opener(*args, device=...)``, which borrows a GPU where its forwards are large.

    Args:
        opener: a class method of :class:`Encoder`: `from_pretrained` or `random`.
    """
    made: BorrowingEncoder = getattr(BorrowingEncoder, opener.__name__)(*args, device="cpu")
    runner: Any = made.runner
    runner.fingerprint, runner.reopen = made.fingerprint, functools.partial(opener, *args, device="cpu")
    return made


def keep_resident(encoder: Encoder) -> None:
    """Put the model on the GPU now, at the start of the app: `spaces` packs it, and moves it when a GPU is borrowed."""
    _resident[encoder.fingerprint] = copy.deepcopy(encoder.model).to(DEVICE, torch.float32)


def _reason(error: Exception) -> str:
    """What `spaces` says, as one line without markup."""
    said = str(getattr(error, "message", "") or error).strip()
    return " ".join(said.split())[:200].rstrip(".") or type(error).__name__
