"""Finds the browser: the system's Chromium first, else the one that Playwright installed.

As a script it prints the path, or fails when there is none that starts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def starts(path: str) -> bool:
    """Being on the PATH is not enough: Ubuntu's `chromium-browser` may wrap a snap that is not installed."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find() -> str | None:
    """The path of a Chromium that starts, or None."""
    for name in NAMES:
        path = shutil.which(name)
        if path and starts(path):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() and starts(path) else None


if __name__ == "__main__":
    where = find()
    print(where or "no Chromium that starts")
    sys.exit(where is None)
