"""Untrusted weight files -> tensors, without running code in them.

Names, shapes and types come first (:class:`StoredTensor`), the data when asked for. Sizes are checked before anything
is read.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitmsn import limits
from vitmsn.errors import CheckpointError

PICKLES = (".bin", ".pt", ".pth", ".tar", ".ckpt")


@dataclass(frozen=True)
class StoredTensor:
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


def sized(path: Path, before: int = 0) -> int:
    """Size of a file in bytes; checks that it exists and that the total with the files before it is within bounds."""
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


def read_json(path: Path) -> dict[str, Any]:
    if sized(path) > limits.MAX_HEADER_BYTES:
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


def read_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Header of a .safetensors file. The library checks lengths, holes and overlaps; we check duplicate keys."""
    size = sized(path)

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
        entries[key] = StoredTensor(str(path), key, tuple(part.get_shape()), part.get_dtype(), read)
    return entries, handle.metadata() or {}


def _reader(handle: Any, key: str) -> Callable[[], Tensor]:
    return lambda: handle.get_tensor(key)


# What the pickle of a tensor file may name: nothing here runs code or makes anything but dense tensors
PICKLE_NAMES = re.compile(
    r"collections OrderedDict|builtins set|torch (\w+Storage|Size|device|float\d+|bfloat16|int\d+|bool)"
    r"|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter)|torch\.nn\.parameter Parameter"
    r"|torch\.storage UntypedStorage"
)


SETTINGS = "argparse Namespace"  # which training scripts save beside the tensors
LIGHTNING = ".ckpt"


class Inert:
    """Stand-in for anything else that a pickle names: it accepts every operation of a pickle, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return Inert()

    __setstate__ = __setitem__ = append = extend = add = update = __init__


class TensorsOnly(pickle.Unpickler):
    """Unpickler of tensors and plain containers; everything else, code above all, becomes an inert stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        if not PICKLE_NAMES.fullmatch(f"{module} {name}") or name.endswith("Storage"):  # torch.load knows its storages
            return Inert
        found = super().find_class(module, name)
        # a pickle can set attributes of what it names, so it gets a function of its own
        return found if module in ("collections", "builtins", "torch") else lambda *given: found(*given)


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a torch file, its tensors still on disk (memory-mapped).

    Checked first: a zip whose entries are stored (torch also opens deflated ones, which may be bombs), once each, and
    a pickle that names nothing but the parts of dense tensors. Lightning saves a whole training run: other names in it
    are not refused, and not loaded either.
    """
    size = sized(path)
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
            if any(entry.filename.rpartition("/")[2] == "constants.pkl" for entry in entries):
                raise CheckpointError(f"{path} is a TorchScript program; save the state_dict() of its network instead.")
            programs = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
            if len(programs) != 1 or programs[0].file_size > limits.MAX_HEADER_BYTES:
                raise CheckpointError(f"{path} is a zip without a table of tensors; save them with torch.save.")
            opcodes = pickletools.genops(archive.read(programs[0]))
            named = [str(value) for opcode, value, _ in opcodes if opcode.name == "GLOBAL"]
            foreign = [name for name in named if not PICKLE_NAMES.fullmatch(name)]
            strange = [name for name in foreign if name != SETTINGS]
            if strange and path.suffix != LIGHTNING:
                what = "a sparse tensor" if "sparse" in strange[0] else f"{strange[0]!r}, which could be code"
                raise CheckpointError(
                    f"{path} asks for {what}; only dense tensors are loaded: save its state_dict() as .safetensors."
                )
        if foreign or path.suffix == LIGHTNING:
            only = SimpleNamespace(__name__="tensors_only", Unpickler=TensorsOnly)
            loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=False, pickle_module=only)
        else:
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


def tensor_entries(path: Path, values: Mapping[Any, Any]) -> dict[str, StoredTensor]:
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
        entries[key] = StoredTensor(str(path), key, tuple(value.shape), dtype, value.detach)
    return entries


CONTAINERS = ("state_dict", "model", "teacher")  # where training scripts put a network's tensors


def open_weights(path: Path) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """A weights file -> its entries, and the rest of a Meta dictionary."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0], {}
    if path.suffix not in PICKLES:
        raise CheckpointError(f"{path} has an unknown ending; known are .safetensors, {', '.join(PICKLES)}.")
    loaded = read_pickle(path)
    for encoder in ("target_encoder", "encoder"):  # the target is the average that the paper evaluates
        if isinstance(loaded.get(encoder), Mapping):
            return tensor_entries(path, loaded[encoder]), {"meta": True} | {
                name: loaded[name] for name in ("prototypes", "temperature") if loaded.get(name) is not None
            }
    if len(found := [name for name in CONTAINERS if isinstance(loaded.get(name), Mapping)]) > 1:
        raise CheckpointError(
            f"{path} has weights under both {found[0]!r} and {found[1]!r}; save the ones you mean in their own file."
        )
    return tensor_entries(path, loaded[found[0]] if found else loaded), {}


def open_shards(index: Path) -> dict[str, StoredTensor]:
    """The entries of all the files that an index names, each where the index says."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} has no weight_map; fetch it again.")
    merged: dict[str, StoredTensor] = {}
    total = 0
    for file in sorted({str(place) for place in places.values()}):
        if Path(file).name != file:
            raise CheckpointError(f"{index} points to {file!r}; shards must lie beside it.")
        total += sized(index.with_name(file), total)
        shard = open_weights(index.with_name(file))[0]
        wanted = {key for key, place in places.items() if place == file}
        compare_names(f"{index.with_name(file)}", set(shard), wanted)
        merged |= shard
    return merged


def compare_names(source: str, present: set[str], wanted: set[str]) -> None:
    faults = [
        f"{what} {', '.join(sorted(names)[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for what, names in (("lacks", wanted - present), ("has the unknown", present - wanted))
        if names
    ]
    if faults:
        raise CheckpointError(f"{source} {' and '.join(faults)}; a checkpoint of exactly this network is needed.")


def read_tensor(entries: list[StoredTensor]) -> Tensor:
    """Read, convert to float32 and check the parts of one tensor, into its own memory (files may change later)."""
    parts = []
    for entry in entries:
        tensor = entry.read()
        tensor = tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{entry.file} has NaN or infinite values in {entry.key}; use another checkpoint.")
        parts.append(tensor)
    return parts[0] if len(parts) == 1 else torch.cat(parts)
