"""Import Gradio without rewriting its type stubs.

Whenever it is imported, Gradio parses the source of each of its components and the .pyi file beside it, which editors
read, and writes that anew where it differs. It takes a second of every start, and may change an installed package.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

MODULE, FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module as Python would, and empties its function once it is there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_without(module: ModuleType) -> None:
            run(module)
            if hasattr(module, FUNCTION):  # a later Gradio may do otherwise
                setattr(module, FUNCTION, lambda *_: None)

        spec.loader.exec_module = run_without  # type: ignore[method-assign]
        return spec


def skip() -> None:
    """From now on; without effect where Gradio is imported already."""
    if MODULE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
