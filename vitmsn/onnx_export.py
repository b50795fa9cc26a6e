"""A model as one ONNX file, for onnxruntime, onnxruntime-web and transformers.js; checked before it is there.

    write("cat-or-dog.onnx", encoder, head=lesson.classifier)

Beside ``NAME.onnx`` lies ``NAME.json``: inputs, outputs, labels, and how a picture becomes ``pixel_values``. The batch
is free, the size of the input is the model's own.

Outputs, in this order, each for B pictures:
    logits (B, classes)      of the classifier or of a few-shot head; absent for a backbone
    embedding (B, D)         CLS after the final LayerNorm
    attention (B, L, H, N)   what CLS attends to in every layer and head, with ``attention=True``
"""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn import extras
from vitmsn.errors import ExportError, FewShotError, InputError
from vitmsn.fewshot import FewShotClassifier, KNNClassifier
from vitmsn.model import ViTMSNModel

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder

BATCHES = (1, 2, 5)  # sizes at which the file is compared with torch
TOLERANCE = 1e-3  # of the largest value of an output; float32 sums in another order differ by about 1e-6
DTYPES = (torch.float32, torch.float16)


@dataclass(frozen=True)
class Written:
    """An ONNX file and what was found when it was compared with torch."""

    file: Path
    description: Path  # the JSON beside it
    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    difference: float  # the largest, as a share of the largest value of its output
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "description": str(self.description),
            "outputs": list(self.outputs),
            "labels": list(self.labels),
            "largest_difference": self.difference,
            "checked_at_batches": list(BATCHES),
            "bytes": self.bytes,
        }


def write(
    file: str | os.PathLike[str],
    encoder: Encoder,
    *,
    head: FewShotClassifier | None = None,
    sure_from: float | None = None,
    attention: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Written:
    """Write ``file`` (NAME.onnx) and NAME.json, after comparing the file with torch in onnxruntime.

    Args:
        head: a few-shot classifier fitted on this encoder's embeddings, instead of the model's own; the softmax of its
            logits is its ``predict_proba``.
        sure_from: the probability from which an answer is sure, for the description; by default the model's.
        attention: also give the attention of CLS.
        dtype: of the stored weights; float16 halves the file, and what is computed stays float32.

    Raises:
        MissingPackageError: onnx, onnxruntime or onnxscript is not installed.
        ExportError: a file that cannot be written, or that gives other numbers than torch.
        FewShotError: a head that was fitted on something else.
        InputError: a name that does not end in .onnx, or a dtype that is neither float32 nor float16.
    """
    target = Path(file)
    if target.suffix != ".onnx":  # the description goes to NAME.json
        raise InputError(f"The file would be {target.name}; its name must end in .onnx.")
    if dtype not in DTYPES:
        raise InputError(f"The weights would be {dtype}; ONNX is written in float32 or float16.")
    with extras.named():
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    network = _network(encoder, head, attention, dtype)
    height, width = encoder.input_size
    samples = [torch.from_numpy(_sample(encoder, count)) for count in BATCHES]
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.resolve().parent) as beside:
            fresh = Path(beside) / target.name
            with _quiet():
                torch.onnx.export(
                    network,
                    (samples[1],),
                    fresh,
                    input_names=["pixel_values"],
                    output_names=list(network.names),
                    dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1, max=65536)}},
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
            if dtype == torch.float16:
                onnx.save(_halved(onnx.load(fresh), onnx), fresh)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(fresh, options, providers=["CPUExecutionProvider"])
            difference = _compare(session, network, samples)
            about = _description(encoder, network, head, sure_from, (height, width), target.name)
            (Path(beside) / "about").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8")
            del session
            os.replace(fresh, target)
            os.replace(Path(beside) / "about", target.with_suffix(".json"))
    except OSError as error:
        raise ExportError(f"{target} cannot be written ({error.strerror}); choose another place.") from error
    labels = tuple(about["labels"])
    size = target.stat().st_size
    return Written(target, target.with_suffix(".json"), network.names, labels, difference, size)


# --- The network --------------------------------------------------------------------------------------------------


class _Whole(nn.Module):
    """Pixels -> the outputs of the file, as plain tensors."""

    def __init__(self, backbone: ViTMSNModel, head: nn.Module | None, attention: bool) -> None:
        super().__init__()
        self.backbone, self.head, self.attention = backbone, head, attention
        self.names = (*(["logits"] if head is not None else []), "embedding", *(["attention"] if attention else []))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        out = self.backbone(pixel_values, output_attentions=self.attention, return_dict=True)
        embedding = out.last_hidden_state[:, 0]
        found = [embedding] if self.head is None else [self.head(embedding), embedding]
        if self.attention:
            found.append(torch.stack([layer[:, :, 0, 1:] for layer in out.attentions], dim=1))
        return tuple(found)


class _Prepared(nn.Module):
    """Embeddings -> rows of length 1 around the classifier's center."""

    center: Tensor

    def __init__(self, classifier: FewShotClassifier) -> None:
        super().__init__()
        self.temperature = float(classifier.temperature_)
        self.register_buffer("center", _float(classifier.center_))

    def prepared(self, embedding: Tensor) -> Tensor:
        return F.normalize(embedding - self.center, dim=-1)


class _LinearHead(_Prepared):
    coef: Tensor

    def __init__(self, classifier: Any) -> None:
        super().__init__(classifier)
        self.register_buffer("coef", _float(classifier.coef_))

    def forward(self, embedding: Tensor) -> Tensor:
        return self.prepared(embedding) @ self.coef.T / self.temperature


