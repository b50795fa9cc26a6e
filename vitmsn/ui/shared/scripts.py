"""JavaScript for the page: files next to the Python that uses them, read once.

There are two kinds. A script runs when its component is made, with `element` and `trigger` available. A function file
holds one arrow function, which an event runs. Plain functions are in files of their own, tested with node.
"""

from __future__ import annotations

import json
from pathlib import Path


def script(beside: str, *names: str) -> str:
    """The files `names` in the folder of `beside` (a module's `__file__`), in this order, as one script."""
    return "\n".join(Path(beside).with_name(name).read_text(encoding="utf-8") for name in names)


def run(function: str, *given: str) -> str:
    """JavaScript for an event: the arrow function `function`, called with `given`, then the event's arguments."""
    return f"(...values) => ({function})({', '.join([*map(json.dumps, given), '...values'])})"


# once on the page, for the pictures of all tabs
OF_PICTURES = script(
    __file__, "camera_dialog.js", "upload.js", "upload_progress.js", "own_picture.js", "button_names.js"
)
