"""Packages that are installed only by those who need them, by the extra that brings each.

``pip install vitmsn`` is light: models, pictures, embeddings, attention, masking and few-shot. The rest is in extras,
and what is missing is named together with the command that installs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from vitmsn.errors import MissingPackageError

# package as it is imported -> the extra that installs it
EXTRAS = {
    "accelerate": "train",
    "datasets": "train",
    "fsspec": "train",
    "pyarrow": "train",
    "gradio": "app",
    "markupsafe": "app",
    "matplotlib": "app",
    "psutil": "app",
    "segno": "app",
    "skimage": "app",
    "umap": "app",
    "transformers": "distil",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "mcp": "mcp",
    "shtab": "completion",
}


@contextmanager
def named() -> Iterator[None]:
    """Around an import: if a package of an extra is missing, the error says how to install it.

    Example:
        >>> with named():
        ...     import matplotlib_of_another_planet  # not one of EXTRAS: the error stays as it is
        Traceback (most recent call last):
        ModuleNotFoundError: No module named 'matplotlib_of_another_planet'

    Raises:
        MissingPackageError: one of EXTRAS is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise missing(package) from error


def missing(package: str) -> MissingPackageError:
    """The error that names one of EXTRAS with the command that installs it."""
    return MissingPackageError(
        f"This needs {package}, which is not installed; install it with: pip install 'vitmsn[{EXTRAS[package]}]'"
    )


def installed(package: str) -> bool:
    """Whether a package could be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # hidden by whoever set sys.modules[package] to None, or by a finder
        return False
