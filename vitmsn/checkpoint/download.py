"""One file of the Hub into its cache, going on where a cut left off.

The Hub's own client starts a cut file again from zero. Here what has come stays beside the cache's blobs as
``NAME.part``; the next call asks for the rest of it. A finished file is moved to its blob, where the client finds it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vitmsn.errors import CheckpointError

CHUNK = 1 << 20
Report = Callable[[int, int], None]
_report: ContextVar[Report | None] = ContextVar("report", default=None)


@contextmanager
def watched(report: Report) -> Iterator[None]:
    """Within the block, and in its thread, ``report(here, total)`` hears how many bytes of a model have come.

    It is first called with what an earlier download left, or 0, and not at all for a model that is in the cache. What
    it raises ends the download; what has come is kept, so that the next one goes on from there.
    """
    before = _report.set(report)
    try:
        yield
    finally:
        _report.reset(before)


class _Reporting(io.BufferedWriter):
    """A file that says after each write how long it is."""

    said: Callable[[int], None]

    def write(self, data: Any, /) -> int:
        count = super().write(data)
        self.said(self.tell())
        return count


def to_blob(id: str, commit: str, name: str, size: int, before: int = 0, total: int = 0) -> None:
    """Download ``name`` of a repository at a commit to its blob in the Hub's cache, with a bar and the time left.

    Args:
        before, total: bytes of the model's files before this one, and of all of them, for who has it ``watched``.

    Raises:
        CheckpointError: what came is not what the Hub announced.
        Exception: the errors of the Hub's client, for a connection that is cut; what has come is kept.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(id, name, revision=commit, endpoint=constants.ENDPOINT)
    about = get_hf_file_metadata(url, endpoint=constants.ENDPOINT)
    if not about.etag or "/" in about.etag or os.sep in about.etag:
        return  # a server that names no content: the client's own download has to do
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=id, repo_type="model") / "blobs"
    blob, part = folder / about.etag, folder / f"{about.etag}.part"
    folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / f"{about.etag}.part.lock"):
        if blob.exists():
            return
        headers: dict[str, Any] = build_hf_headers()
        if urlsplit(about.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a redirect to where the bytes are; the token is for the Hub alone
        if part.exists() and part.stat().st_size > size:
            part.unlink()
        report = _report.get() or (lambda here, total: None)
        with _Reporting(part.open("ab", buffering=0)) as file:
            file.said = lambda here: report(before + here, total or size)
            file.said(file.tell())
            http_get(
                about.location,
                file,
                resume_size=file.tell(),
                headers=headers,
                expected_size=size,
                displayed_filename=name,
            )
        _check(part, about.etag, size, name)
        os.replace(part, blob)
    with suppress(OSError):
        (folder / f"{about.etag}.part.lock").unlink()


def _check(part: Path, etag: str, size: int, name: str) -> None:
    """Large files are named by their SHA-256. What is wrong is deleted, since no rest of it would help."""
    found = part.stat().st_size
    digest = hashlib.sha256()
    if len(etag) == 64:
        with part.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    if found != size or (len(etag) == 64 and digest.hexdigest() != etag):
        part.unlink()
        raise CheckpointError(f"{name} came damaged ({found:,} of {size:,} bytes, or other content); try again.")
