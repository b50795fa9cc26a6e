"""JavaScript for the page: files beside the Python that uses them, read once.

There are two kinds. A script runs when its component is made, with `element` and `trigger` at hand. A function file
holds one arrow function, which an event runs. What computes stands in files of its own, which node tests.
"""

from __future__ import annotations

import json
from pathlib import Path


def script(beside: str, *names: str) -> str:
    """The files `names` in the folder of `beside` (a module's `__file__`), in this order, as one script."""
    return "\n".join(Path(beside).with_name(name).read_text(encoding="utf-8") for name in names)


def run(function: str, *given: str) -> str:
    """JavaScript for an event: the arrow function `function`, with `given` before what the event itself hands over."""
    return f"(...values) => ({function})({', '.join([*map(json.dumps, given), '...values'])})"
