"""Every checkpoint format in and out: hub id, folder or file -> config, canonical tensors and extras; and back.

    hub id ─┐
    folder ─┼─> files ─> header (names, shapes, types) ─> layout ─> checked against the config ─> data ─> Checkpoint
    file ───┘

The canonical keys are those of ``ViTMSNModel.state_dict()``. Each foreign layout is one :class:`Layout`, a table from
canonical names to its own; reading and writing use the same table in opposite directions. Loading is strict and cheap
to refuse: names, shapes and types are compared before any data is read, and no code in a file is ever run.
"""

from __future__ import annotations

import json
import math
import os
import pickletools
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vitmsn import limits
from vitmsn.config import ViTMSNConfig, msn_head_shapes
from vitmsn.errors import CheckpointError, ConfigError

CONFIG, PROCESSOR, CARD = "config.json", "preprocessor_config.json", "vitmsn.json"
MSN_HEAD, FEATURE_MEAN = "msn_head.safetensors", "feature_mean.safetensors"
EXTRAS = (PROCESSOR, CARD, MSN_HEAD, FEATURE_MEAN)
# in order of preference; an index names the shards
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
PICKLES = (".bin", ".pt", ".pth", ".tar")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, whatever its format was; all floating-point tensors are float32.

    Attributes:
        source: what was opened, for people.
        config: the architecture and the labels.
        tensors: the backbone, under canonical keys.
        classifier: ``weight`` (labels, D) and ``bias`` (labels,) of a linear head, or empty.
        msn_head: ``projector.*`` and ``prototypes`` (P, d), or what there is of them, or empty.
        temperature, sharpening: tau of the anchors and T of the targets that the MSN head was trained with.
        feature_mean: (D,) mean CLS token of the pre-training data, or None.
        processor: the parsed ``preprocessor_config.json``, or None.
        card: the parsed ``vitmsn.json``: what this package knows of its own models (thresholds, kinds of labels).
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


# --- Layouts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How one family of files names things: a table from canonical module names to its own, identity where absent.

    Three names for one mean query, key and value apart, which we keep in one matrix.
    """

    name: str
    layers: str  # what stands before a layer's number
    table: Mapping[str, str | tuple[str, str, str]]

    def names(self, key: str) -> tuple[str, ...]:
        """A canonical key in this layout: ``layers.3.mlp.fc1.bias`` -> ``("blocks.3.mlp.fc1.bias",)``."""
        match = re.fullmatch(r"(?:layers\.(\d+)\.)?(.+?)(\.weight|\.bias)?", key)
        assert match is not None
        layer, module, leaf = match.groups()
        theirs = self.table.get(module, module)
        stem = "" if layer is None else f"{self.layers}.{layer}."
        return tuple(f"{stem}{name}{leaf or ''}" for name in ((theirs,) if isinstance(theirs, str) else theirs))


CANONICAL = Layout("vitmsn", "layers", {})
HUGGING_FACE_4 = Layout(  # and what 5.x still writes
    "Hugging Face 4.x",
    "encoder.layer",
    {
        "attention.qkv": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        "attention.output": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
)
HUGGING_FACE_5 = Layout(
    "Hugging Face 5.x",
    "layers",
    {
        "attention.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        "attention.output": "attention.o_proj",
    },
)
META = Layout(
    "Meta",
    "blocks",
    {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm_before": "norm1",
        "attention.qkv": "attn.qkv",
        "attention.output": "attn.proj",
        "layernorm_after": "norm2",
        "layernorm": "norm",
    },
)
LAYOUTS = (HUGGING_FACE_4, HUGGING_FACE_5, META, CANONICAL)


# --- Headers: names, shapes and types, before any data ---------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, not yet read."""

    file: str
    key: str  # as the file has it
    shape: tuple[int, ...]
    dtype: str  # as safetensors names it: F32, BF16, I64, ...
    read: Callable[[], Tensor]


FLOATS = ("F16", "BF16", "F32", "F64")
TORCH_NAMES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}


