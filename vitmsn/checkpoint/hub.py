"""Models of the Hub: size checked, downloaded once, read from the cache when offline, and sent there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vitmsn import limits
from vitmsn.checkpoint.download import to_blob
from vitmsn.errors import CheckpointError, ExportError

CONFIG, PROCESSOR, CARD = "config.json", "preprocessor_config.json", "vitmsn.json"
MSN_HEAD, FEATURE_MEAN = "msn_head.safetensors", "feature_mean.safetensors"
EXTRAS = (PROCESSOR, CARD, MSN_HEAD, FEATURE_MEAN)
# in order of preference; an index names the shards
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


HUB_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@([A-Za-z0-9][A-Za-z0-9_./-]*))?")


def preferred(names: Iterable[str]) -> list[str]:
    """Of a repository's files, the best kind of weights, with its shards."""
    present = set(names)
    for name in WEIGHTS:
        if name in present:
            shard = re.compile(re.sub(r"\.(\w+)\.index\.json$", r"-\\d+-of-\\d+\\.\1", name))
            return [name, *sorted(filter(shard.fullmatch, present - {name}))]
    return []


def fetch(name: str, choose: Callable[[Iterable[str]], list[str]]) -> tuple[Path, bool]:
    """(folder of a hub model with the chosen files, True), its size checked first; offline (cached folder, False).

    name: ``owner/name``, or ``owner/name@revision`` for a branch, a tag or a commit.
    """
    match = HUB_ID.fullmatch(name)
    if not match or ".." in name:
        raise CheckpointError(f"{name!r} is no file or folder here and no hub id; a hub id reads 'owner/name'.")
    id, revision = match.groups()
    from huggingface_hub import HfApi, snapshot_download  # slow to import, and most models are folders
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = HfApi().model_info(id, revision=revision, files_metadata=True, timeout=10)
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub shows no model {name!r}; check the name, or log in where it is private."
        ) from error
    except Exception as error:  # each version of the hub's client has its own transport errors
        try:
            return Path(snapshot_download(id, revision=revision, allow_patterns=[CONFIG], local_files_only=True)), False
        except Exception:
            raise CheckpointError(
                f"{name} cannot be fetched ({type(error).__name__}) and is not in the cache; connect to the network, "
                "or give a folder."
            ) from error
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    chosen = [file for file in choose(sizes) if file in sizes]
    total = sum(sizes[file] or 0 for file in chosen)
    if total > limits.MAX_CHECKPOINT_BYTES or None in (sizes[file] for file in chosen):
        raise CheckpointError(
            f"{name} is {total:,} bytes or of unknown size; at most {limits.MAX_CHECKPOINT_BYTES:,} are downloaded "
            "(VITMSN_MAX_CHECKPOINT_BYTES raises this)."
        )
    commit, before = info.sha or revision, 0
    try:
        for file in chosen:
            size = sizes[file] or 0
            if commit and size >= limits.RESUMED_BYTES:
                to_blob(id, commit, file, size, before, total)
            before += size
        return Path(snapshot_download(id, revision=revision, allow_patterns=chosen)), True
    except CheckpointError:
        raise
    except Exception as error:  # as above
        raise CheckpointError(
            f"{name} could not be downloaded ({_reason(error)}); try again, which goes on where it stopped, or give a "
            "folder."
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, without a path of this machine."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) and error.filename else str(error)


def send(files: Mapping[str, Path | bytes], name: str, *, private: bool, message: str) -> str:
    """Commit files by name to the model repository ``owner/name``, made where it is not there; returns its address.

    Raises:
        ExportError: no such owner, no permission, no network, or a public repository where a private one was asked for.
    """
    if not HUB_ID.fullmatch(name) or "@" in name or ".." in name:
        raise ExportError(f"{name!r} is no name on the Hub; give OWNER/NAME.")
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    try:
        address = str(api.create_repo(name, private=private, exist_ok=True))
        if private and not api.model_info(name).private:
            raise ExportError(
                f"{name} is there already and public; say that it may be (--public), or choose another name."
            )
        added = [CommitOperationAdd(place, content) for place, content in files.items()]
        api.create_commit(name, added, commit_message=message)
    except ExportError:
        raise
    except Exception as error:  # as above
        raise ExportError(
            f"{name} could not be sent ({_reason(error)}); log in with `hf auth login`, check the owner's name, or try "
            "again."
        ) from error
    return address
