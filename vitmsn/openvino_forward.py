"""The backbone's forward on a CPU by OpenVINO, an optional package. For inference only.

OpenVINO has matrix kernels of its own and computes attention in one piece. The network is written for it operator by
operator, for any number of pictures and tokens. Patches are cut and chosen before it, so that only those kept go in.

The graph reads torch's weights where they lie. What OpenVINO makes of them for its kernels takes as much memory as
they do, as packed weights do. Nothing is written to disk, and nothing is sent.

Letters: B pictures, K patches kept, T = 1 + K tokens (CLS first), P numbers of a patch, D width, H heads, d = D / H.
"""

from __future__ import annotations

import sys
import threading
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitmsn import extras
from vitmsn.config import pair
from vitmsn.errors import MissingPackageError
from vitmsn.layers import Attention, Layer
from vitmsn.model import ViTMSNModel
from vitmsn.outputs import ViTMSNOutput
from vitmsn.packed import TOKENS, difference

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03}  # as packed.TOLERANCE; 0.03 is a cosine of .9995
_Node = Any  # of OpenVINO's graph


def library() -> Any:
    """OpenVINO, imported without its telemetry, which would write to the home folder and send an event.

    Raises:
        MissingPackageError: it is not installed.
    """
    telemetry = "openvino_telemetry"
    hidden = "openvino" not in sys.modules and telemetry not in sys.modules
    if hidden:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # OpenVINO then takes it for not installed
    try:
        with extras.named():
            import openvino
    finally:
        if hidden:
            del sys.modules[telemetry]
    return openvino


@cache
def _core() -> Any:
    """What compiles; one for all models, as it reads OpenVINO's plugins."""
    return library().Core()


class _Graph:
    """The network in OpenVINO's operators, in the precision of the weights; float32 goes in and comes out."""

    def __init__(self, model: ViTMSNModel) -> None:
        self.model, self.precision = model, PRECISIONS[model.dtype]
        self.openvino = library()
        self.ops = self.openvino.opset13
        self.weights: list[np.ndarray] = []  # OpenVINO holds no reference to what it reads

    def network(self, every_layer: bool) -> Any:
        """(B, K, P) pixels, (1 or B, K, D) positions and (B, 1, D) CLS with its position -> (B, T, D): the last tokens
        after the final LayerNorm; then, of ``every_layer``, what each one gets and what the last one gives."""
        ops, model = self.ops, self.model
        projection = model.embeddings.patch_embeddings.projection
        weight, width = projection.weight.flatten(1), model.config.hidden_size
        shapes = [-1, -1, weight.shape[1]], [-1, -1, width], [-1, 1, width]
        given = [ops.parameter(shape, np.float32) for shape in shapes]
        pixels, positions, cls = (ops.convert(one, self.precision) for one in given)
        x = ops.concat([cls, ops.add(self.linear(pixels, weight, projection.bias), positions)], 1)  # (B, T, D)
        states = [x]
        for layer in model.layers:
            assert isinstance(layer, Layer)
            x = ops.add(x, self.attention(self.norm(x, layer.layernorm_before), layer.attention))
            hidden = self.linear(self.norm(x, layer.layernorm_after), layer.mlp.fc1.weight, layer.mlp.fc1.bias)
            x = ops.add(x, self.linear(self.activation(hidden), layer.mlp.fc2.weight, layer.mlp.fc2.bias))
            states.append(x)
        found = [self.norm(x, model.layernorm), *(states if every_layer else [])]
        return self.openvino.Model([ops.result(ops.convert(one, "f32")) for one in found], given, "backbone")

    def constant(self, weight: Tensor) -> _Node:
        """A weight where it lies; numpy has no bfloat16."""
        bits = weight.detach().contiguous()
        array = (bits.view(torch.int16) if weight.dtype == torch.bfloat16 else bits).numpy()
        kind = getattr(self.openvino.Type, PRECISIONS[weight.dtype])
        self.weights.append(array)
        tensor = self.openvino.Tensor(array, self.openvino.Shape(list(array.shape)), kind)
        return self.openvino.op.Constant(tensor, shared_memory=True)

    def numbers(self, *values: int) -> _Node:
        return self.openvino.op.Constant(np.array(values, np.int64))

    def linear(self, x: _Node, weight: Tensor, bias: Tensor | None) -> _Node:
        product = self.ops.matmul(self.ops.convert(x, self.precision), self.constant(weight), False, True)
        return product if bias is None else self.ops.add(product, self.constant(bias))

    def norm(self, x: _Node, norm: nn.LayerNorm) -> _Node:
        """In float32: what OpenVINO can do in one piece, without rounding between."""
        weight, bias = self.constant(norm.weight.float()), self.constant(norm.bias.float())
        centered = self.ops.mvn(self.ops.convert(x, "f32"), self.numbers(-1), True, norm.eps, "inside_sqrt")
        return self.ops.add(self.ops.multiply(centered, weight), bias)

    def activation(self, x: _Node) -> _Node:
        name = self.model.config.hidden_act
        if name.startswith("gelu"):
            return self.ops.gelu(x, "erf" if name == "gelu" else "tanh")
        return getattr(self.ops, {"silu": "swish"}.get(name, name))(x)  # relu, swish or tanh

    def attention(self, x: _Node, attention: Attention) -> _Node:
        ops, swapped = self.ops, self.numbers(0, 2, 1, 3)
        heads, width = attention.heads, attention.head_dim
        biases = [None] * 3 if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
        query, key, value = (
            ops.transpose(ops.reshape(self.linear(x, weight, bias), self.numbers(0, 0, heads, width), True), swapped)
            for weight, bias in zip(attention.qkv.weight.chunk(3), biases, strict=True)
        )  # (B, H, T, d)
        mixed = ops.transpose(ops.scaled_dot_product_attention(query, key, value), swapped)
        joined = ops.reshape(mixed, self.numbers(0, 0, heads * width), True)
        return self.linear(joined, attention.output.weight, attention.output.bias)


