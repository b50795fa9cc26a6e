"""What computes an encoder's forwards: OpenVINO where it is installed, weights packed for oneDNN, kernels that
``torch.compile`` writes where that is asked for, or the plain network.

All give the same numbers within a tolerance, which is measured before one other than the plain network is used.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vitmsn import extras
from vitmsn.compiled_forward import CompiledModel, compile_model
from vitmsn.devices import to_device
from vitmsn.errors import InputError
from vitmsn.model import ViTMSNModel
from vitmsn.openvino_forward import PRECISIONS, OpenVINOModel, compiled
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import PackedModel, pack

BACKENDS = ("auto", "torch", "compile", "openvino")


def choose_backend(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    """A name -> "torch", "compile" or "openvino"; "auto" is VITMSN_BACKEND where that is set, OpenVINO where it is
    installed, can compute (on a CPU, in float32 or bfloat16) and was measured (x86-64), else torch.

    Raises:
        InputError: a name that is none of these, or OpenVINO where it cannot compute.
        MissingPackageError: OpenVINO is asked for and not installed.
    """
    what, asked = "backend", backend
    if backend == "auto" and (chosen := os.environ.get("VITMSN_BACKEND")):
        what, backend = "VITMSN_BACKEND", chosen
    if backend not in BACKENDS:
        raise InputError(f"{what} is {backend!r}; choose {', '.join(BACKENDS)}.")
    if backend == "compile":
        return backend
    can = device.type == "cpu" and dtype in PRECISIONS
    if asked == "openvino" and not can:
        said = str(dtype).removeprefix("torch.")
        raise InputError(
            f"OpenVINO would compute in {said} on {device}; it takes float32 and bfloat16 on a CPU: choose another "
            "backend, device or dtype."
        )
    if backend == "torch" or not can:
        return "torch"
    if extras.installed("openvino"):
        measured = platform.machine().lower() in ("x86_64", "amd64")
        return "openvino" if measured or backend == "openvino" else "torch"
    if backend == "openvino":
        raise extras.missing("openvino")
    return "torch"


@dataclass(frozen=True)
class Forward:
    """A backbone's forward, ready for many calls: as long as :func:`fits` says so.

    Attributes:
        compute: (pixel_values, keep_indices or None, whether every layer's tokens are wanted) -> output.
        engine: "openvino", "compiled", "packed", or "plain: " and why; in brackets why it is not what was chosen.
        made_of: what it was made of; see :func:`_state`.
    """

    compute: Callable[[Tensor, Tensor | None, bool], ViTMSNOutput]
    engine: str
    made_of: tuple[object, ...]


def prepare(model: ViTMSNModel, backend: str, every_layer: bool = False) -> Forward:
    """The fastest forward of a frozen backbone on its device that gives the plain one's numbers.

    Args:
        backend: as :func:`choose_backend` gives it. Where OpenVINO or the compiler fails, torch computes, and a warning
            says why.
        every_layer: whether every layer's tokens are wanted first.
    """
    made_of, instead = _state(model), ""
    if backend == "openvino":
        found = compiled(model, every_layer)
        if isinstance(found, OpenVINOModel):
            return Forward(found, "openvino", made_of)
        instead = found.reason
    if backend == "compile":
        written = compile_model(model)
        if isinstance(written, CompiledModel):
            return Forward(written, "compiled", made_of)
        instead = written.reason
    if instead:
        warnings.warn(f"{instead}; torch computes instead.", stacklevel=2)
        instead = f" ({instead})"
    packed = pack(model)
    if isinstance(packed, PackedModel):
        return Forward(packed, f"packed{instead}", made_of)
    return Forward(partial(_plain, model), f"plain: {packed.reason}{instead}", made_of)


def fits(forward: Forward, model: ViTMSNModel) -> bool:
    """Whether a forward was made of the model as it is now."""
    return forward.made_of == _state(model)


def _plain(model: ViTMSNModel, pixels: Tensor, keep: Tensor | None, hidden: bool) -> ViTMSNOutput:
    return model(
        to_device(pixels, model.device),
        keep_indices=None if keep is None else to_device(keep, model.device),
        interpolate_pos_encoding=True,
        output_hidden_states=hidden,
    )


def _state(model: ViTMSNModel) -> tuple[object, ...]:
    """Another tuple once a weight was replaced or changed in place, or torch got another number of threads."""
    weights = _weights(model)
    changes = [0 if weight.is_inference() else weight._version for weight in weights]  # inference tensors count none
    return (torch.get_num_threads(), *(weight.data_ptr() for weight in weights), *changes)


def _weights(model: nn.Module) -> list[Tensor]:
    """All parameters. ``model.parameters()`` would take a tenth of a small model's forward, before each one."""
    found: list[Tensor | None] = []
    modules: list[nn.Module | None] = [model]
    while modules:
        if (module := modules.pop()) is not None:
            found.extend(module._parameters.values())
            modules.extend(module._modules.values())
    return [weight for weight in found if weight is not None]