class _NearestHead(_Prepared):
    """The vote of ``KNNClassifier``."""

    rows: Tensor
    classes: Tensor

    def __init__(self, classifier: KNNClassifier) -> None:
        super().__init__(classifier)
        self.vote, self.unseen = float(classifier.temperature), classifier._unseen
        self.count = min(classifier.n_neighbors, len(classifier.rows_))
        self.register_buffer("rows", _float(classifier.rows_))
        self.register_buffer("classes", _float(np.eye(len(classifier.classes_))[classifier.codes_]))

    def forward(self, embedding: Tensor) -> Tensor:
        similarity, index = (self.prepared(embedding) @ self.rows.T).topk(self.count)
        weight = ((similarity - similarity[:, :1]) / self.vote).softmax(-1)
        share = (weight[..., None] * self.classes[index]).sum(1)
        return (share + self.unseen).log() / self.temperature


def _float(values: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _network(encoder: Encoder, head: FewShotClassifier | None, attention: bool, dtype: torch.dtype) -> _Whole:
    backbone = copy.deepcopy(encoder.model).cpu().float()
    part: nn.Module | None = copy.deepcopy(encoder.classifier)
    if head is not None:
        if head.n_features_in_ != encoder.config.hidden_size:
            raise FewShotError(
                f"The classifier learned from rows of {head.n_features_in_} numbers and {encoder.name} makes "
                f"{encoder.config.hidden_size}: give the encoder that made the rows."
            )
        if getattr(head, "weights_", None) is not None:
            raise FewShotError("A kNN of weighted examples has no ONNX form: fit it without sample_weight.")
        part = _NearestHead(head) if isinstance(head, KNNClassifier) else _LinearHead(head)
    whole = _Whole(backbone, None if part is None else part.cpu(), attention).eval().requires_grad_(False)
    if dtype == torch.float16:  # what the file will hold, so that the comparison is of the same numbers
        for tensor in (*whole.parameters(), *whole.buffers()):
            if tensor.numel() > SMALL:
                tensor.copy_(tensor.half().float())
    return whole


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, which are to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# --- The file -----------------------------------------------------------------------------------------------------

SMALL = 1024  # numbers of a tensor that is not worth halving


def _halved(model: Any, onnx: Any) -> Any:
    """Large weights stored as float16, each behind a Cast to float32."""
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if weight.data_type != onnx.TensorProto.FLOAT or values.size <= SMALL:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise ExportError(f"{weight.name} is too large for float16; write the file in float32.")
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    return model


def _sample(encoder: Encoder, count: int) -> np.ndarray:
    """Pictures of smooth colors and noise, as the network gets them."""
    rng = np.random.default_rng(count)
    height, width = encoder.input_size
    slopes = np.linspace(0, 1, height)[:, None, None] * rng.random((count, 1, 1, 3))
    pixels = 255 * (0.6 * slopes + 0.4 * rng.random((count, height, width, 3)))
    values: np.ndarray = encoder.processor(list(pixels.astype(np.uint8)), return_tensors="np")["pixel_values"]
    return values


def _compare(session: Any, network: _Whole, samples: Sequence[Tensor]) -> float:
    """The largest difference from torch; ExportError above the tolerance."""
    largest = 0.0
    for pixels in samples:
        found = session.run(list(network.names), {"pixel_values": pixels.numpy()})
        with torch.inference_mode():
            expected = [tensor.numpy() for tensor in network(pixels)]
        for name, one, other in zip(network.names, found, expected, strict=True):
            if one.shape != other.shape:
                raise ExportError(f"The ONNX file gives {name} of shape {one.shape}, torch {other.shape}; report this.")
            difference = float(np.abs(one - other).max() / max(float(np.abs(other).max()), 1e-12))
            if not difference <= TOLERANCE:
                raise ExportError(
                    f"The ONNX file would give another {name} than torch for {len(pixels)} pictures (difference "
                    f"{difference:.2g} of the largest value), so it was not written; report this with your versions."
                )
            largest = max(largest, difference)
    return largest


def _description(
    encoder: Encoder,
    network: _Whole,
    head: FewShotClassifier | None,
    sure_from: float | None,
    size: tuple[int, int],
    file: str,
) -> dict[str, Any]:
    """What a program has to know to use the file."""
    config, (rows, columns) = encoder.config, encoder.grid()
    labels = [str(label) for label in head.classes_] if head is not None else list(encoder.labels)
    problem = "single_label_classification" if head is not None else encoder.problem_type
    shapes = {
        "logits": ["batch", len(labels)],
        "embedding": ["batch", config.hidden_size],
        "attention": ["batch", config.num_hidden_layers, config.num_attention_heads, rows * columns],
    }
    if sure_from is None and head is None and encoder.has_classifier:
        sure_from = encoder.threshold
    return {
        "file": file,
        "model": encoder.name,
        "inputs": {"pixel_values": ["batch", 3, *size]},
        "outputs": {name: shapes[name] for name in network.names},
        "labels": labels,
        "problem_type": problem,
        "probabilities": {"multi_label_classification": "sigmoid", "single_label_classification": "softmax"}.get(
            problem or ""
        ),
        "sure_from": sure_from,
        "grid": [rows, columns],
        "preprocessing": encoder.processor.to_dict() | {"channels": "RGB", "layout": "NCHW"},
    }
