"""The texts that the page can show, read from its code: what the catalogues of its languages must hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vitmsn.ui.locale import texts_of

UI = Path(__file__).resolve().parents[2] / "vitmsn" / "ui"
MARKS = ("tr", "later", "tr_count", "tr_html")


def in_python(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every marked text of a file; those of `tr_count` as "one|several"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in MARKS:
            continue
        given = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if node.func.id == "tr_count" and len(given) == 2:
            yield node.lineno, "|".join(given)
        elif node.func.id == "tr_html" and given:
            yield from ((node.lineno, text) for text in texts_of(given[0]))
        elif node.func.id in ("tr", "later") and given:
            yield node.lineno, given[0]


def in_script(path: Path) -> Iterator[tuple[int, str]]:
    """The same of a script."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.lstrip().startswith("//"):
            yield from ((number, text) for _, text in re.findall(r"""\btr\((["'])(.*?)\1""", line))


def of_page() -> dict[str, list[str]]:
    """Every text of the page with the places where it stands."""
    found: dict[str, list[str]] = {}
    for path in sorted(UI.rglob("*.py")):
        if path != UI / "locale" / "__init__.py":
            for line, text in in_python(path):
                found.setdefault(text, []).append(f"{path.relative_to(UI)}:{line}")
    return found


def of_scripts() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(UI.rglob("*.js")):
        for line, text in in_script(path):
            found.setdefault(text, []).append(f"{path.relative_to(UI)}:{line}")
    return found


def fields(text: str) -> list[str]:
    """The fields of a template, in no order: those without a name as "{}" and its form."""
    return sorted(set(re.findall(r"\{[^{}]*\}", text)))
