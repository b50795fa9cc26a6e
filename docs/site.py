"""What mkdocs asks for while it builds the site: the screenshots, which lie with the README's other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SCREENSHOTS = Path(__file__).parents[1] / "assets" / "screenshots"


def on_files(files: Files, *, config: Any) -> Files:
    for picture in sorted(SCREENSHOTS.glob("*.png")):
        files.append(File.generated(config, f"screenshots/{picture.name}", abs_src_path=str(picture)))
    return files
