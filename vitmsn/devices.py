"""Where a model computes and in which precision, and whether that place has run out of memory."""

from __future__ import annotations

import os
import time
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn.errors import InputError


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or this machine, has no memory left."""
    said = isinstance(error, RuntimeError) and "allocate memory" in str(error)  # torch on the CPU
    return said or isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))


def choose_device(device: str = "auto") -> torch.device:
    """A name -> a device; "auto" is CUDA where there is one, else the CPU.

    Raises:
        InputError: a device that this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {device!r} is not available on this machine; choose auto or cpu.") from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device, gigaflops: float | None = None) -> torch.dtype:
    """A name -> a precision; "auto" is VITMSN_DTYPE where that is set, bfloat16 where ``device`` is faster in it, else
    float32.

    Args:
        gigaflops: of one forward of one picture. With few of them "auto" is float32 on every device: there is little
            time to gain, and the same answers everywhere to lose.

    Raises:
        InputError: a name that is none of these, here or in VITMSN_DTYPE.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    what = "dtype"
    if dtype == "auto" and (chosen := os.environ.get("VITMSN_DTYPE")):
        what, dtype = "VITMSN_DTYPE", chosen
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype in named:
        return named[dtype]
    if dtype != "auto":
        raise InputError(f"{what} is {dtype!r}; choose auto, {', '.join(named)}.")
    if gigaflops is not None and gigaflops < FEW_GIGAFLOPS:
        return torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and _has_bfloat16() and _bfloat16_gain() > BFLOAT16_GAIN
    return torch.bfloat16 if fast else torch.float32


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on ``device``. To a GPU from pinned memory, so that the GPU goes on meanwhile with what it was given
    before."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


FEW_GIGAFLOPS = 1.0  # the embedded model has half of that, ViT-S/16 at 224 pixels nine times as many
BFLOAT16_GAIN = 1.2  # of speed, from which its fewer digits are worth it
_ROWS, _NARROW, _WIDE = 394, 384, 1536  # of the product that is timed: two pictures in an MLP of ViT-S/16


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulated it is a hundred times slower than float32."""
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, ask, bool)() for ask in asks)


@lru_cache(maxsize=1)
def _bfloat16_gain(rounds: int = 7) -> float:
    """How many times as fast as in float32 a linear layer is in bfloat16 on this processor; 30 to 90 ms.

    The instructions alone do not tell. AMD's with AVX-512 BF16 double the speed and Intel's with AMX do better still,
    while Intel's with AVX-512 BF16 and no AMX, as some virtual machines offer them, take twice the time of float32. The
    best of several rounds in turn is compared, so that other work on the machine does not decide.
    """
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        rows, weight = torch.ones(_ROWS, _NARROW), torch.ones(_WIDE, _NARROW)
        timed = [(dtype, rows.to(dtype), weight.to(dtype)) for dtype in best]
        for _ in range(rounds):
            for dtype, rows, weight in timed:
                begin = time.perf_counter()
                F.linear(rows, weight)
                best[dtype] = min(best[dtype], time.perf_counter() - begin)
    return best[torch.float32] / best[torch.bfloat16]