def _sized(path: Path, before: int = 0) -> int:
    """Bytes of a file that is there and, together with those before it, within bounds."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened ({error.strerror}); check the path.") from error
    if before + size > limits.MAX_CHECKPOINT_BYTES:
        raise CheckpointError(
            f"{path} takes the model to {before + size:,} bytes; at most {limits.MAX_CHECKPOINT_BYTES:,} are read "
            "(VITMSN_MAX_CHECKPOINT_BYTES raises this)."
        )
    return size


def _json(path: Path) -> dict[str, Any]:
    if _sized(path) > limits.MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} is larger than {limits.MAX_HEADER_BYTES:,} bytes; a small JSON file is needed.")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); restore the file.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}; an object with named values is needed.")
    return values


def _once(file: Path, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CheckpointError(f"{file} has {name!r} twice, so it is not clear which one counts; write it again.")
        seen.add(name)


def _safetensors(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Header of a .safetensors file. The library checks lengths, holes and overlaps; duplicate keys we must find."""
    size = _sized(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _once(path, (name for name, _ in pairs))
        return dict(pairs)

    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, limits.MAX_HEADER_BYTES):
                raise ValueError(f"its header claims {length:,} bytes")
            json.loads(file.read(length), object_pairs_hook=unique)
        handle = safe_open(path, framework="pt")
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{path} is truncated or is no safetensors file ({error}); fetch it again.") from error
    entries = {}
    for key in handle.keys():  # noqa: SIM118 (a handle is not a dictionary)
        part = handle.get_slice(key)
        read = _reader(handle, key)
        entries[key] = Entry(str(path), key, tuple(part.get_shape()), part.get_dtype(), read)
    return entries, handle.metadata() or {}


def _reader(handle: Any, key: str) -> Callable[[], Tensor]:
    return lambda: handle.get_tensor(key)


# What the pickle of a tensor file may name: nothing here runs code or makes anything but dense tensors
PICKLE_NAMES = re.compile(
    r"collections OrderedDict|builtins set|torch (\w+Storage|Size|device|float\d+|bfloat16|int\d+|bool)"
    r"|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter)|torch\.nn\.parameter Parameter"
    r"|torch\.storage UntypedStorage"
)


