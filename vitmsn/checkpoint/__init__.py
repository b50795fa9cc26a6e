"""Every checkpoint format in and out: hub id, folder or file -> config, canonical tensors and extras; and back.

    hub id ─┐
    folder ─┼─> files ─> header (names, shapes, types) ─> layout ─> checked against the config ─> data ─> Checkpoint
    file ───┘

The canonical keys are those of ``ViTMSNModel.state_dict()``. Each foreign layout is one :class:`Layout`, a table from
canonical names to its own; reading and writing use the same table in opposite directions. Loading is strict and cheap
to refuse: names, shapes and types are compared before any data is read, and no code in a file is ever run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vitmsn.checkpoint.download import watched as watched
from vitmsn.checkpoint.hub import CARD, CONFIG, EXTRAS, FEATURE_MEAN, MSN_HEAD, PROCESSOR, WEIGHTS, fetch, preferred
from vitmsn.checkpoint.layouts import CANONICAL, HUGGING_FACE_4, Layout, depth, gather, infer_config
from vitmsn.checkpoint.safe import FLOATS, StoredTensor, compare_names, read_json, read_safetensors, read_tensor
from vitmsn.config import ViTMSNConfig, msn_head_shapes
from vitmsn.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, whatever its format was; all floating-point tensors are float32.

    Attributes:
        source: what was opened, for messages.
        config: the architecture and the labels.
        tensors: the backbone, under canonical keys.
        classifier: ``weight`` (labels, D) and ``bias`` (labels,) of a linear head, or empty.
        msn_head: ``projector.*`` and ``prototypes`` (P, d), or what there is of them, or empty.
        temperature, sharpening: tau of the anchors and T of the targets that the MSN head was trained with.
        feature_mean: (D,) mean CLS token of the pre-training data, or None.
        processor: the parsed ``preprocessor_config.json``, or None.
        card: the parsed ``vitmsn.json``: what this package knows of its own models (thresholds, kinds of labels).
        reference: what ``load`` takes to read the same files from any folder: an absolute path, ``owner/name@commit``,
            or an embedded model's name.
    """

    source: str
    config: ViTMSNConfig
    tensors: dict[str, Tensor]
    classifier: dict[str, Tensor] = field(default_factory=dict)
    msn_head: dict[str, Tensor] = field(default_factory=dict)
    temperature: float = 0.1
    sharpening: float = 0.25
    feature_mean: Tensor | None = None
    processor: dict[str, Any] | None = None
    card: dict[str, Any] = field(default_factory=dict)
    reference: str = ""


_READING = threading.Lock()  # one checkpoint is read at a time, to limit peak memory; downloads do not wait for it


# --- Loading ---------------------------------------------------------------------------------------------------------


def load(name_or_path: str | Path) -> Checkpoint:
    """Read a hub id (``owner/name``), a model folder or a single weights file.

    A single file takes its ``config.json`` and extras from beside it; without one, its shapes tell the architecture.

    Raises:
        CheckpointError: the checkpoint cannot be loaded exactly and safely; the message names the cause: no such path,
            no network and no cached copy, too large, truncated, code in a pickle, a key that is missing, unknown,
            duplicate or of a wrong shape, NaN. Only heads may be absent.
    """
    source, path, reference = _locate(name_or_path)
    with _READING:
        return _read(source, path, reference)


def _read(source: str, path: Path, reference: str) -> Checkpoint:
    weights = gather(path)
    described = (path.parent / CONFIG).is_file() and not weights.self_contained
    beside = {name: path.parent / name for name in (CONFIG, *EXTRAS) if described and (path.parent / name).is_file()}
    try:
        config = ViTMSNConfig.from_dict(read_json(beside[CONFIG])) if described else infer_config(path, weights)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if depth(weights) != config.num_hidden_layers:  # before a config's billion layers are enumerated
        raise CheckpointError(
            f"{source} has {depth(weights)} layers but its config says {config.num_hidden_layers}; the two must agree."
        )
    entries = weights.entries
    classifier = {name: entries.pop(name) for name in list(entries) if name.startswith("classifier.")}
    head = {name: entries.pop(name) for name in list(entries) if name.startswith("projector.") or name == "prototypes"}
    metadata: dict[str, str] = {}
    if MSN_HEAD in beside:
        head, metadata = read_safetensors(beside[MSN_HEAD])
    mean = read_safetensors(beside[FEATURE_MEAN])[0] if FEATURE_MEAN in beside else {}

    labels, dim = config.num_labels, config.hidden_size
    backbone = config.shapes(mask_token="embeddings.mask_token" in entries)
    linear = {"classifier.weight": (labels, dim), "classifier.bias": (labels,)}
    heads = msn_head_shapes({name: entry.shape for name, entry in head.items()}, dim)
    _check(source, entries, backbone, weights.layout)
    _check(f"{source} (classifier)", classifier, linear if classifier else {})
    _check(f"{source} (MSN head)", head, heads)
    _check(f"{source} (feature mean)", mean, {"feature_mean": (dim,)} if mean else {})
    return Checkpoint(
        source=source,
        config=config,
        tensors={key: read_tensor([entries[name] for name in weights.layout.names(key)]) for key in backbone},
        classifier={key.removeprefix("classifier."): read_tensor([entry]) for key, entry in classifier.items()},
        msn_head={key: read_tensor([entry]) for key, entry in head.items()},
        temperature=_positive(
            source, metadata, "temperature", 0.1 if weights.temperature is None else weights.temperature
        ),
        sharpening=_positive(source, metadata, "sharpening", 0.25),
        feature_mean=read_tensor([mean["feature_mean"]]) if mean else None,
        processor=read_json(beside[PROCESSOR]) if PROCESSOR in beside else None,
        card=read_json(beside[CARD]) if CARD in beside else {},
        reference=reference,
    )