class _Network:
    """A compiled graph: arrays go in, tokens come out."""

    def __init__(self, model: ViTMSNModel, every_layer: bool) -> None:
        graph = _Graph(model)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": graph.precision,
            "ENABLE_CPU_PINNING": False,  # or several processes would all wait for the first cores
        }
        self._compiled = _core().compile_model(graph.network(every_layer), "CPU", settings)
        self._weights = graph.weights
        self._request = self._compiled.create_infer_request()

    def __call__(self, given: list[np.ndarray]) -> None:
        try:
            self._request.infer(given, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            if "alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise

    def found(self, place: int) -> np.ndarray:
        """An output of the last call; the next one writes over it."""
        tokens: np.ndarray = self._request.get_output_tensor(place).data
        return tokens

    def shrink(self) -> None:
        """Give back the room that the largest input took."""
        self._compiled.release_memory()


class OpenVINOModel:
    """A frozen backbone, ready for many forwards on the CPU; :func:`compiled` makes it. Not a module: it cannot train.

    Threads may share it; one computes at a time. There is a graph for the last tokens and one for every layer's, each
    made and compared when first wanted: the second one is slower, and each holds the weights for itself.
    """

    def __init__(self, model: ViTMSNModel) -> None:
        self.model = model
        self._lock = threading.RLock()
        self._networks: dict[bool, _Network] = {}  # whether it gives every layer's tokens -> the graph
        self._unlike: dict[bool, str] = {}  # the same -> why its numbers cannot be used, or ""
        embeddings = model.embeddings
        self._cls = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).detach().float().numpy()  # (1, 1, D)
        self._known = (0, 0), np.empty(0)  # the last grid, and its positions

    def __call__(
        self, pixel_values: Tensor, keep_indices: Tensor | None = None, output_hidden_states: bool = False
    ) -> ViTMSNOutput:
        """As the plain forward with ``interpolate_pos_encoding``, but float32; no mask tokens, no attention maps."""
        if reason := self.unlike(output_hidden_states):
            warnings.warn(f"{reason}; the plain forward is used, which is slower.", stacklevel=2)
            wanted = {"interpolate_pos_encoding": True, "output_hidden_states": output_hidden_states}
            return self.model(pixel_values, keep_indices=keep_indices, **wanted)
        return self._compute(pixel_values, keep_indices, output_hidden_states)

    def unlike(self, every_layer: bool) -> str:
        """Why the numbers of a graph cannot be used; "" where they can. Compared once, when the graph is made."""
        with self._lock:
            if every_layer not in self._unlike:
                apart, allowed = difference(self.model, self._compute, every_layer), TOLERANCE[self.model.dtype]
                said = f"OpenVINO gave numbers {apart:.1e} apart where {allowed:g} is allowed"
                self._unlike[every_layer] = "" if apart <= allowed else said
            return self._unlike[every_layer]

    def _compute(self, pixel_values: Tensor, keep_indices: Tensor | None, every_layer: bool) -> ViTMSNOutput:
        grid = self.model.checked_grid(pixel_values, None, keep_indices, interpolate=True)
        batch, width, depth = len(pixel_values), self.model.config.hidden_size, len(self.model.layers)
        tokens = 1 + (grid[0] * grid[1] if keep_indices is None else keep_indices.shape[1])
        pixels, keep = pixel_values.float().numpy(), None if keep_indices is None else keep_indices.numpy()
        # numpy copies on one thread; torch's threads would go on spinning while OpenVINO's compute
        last = np.empty((batch, tokens, width), np.float32)
        states = np.empty((1 + depth if every_layer else 0, batch, tokens, width), np.float32)
        together = max(1, TOKENS // tokens)  # pictures
        for start in range(0, batch, together):
            part = slice(start, start + together)
            given = self._given(pixels[part], grid, None if keep is None else keep[part])
            with self._lock:
                if every_layer not in self._networks:
                    self._networks[every_layer] = _Network(self.model, every_layer)
                network = self._networks[every_layer]
                network(given)
                for place, whole in enumerate((last, *states)):
                    whole[part] = network.found(place)
                if tokens > TOKENS:
                    network.shrink()
        hidden = tuple(torch.from_numpy(state) for state in states) or None
        return ViTMSNOutput(torch.from_numpy(last), grid, keep_indices, hidden_states=hidden)

    def _given(self, pixels: np.ndarray, grid: tuple[int, int], keep: np.ndarray | None) -> list[np.ndarray]:
        """What a graph takes of pictures (B, C, height, width): pixels of patches, positions, CLS with its position."""
        (rows, columns), (height, width) = grid, pair(self.model.config.patch_size)
        batch, channels = pixels.shape[:2]
        cut = pixels[:, :, : rows * height, : columns * width]  # the remainder fills no patch
        cut = cut.reshape(batch, channels, rows, height, columns, width).transpose(0, 2, 4, 1, 3, 5)
        positions = self._positions(grid)
        if keep is not None:
            cut = cut[np.arange(batch)[:, None], keep // columns, keep % columns]
            positions = positions[0][keep]
        patches = np.ascontiguousarray(cut).reshape(batch, positions.shape[1], -1)
        return [patches, positions, self._cls.repeat(batch, axis=0)]

    def _positions(self, grid: tuple[int, int]) -> np.ndarray:
        """(1, N, D), kept for the next pictures of that grid."""
        known = self._known
        if known[0] != grid:
            known = self._known = grid, self.model.embeddings.positions(grid).detach().float().contiguous().numpy()
        return known[1]


@dataclass(frozen=True)
class NotCompiled:
    """Why OpenVINO cannot compute a model."""

    reason: str


@torch.inference_mode()
def compiled(model: ViTMSNModel, every_layer: bool = False) -> OpenVINOModel | NotCompiled:
    """Compile a backbone for the CPU, and compare it with the plain forward on a small random input.

    Args:
        every_layer: whether every layer's tokens are wanted first.

    Raises:
        MissingPackageError: OpenVINO is not installed.
    """
    made = OpenVINOModel(model)
    try:
        reason = made.unlike(every_layer)
    except MissingPackageError:
        raise
    except (ImportError, OSError, RuntimeError) as error:  # a damaged installation, or a processor that it cannot use
        reason = f"OpenVINO refused the model: {' '.join(str(error).split())[:200]}"
    return NotCompiled(reason) if reason else made
