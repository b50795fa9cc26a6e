"""Request bodies, checked: one JSON object in UTF-8, whose files are uploads of this server.

Python's JSON reader accepts more than that, and Gradio passes on what it reads. So bodies are parsed and checked as
values, not searched as bytes.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio.utils import get_upload_folder

from vitmsn import limits

API = "/gradio_api/"
FILE = f"{API}file="
ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*:)?//|\s*(file|ftp|gopher|javascript):", re.IGNORECASE)
MOST_DIGITS = 20  # of a whole number; no index, count or seed is longer


def parse(body: bytes) -> dict[str, Any]:
    """The parsed body; ValueError if it is not one JSON object in UTF-8 with finite numbers.

    Python's own reader would also accept UTF-16, UTF-32 and NaN.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_number, parse_float=_finite, parse_int=_short)
        json.dumps(value, ensure_ascii=False).encode()  # raises for half of a surrogate pair
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:40])


def _short(text: str) -> int:
    return int(text) if len(text) <= MOST_DIGITS else int(_no_number(text[:40]))


def shape(value: dict[str, Any]) -> str:
    """The error in the outer fields of a request for a function, as a sentence; "" when there is none."""
    if "data" in value and not isinstance(value["data"], list):
        return "data must be a list of values."
    for name in ("fn_index", "trigger_id"):
        if value.get(name) is not None and type(value[name]) is not int:
            return f"{name} must be a whole number."
    session = value.get("session_hash")
    # Gradio takes an empty one for none in one place and not in another, so that its job could not answer
    if session is not None and not (isinstance(session, str) and 0 < len(session) <= limits.SESSION_LENGTH):
        return f"session_hash must be a text of 1 to {limits.SESSION_LENGTH} characters."
    return ""


def is_uploaded(entry: dict[str, Any]) -> bool:
    """Whether an object is not a file, or is one in this server's upload folder; Gradio gets nothing else."""
    path, url, meta = entry.get("path"), entry.get("url"), entry.get("meta")
    if "path" not in entry and not (isinstance(meta, dict) and "_type" in meta):
        return not (isinstance(url, str) and url.strip().lower().startswith(("data:", "http:", "https:", "//")))
    if path is not None and not is_upload(path):
        return False
    return url is None or (isinstance(url, str) and FILE in url and is_upload(unquote(url.partition(FILE)[2])))


def is_upload(path: Any) -> bool:
    """Whether a path is one in this server's upload folder."""
    try:
        return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
    except (TypeError, ValueError, OSError):
        return False


def is_here(value: Any) -> bool:
    """Whether no text in a value, at any depth, is an address of somewhere else (http:, file:, ...).

    For what agents send: their files come as plain texts.
    """
    return not any(ADDRESS.match(text) and FILE not in text for text in texts(value))


def named(value: Any) -> set[str]:
    """The uploads that a value names at any depth, as paths below this server's upload folder.

    That folder's name is random, so whatever comes after it names an upload, however the path begins.
    """
    folder = f"{Path(get_upload_folder()).name}/"
    found = (unquote(text) if FILE in text else text for text in texts(value))
    return {os.path.normpath(text.rpartition(folder)[2]) for text in found if folder in text}


def texts(value: Any) -> Iterator[str]:
    """All texts in a value, at any depth; names of fields are none."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        else:
            waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects in a value, at any depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