def _pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a torch file, its tensors still on disk (memory-mapped).

    Checked first: a zip whose entries are stored (torch also opens deflated ones, which may be bombs), once each, and
    a pickle that names nothing but the parts of dense tensors.
    """
    size = _sized(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _once(path, (entry.filename for entry in entries))
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                    raise CheckpointError(
                        f"{path} has the compressed entry {entry.filename!r}; torch.save stores entries as they are: "
                        "save the tensors again with it."
                    )
            if sum(entry.file_size for entry in entries) > size:
                raise CheckpointError(f"{path} has entries that overlap; save the tensors again with torch.save.")
            programs = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
            if len(programs) != 1 or programs[0].file_size > limits.MAX_HEADER_BYTES:
                raise CheckpointError(f"{path} is a zip without a table of tensors; save them with torch.save.")
            for opcode, value, _ in pickletools.genops(archive.read(programs[0])):
                if opcode.name == "GLOBAL" and not PICKLE_NAMES.fullmatch(str(value)):
                    what = "a sparse tensor" if "sparse" in str(value) else f"{value!r}, which could be code"
                    raise CheckpointError(
                        f"{path} asks for {what}; only dense tensors are loaded: save its state_dict() as .safetensors."
                    )
        loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, pickletools and torch raise a dozen kinds on damaged files
        raise CheckpointError(
            f"{path} is truncated, damaged or not written by torch.save of 1.6 or later "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); fetch it again or save it again."
        ) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}; a dictionary of tensors is needed.")
    return loaded


def _entries(path: Path, values: Mapping[Any, Any]) -> dict[str, Entry]:
    """Entries of a dictionary that must hold dense tensors under text keys."""
    entries = {}
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} has {type(value).__name__} under {key!r}; only named tensors are expected.")
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise CheckpointError(
                f"{path} has a sparse, quantised or empty tensor under {key!r}; a dense one is needed."
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{path} has {key!r} spread over less data than its shape needs; save a plain copy.")
        dtype = TORCH_NAMES.get(value.dtype, str(value.dtype))
        entries[key] = Entry(str(path), key, tuple(value.shape), dtype, value.detach)
    return entries


# --- Weights: the entries of a whole model, and what lay beside them -------------------------------------------------


@dataclass
class Weights:
    """All tensors of one model, by the names of its layout (wrapping prefixes removed)."""

    entries: dict[str, Entry]
    layout: Layout
    temperature: Any = None  # what a Meta dictionary says
    self_contained: bool = False  # a Meta dictionary tells its own architecture, whatever lies beside it


def _open(path: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """A weights file -> its entries, and the rest of a Meta dictionary."""
    if path.suffix == ".safetensors":
        return _safetensors(path)[0], {}
    if path.suffix not in PICKLES:
        raise CheckpointError(f"{path} has an unknown ending; known are .safetensors, {', '.join(PICKLES)}.")
    loaded = _pickle(path)
    for encoder in ("target_encoder", "encoder"):  # the target is the average that the paper evaluates
        if isinstance(loaded.get(encoder), Mapping):
            return _entries(path, loaded[encoder]), {"meta": True} | {
                name: loaded[name] for name in ("prototypes", "temperature") if loaded.get(name) is not None
            }
    return _entries(path, loaded), {}


def _shards(index: Path) -> dict[str, Entry]:
    """The entries of all the files that an index names, each where the index says."""
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} has no weight_map; fetch it again.")
    merged: dict[str, Entry] = {}
    total = 0
    for file in sorted({str(place) for place in places.values()}):
        if Path(file).name != file:
            raise CheckpointError(f"{index} points to {file!r}; shards must lie beside it.")
        total += _sized(index.with_name(file), total)
        shard = _open(index.with_name(file))[0]
        wanted = {key for key, place in places.items() if place == file}
        _compare(f"{index.with_name(file)}", set(shard), wanted)
        merged |= shard
    return merged


def _gather(path: Path) -> Weights:
    entries, rest = (_shards(path), {}) if path.suffix == ".json" else _open(path)
    plain: dict[str, Entry] = {}
    for key, entry in entries.items():
        name = key
        for wrapper in ("module.", "vit."):
            name = name.removeprefix(wrapper)
        if name in plain:
            raise CheckpointError(f"{path} has both {plain[name].key!r} and {key!r}; only one of them can count.")
        plain[name] = entry
    layout = _layout(path, plain)
    if layout is META:
        plain = {re.sub(r"^fc\.", "projector.", name): entry for name, entry in plain.items()}
    if "prototypes" in rest:
        plain |= _entries(path, {"prototypes": rest["prototypes"]})
    return Weights(plain, layout, rest.get("temperature"), self_contained="meta" in rest)


def _layout(path: Path, present: Iterable[str]) -> Layout:
    """The layout that the names of the first layer fit best."""
    first = [f"layers.0.{module}.weight" for module in ("attention.qkv", "attention.output", "mlp.fc2")]
    present = set(present)
    hits = [sum(name in present for key in first for name in layout.names(key)) for layout in LAYOUTS]
    if max(hits):
        return LAYOUTS[hits.index(max(hits))]
    needed = ", ".join(f"{layout.names(first[0])[0]} ({layout.name})" for layout in LAYOUTS)
    found = ", ".join(sorted(present)[:3]) or "nothing"
    raise CheckpointError(f"{path} is no ViT-MSN: it holds {found}; one of {needed} is needed.")


def _compare(source: str, present: set[str], wanted: set[str]) -> None:
    faults = [
        f"{what} {', '.join(sorted(names)[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for what, names in (("lacks", wanted - present), ("has the unknown", present - wanted))
        if names
    ]
    if faults:
        raise CheckpointError(f"{source} {' and '.join(faults)}; a checkpoint of exactly this network is needed.")


def _depth(weights: Weights) -> int:
    pattern = re.compile(rf"{re.escape(weights.layout.layers)}\.(\d+)\.")
    return len({match[1] for match in map(pattern.match, weights.entries) if match})


def _infer(path: Path, weights: Weights) -> ViTMSNConfig:
    """The architecture, from shapes alone: heads are 64 wide (as in all published variants), pictures are square."""

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        name = weights.layout.names(key)[0]
        if name not in weights.entries or len(weights.entries[name].shape) != dimensions:
            raise CheckpointError(f"{path} has no {name} of {dimensions} dimensions, so its architecture is not known.")
        return weights.entries[name].shape

    dim, channels, *patch = shape("embeddings.patch_embeddings.projection.weight", 4)
    patches = shape("embeddings.position_embeddings", 3)[1] - 1
    side = math.isqrt(max(patches, 0))
    if dim % 64 or patches < 1 or side**2 != patches:
        raise CheckpointError(
            f"{path} comes without config.json, and a width of {dim} with {patches} positions does not tell the heads "
            "and the picture size; put its config.json beside it."
        )
    labels = (*weights.entries["classifier.weight"].shape, 0)[0] if "classifier.weight" in weights.entries else None
    return ViTMSNConfig(
        hidden_size=dim,
        num_hidden_layers=_depth(weights),
        num_attention_heads=dim // 64,
        intermediate_size=shape("layers.0.mlp.fc1.weight", 2)[0],
        image_size=side * patch[0] if patch[0] == patch[1] else (side * patch[0], side * patch[1]),
        patch_size=patch[0] if patch[0] == patch[1] else (patch[0], patch[1]),
        num_channels=channels,
        qkv_bias=weights.layout.names("layers.0.attention.qkv.bias")[0] in weights.entries,
    ).with_labels(labels)


# --- Loading ---------------------------------------------------------------------------------------------------------


def load(name_or_path: str | Path) -> Checkpoint:
    """Read a hub id (``owner/name``), a model folder or a single weights file.

    A single file takes its ``config.json`` and extras from beside it; without one, its shapes tell the architecture.

    Raises:
        CheckpointError: whatever cannot be loaded faithfully and safely, by name: no such place, no network and no
            cached copy, too large, truncated, code in a pickle, a key that is missing, unknown, double or mis-shaped,
            NaN. Only heads may be absent.
    """
    source, path = _locate(name_or_path)
    weights = _gather(path)
    described = (path.parent / CONFIG).is_file() and not weights.self_contained
    beside = {name: path.parent / name for name in (CONFIG, *EXTRAS) if described and (path.parent / name).is_file()}
    try:
        config = ViTMSNConfig.from_dict(_json(beside[CONFIG])) if described else _infer(path, weights)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if _depth(weights) != config.num_hidden_layers:  # before a config's billion layers are enumerated
        raise CheckpointError(
            f"{source} has {_depth(weights)} layers but its config says {config.num_hidden_layers}; the two must agree."
        )
    entries = weights.entries
    classifier = {name: entries.pop(name) for name in list(entries) if name.startswith("classifier.")}
    head = {name: entries.pop(name) for name in list(entries) if name.startswith("projector.") or name == "prototypes"}
    metadata: dict[str, str] = {}
    if MSN_HEAD in beside:
        head, metadata = _safetensors(beside[MSN_HEAD])
    mean = _safetensors(beside[FEATURE_MEAN])[0] if FEATURE_MEAN in beside else {}

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
        tensors={key: _read([entries[name] for name in weights.layout.names(key)]) for key in backbone},
        classifier={key.removeprefix("classifier."): _read([entry]) for key, entry in classifier.items()},
        msn_head={key: _read([entry]) for key, entry in head.items()},
        temperature=_positive(
            source, metadata, "temperature", 0.1 if weights.temperature is None else weights.temperature
        ),
        sharpening=_positive(source, metadata, "sharpening", 0.25),
        feature_mean=_read([mean["feature_mean"]]) if mean else None,
        processor=_json(beside[PROCESSOR]) if PROCESSOR in beside else None,
        card=_json(beside[CARD]) if CARD in beside else {},
    )


def _check(
    source: str, entries: Mapping[str, Entry], shapes: Mapping[str, tuple[int, ...]], layout: Layout = CANONICAL
) -> None:
    """Every name there, no other, each of its shape and of a type that widens faithfully."""
    _compare(source, set(entries), {name for key in shapes for name in layout.names(key)})
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


def _read(entries: list[Entry]) -> Tensor:
    """Read, widen and check the parts of one tensor, into memory of its own (files may change later)."""
    parts = []
    for entry in entries:
        tensor = entry.read()
        tensor = tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{entry.file} has NaN or infinite values in {entry.key}; use another checkpoint.")
        parts.append(tensor)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


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

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")


EMBEDDED = "vit-msn-tiny-8-64"
EMBEDDED_CLASSIFIER = "vit-msn-tiny-8-64-classifier"  # the same backbone, fine-tuned on the labels


def embedded(name: str = EMBEDDED) -> Path:
    """The folder of a model that comes with the package: beside it in a checkout, inside it in a wheel.

    Raises:
        CheckpointError: it is not installed.
    """
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "assets" / name, package / "assets" / name):
        if (folder / CONFIG).is_file():
            return folder
    raise CheckpointError(
        f"The embedded model {name!r} is not installed; install it again, or give a folder or hub id."
    )


def read_processor(name_or_path: str | Path) -> dict[str, Any] | None:
    """The parsed ``preprocessor_config.json`` of a hub id, a folder or a file's folder; None where there is none."""
    place = _place(name_or_path)
    if not os.path.exists(place):
        place = str(_fetch(str(name_or_path), lambda names: [CONFIG, PROCESSOR])[0])
    file = Path(place if os.path.isdir(place) else os.path.dirname(place)) / PROCESSOR
    return _json(file) if file.is_file() else None


