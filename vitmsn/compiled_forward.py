"""The backbone's forward with kernels that ``torch.compile`` writes, for many pictures of one size. For inference only.

One layer is compiled, and its kernels compute all of them, so that a new shape costs seconds and not minutes: the norm,
the activation and the residual around each product become one kernel. It is meant for a GPU: on a CPU packed weights
(``packed``) or OpenVINO are faster.

Each number of pictures and of tokens is a shape of its own; after the eighth torch computes new ones without kernels of
its own. So this is for folders and tables, not for a page where every mask has another size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitmsn.devices import to_device
from vitmsn.layers import Layer
from vitmsn.model import ViTMSNModel
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import difference

# Length of the difference to the plain forward, over its own. Fused kernels round less often than the plain forward.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


class CompiledModel:
    """A frozen backbone, ready for many forwards of one shape; :func:`compile_model` makes it. It cannot train."""

    def __init__(self, model: ViTMSNModel) -> None:
        self.model = model
        self._layer = torch.compile(_layer, dynamic=False)

    def __call__(
        self, pixel_values: Tensor, keep_indices: Tensor | None = None, output_hidden_states: bool = False
    ) -> ViTMSNOutput:
        """As the plain forward with ``interpolate_pos_encoding``; without mask tokens and attention maps."""
        model, device = self.model, self.model.device
        keep = None if keep_indices is None else to_device(keep_indices, device)
        grid = model.checked_grid(pixel_values, None, keep_indices, interpolate=True)
        x = model.embeddings(to_device(pixel_values, device).to(model.dtype), grid, None, keep)
        states = [x]
        for layer in model.layers:
            assert isinstance(layer, Layer)
            x = self._layer(layer, x)
            if output_hidden_states:
                states.append(x)
        found = tuple(states) if output_hidden_states else None
        return ViTMSNOutput(model.layernorm(x), grid, keep, hidden_states=found)


def _layer(layer: Layer, x: Tensor) -> Tensor:
    found: Tensor = layer(x, False)[0]
    return found


@dataclass(frozen=True)
class CannotCompile:
    """Why a model takes the plain forward."""

    reason: str


@torch.inference_mode()
def compile_model(model: ViTMSNModel) -> CompiledModel | CannotCompile:
    """Compile a backbone for its device, and compare it with the plain forward on a small random input."""
    if model.dtype not in TOLERANCE:
        return CannotCompile(f"torch.compile is used in {', '.join(map(str, TOLERANCE))}, not in {model.dtype}")
    compiled = CompiledModel(model)
    try:
        apart = difference(model, compiled, every_layer=True)
    except (RuntimeError, ImportError, OSError) as error:  # no compiler, no Triton, or nowhere to write kernels
        return CannotCompile(f"torch.compile failed: {str(error).strip().splitlines()[0][:200]}")
    if not apart <= TOLERANCE[model.dtype]:
        allowed = TOLERANCE[model.dtype]
        return CannotCompile(f"torch.compile gave numbers {apart:.1e} apart where {allowed:g} is allowed")
    return compiled