def _check(
    source: str, entries: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], layout: Layout = CANONICAL
) -> None:
    """Check that all names are there and no others, with the right shapes, in types that convert to float32 exactly."""
    compare_names(source, set(entries), {name for key in shapes for name in layout.names(key)})
    for key, shape in shapes.items():
        names = layout.names(key)
        part = shape if len(names) == 1 else (shape[0] // len(names), *shape[1:])
        types = ("I64",) if key.endswith("num_batches_tracked") else FLOATS
        for entry in (entries[name] for name in names):
            if entry.shape != part:
                raise CheckpointError(
                    f"{source} has {entry.key} of shape {entry.shape}; this network needs {part}: check that weights "
                    "and config.json belong together."
                )
            if entry.dtype not in types:
                raise CheckpointError(
                    f"{source} has {entry.key} of type {entry.dtype}; {', '.join(types)} can be loaded."
                )


def _positive(source: str, metadata: Mapping[str, str], name: str, default: Any) -> float:
    text = metadata.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise CheckpointError(f"{source} has {name} {text!r} beside its MSN head; a positive number is needed.")
    return value


# --- Places ----------------------------------------------------------------------------------------------------------

EMBEDDED = "vit-msn-tiny-8-64"
CHECKSUMS = "SHA256SUMS"  # beside an embedded model
MSN_ONLY = "vit-msn-tiny-8-64-msn-only"  # from MSN pre-training alone, without labels


def embedded(name: str = EMBEDDED) -> Path:
    """The folder of a model that comes with the package: beside it in a checkout, inside it in a wheel.

    Raises:
        CheckpointError: it is not installed.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "assets" / name, package / "assets" / name):
        if (folder / CONFIG).is_file():
            return folder
    raise CheckpointError(
        f"The embedded model {name!r} is not installed; install it again, or give a folder or hub id."
    )


def verify(name: str = EMBEDDED) -> None:
    """Compare the files of an embedded model with the checksums that came with it.

    Raises:
        CheckpointError: a file is missing or changed; it is named without its folder, because the page shows this.
    """
    folder = embedded(name)
    for line in (folder / CHECKSUMS).read_text("utf-8").splitlines():
        wanted, file = line.split(maxsplit=1)
        path = folder / file
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "nothing"
        if found != wanted:
            state = "damaged" if path.is_file() else "missing"
            raise CheckpointError(f"{file} of the embedded model {name} is {state}; install it again.")


def read_processor(name_or_path: str | Path) -> dict[str, Any] | None:
    """The parsed ``preprocessor_config.json`` of a hub id, a folder or a file's folder; None where there is none."""
    place = _place(name_or_path)
    if not os.path.exists(place):
        place = str(fetch(str(name_or_path), lambda names: [CONFIG, PROCESSOR])[0])
    file = Path(place if os.path.isdir(place) else os.path.dirname(place)) / PROCESSOR
    return read_json(file) if file.is_file() else None


def _place(name_or_path: str | Path) -> str:
    """A path; for the name of an embedded model its folder, unless a file or folder here has that name."""
    place = os.path.expanduser(str(name_or_path))
    if place in (EMBEDDED, MSN_ONLY) and not os.path.exists(place):
        return str(embedded(place))
    return place


def _locate(name_or_path: str | Path) -> tuple[str, Path, str]:
    """(source for people, weights file or index, reference)."""
    source, place = str(name_or_path), _place(name_or_path)
    path = Path(place)
    if os.path.isfile(place):
        return source, path, os.path.abspath(place)
    if os.path.isdir(place):
        ours = path.name in (EMBEDDED, MSN_ONLY) and path == embedded(path.name)
        reference = path.name if ours else os.path.abspath(place)
    else:
        path, fresh = fetch(source, lambda names: [CONFIG, *EXTRAS, *preferred(names)])
        reference = f"{source.partition('@')[0]}@{path.name}"  # the folder of a snapshot is named by its commit
        source = source if fresh else f"{source} (cached copy: the hub cannot be reached)"
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{source} has no {CONFIG}; a model folder has one (a lone weights file: give its path).")
    present = [name for name in WEIGHTS if (path / name).is_file()]
    if not present:
        raise CheckpointError(f"{source} has no weights; one of {', '.join(WEIGHTS)} is needed.")
    return source, path / present[0], reference


# --- Saving ----------------------------------------------------------------------------------------------------------


def save(
    folder: str | Path,
    config: ViTMSNConfig,
    tensors: Mapping[str, Tensor],
    classifier: Mapping[str, Tensor] | None = None,
    msn_head: Mapping[str, Tensor] | None = None,
    feature_mean: Tensor | None = None,
    processor: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    temperature: float = 0.1,
    sharpening: float = 0.25,
) -> None:
    """Write a model folder that this package and transformers 4.x and 5.x read back.

    The arguments are the fields of :class:`Checkpoint`. Each file is replaced atomically, ``config.json`` last, so no
    half-written file stays. A head, a mean or a card of an earlier model in the folder is removed; a processor stays.

    Args:
        dtype: of the stored weights, e.g. ``torch.float16`` to halve the file.

    Raises:
        CheckpointError: tensors that do not fit the config or the dtype, or a folder that cannot be written.
    """
    folder = Path(folder)
    wanted = config.shapes(mask_token="embeddings.mask_token" in tensors)
    heads = {"weight": (config.num_labels, config.hidden_size), "bias": (config.num_labels,)} if classifier else {}
    free = {key: tuple(tensor.shape) for key, tensor in (msn_head or {}).items()}
    mean = {} if feature_mean is None else {"feature_mean": feature_mean}
    _fits("The backbone", tensors, wanted)
    _fits("The classifier", classifier or {}, heads)
    _fits("The MSN head", msn_head or {}, msn_head_shapes(free, config.hidden_size))
    _fits("The feature mean", mean, {"feature_mean": (config.hidden_size,)} if mean else {})

    prefix = "vit." if classifier else ""
    model = {f"classifier.{key}": tensor for key, tensor in (classifier or {}).items()}
    for key in wanted:
        names = HUGGING_FACE_4.names(key)
        model |= {prefix + name: part for name, part in zip(names, tensors[key].chunk(len(names)), strict=True)}
    settings = {"temperature": str(temperature), "sharpening": str(sharpening)}
    description = config.to_dict() | {
        "architectures": ["ViTMSNForImageClassification" if classifier else "ViTMSNModel"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as hidden:  # on the same disk
            fresh = Path(hidden)
            for name, parts, metadata in ((MSN_HEAD, msn_head, settings), (FEATURE_MEAN, mean, {})):
                if parts:
                    _write_tensors(fresh / name, parts, dtype if parts is msn_head else torch.float32, metadata)
            for name, values in ((PROCESSOR, processor), (CARD, card)):
                if values:
                    _write_json(fresh / name, values)
            _write_tensors(fresh / WEIGHTS[0], model, dtype, {})
            _write_json(fresh / CONFIG, description)
            for name in (MSN_HEAD, FEATURE_MEAN, CARD, PROCESSOR, WEIGHTS[0], CONFIG):
                if (fresh / name).exists():
                    shutil.copymode(fresh / CONFIG, fresh / name)  # safetensors writes for the owner alone
                    os.replace(fresh / name, folder / name)
                elif name != PROCESSOR:
                    (folder / name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be written ({error}); choose another place.") from error


def _fits(what: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    compare_names(what, set(tensors), set(wanted))
    for key, shape in wanted.items():
        if tuple(tensors[key].shape) != shape:
            raise CheckpointError(
                f"{what} has {key} of shape {tuple(tensors[key].shape)}; its config asks for {shape}."
            )


def save_tensors(file: str | Path, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Write tensors by name as one .safetensors file; ``dtype``: of the stored floats."""
    _write_tensors(Path(file), tensors, dtype, {})


def load_tensors(file: str | Path) -> dict[str, Tensor]:
    """The tensors of one .safetensors file by name, floats as float32.

    Raises:
        CheckpointError: it is not a .safetensors file, or contains NaN.
    """
    return {key: read_tensor([entry]) for key, entry in read_safetensors(Path(file))[0].items()}


def _write_tensors(file: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype, metadata: dict[str, str]) -> None:
    stored = {}
    for key, tensor in tensors.items():
        # running variances span more than half precision can; counters are whole numbers
        keep = "running_" in key or not tensor.is_floating_point()
        stored[key] = tensor.detach().to("cpu", tensor.dtype if keep else dtype, copy=True).contiguous()
        if not bool(torch.isfinite(stored[key]).all()):
            raise CheckpointError(f"{key} is not finite as {dtype}; save what is finite, in bfloat16 or float32.")
    save_file(stored, file, metadata={"format": "pt"} | metadata)


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