def _place(name_or_path: str | Path) -> str:
    """A path; that of an embedded model for its name, unless something here is called so."""
    place = os.path.expanduser(str(name_or_path))
    if place in (EMBEDDED, EMBEDDED_CLASSIFIER) and not os.path.exists(place):
        return str(embedded(place))
    return place


def _locate(name_or_path: str | Path) -> tuple[str, Path]:
    """(source for people, weights file or index)."""
    source, place = str(name_or_path), _place(name_or_path)
    path = Path(place)
    if os.path.isfile(place):
        return source, path
    if not os.path.isdir(place):
        path, fresh = _fetch(source, lambda names: [CONFIG, *EXTRAS, *_preferred(names)])
        source = source if fresh else f"{source} (cached copy: the hub cannot be reached)"
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{source} has no {CONFIG}; a model folder has one (a lone weights file: give its path).")
    present = [name for name in WEIGHTS if (path / name).is_file()]
    if not present:
        raise CheckpointError(f"{source} has no weights; one of {', '.join(WEIGHTS)} is needed.")
    return source, path / present[0]


def _preferred(names: Iterable[str]) -> list[str]:
    """Of a repository's files, the best kind of weights, with its shards."""
    present = set(names)
    for name in WEIGHTS:
        if name in present:
            shard = re.compile(re.sub(r"\.(\w+)\.index\.json$", r"-\\d+-of-\\d+\\.\1", name))
            return [name, *sorted(filter(shard.fullmatch, present - {name}))]
    return []


