"""Where a model computes and in which precision, and whether that place has run out of memory."""

from __future__ import annotations

import os

import torch

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


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """A name -> a precision; "auto" is VITMSN_DTYPE where that is set, bfloat16 where ``device`` computes in it, else
    float32.

    Without bfloat16 instructions a processor emulates them, a hundred times slower.

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
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        fast = device.type == "cpu" and any(getattr(torch.cpu, ask, bool)() for ask in asks)
    return torch.bfloat16 if fast else torch.float32