def _fetch(name: str, choose: Callable[[Iterable[str]], list[str]]) -> tuple[Path, bool]:
    """(folder of a hub model with the chosen files, True), its size known first; a cached folder and False offline."""
    if not HUB_ID.fullmatch(name) or ".." in name:
        raise CheckpointError(f"{name!r} is no file or folder here and no hub id; a hub id reads 'owner/name'.")
    from huggingface_hub import HfApi, snapshot_download  # slow to import, and most models are folders
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        siblings = HfApi().model_info(name, files_metadata=True, timeout=10).siblings or []
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub shows no model {name!r}; check the name, or log in where it is private."
        ) from error
    except Exception as error:  # each version of the hub's client has its own transport errors
        try:
            return Path(snapshot_download(name, allow_patterns=[CONFIG], local_files_only=True)), False
        except Exception:
            raise CheckpointError(
                f"{name} cannot be fetched ({type(error).__name__}) and is not in the cache; connect to the network, "
                "or give a folder."
            ) from error
    sizes = {file.rfilename: file.size for file in siblings}
    chosen = [file for file in choose(sizes) if file in sizes]
    total = sum(sizes[file] or 0 for file in chosen)
    if total > limits.MAX_CHECKPOINT_BYTES or None in (sizes[file] for file in chosen):
        raise CheckpointError(
            f"{name} is {total:,} bytes or of unknown size; at most {limits.MAX_CHECKPOINT_BYTES:,} are downloaded "
            "(VITMSN_MAX_CHECKPOINT_BYTES raises this)."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=chosen)), True
    except Exception as error:  # as above
        raise CheckpointError(f"{name} could not be downloaded ({error}); try again, or give a folder.") from error


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

    The arguments are the fields of :class:`Checkpoint`. Each file is replaced at once, ``config.json`` last, so nothing
    half-written stays. A head, a mean or a card of an earlier model in the folder is removed; a processor stays.

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
    _compare(what, set(tensors), set(wanted))
    for key, shape in wanted.items():
        if tuple(tensors[key].shape) != shape:
            raise CheckpointError(
                f"{what} has {key} of shape {tuple(tensors[key].shape)}; its config asks for {shape}."
            )


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
