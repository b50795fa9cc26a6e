"""Who may know whom: the table, and every file's imports read against it."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vitmsn"

BELOW_TRAINING = {"config", "checkpoint", "model", "image", "masking", "data", "encoder", "fewshot"}
OWN_TRAINING = {"training.loss", "training.schedule", "training.log_figure", "training.teacher"}  # need less
TRAINING = {f"training.{path.stem}" for path in (PACKAGE / "training").glob("[!_]*.py")}
LIBRARY = {
    *("errors", "limits", "config", "checkpoint", "outputs", "model", "image", "data", "masking", "encoder"),
    *("attention", "relevance", "robustness", "look"),
    *("names", "archive", "fewshot", "gallery", "bundle", "projection", "lowshot", "export", "parquet", "draw"),
}
CLI = {f"cli.{path.stem}" for path in (PACKAGE / "cli").glob("[!_]*.py")}
TABS = ("classify", "attention", "masking", "fewshot", "explore", "learn")
SHARED = {f"ui.shared.{path.stem}" for path in (PACKAGE / "ui" / "shared").glob("[!_]*.py")}


def of_tabs() -> dict[str, set[str]]:
    """A tab knows the library, `app`, `visits`, `models`, what the tabs share and its own folder; never another tab."""
    rows: dict[str, set[str]] = {}
    for tab in TABS:
        own = {f"ui.{tab}.{path.stem}" for path in (PACKAGE / "ui" / tab).glob("[!_]*.py")}
        rows[f"ui.{tab}"] = set()
        rows |= dict.fromkeys(own, LIBRARY | SHARED | own | {"ui.models", "ui.visits", "ui.app"})
    return rows


# module -> what it may import from the package. Complete: what is not listed may not be imported. A package stands for
# its files; these have a row of their own.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "config": {"errors"},
    "names": {"errors", "limits"},
    "masking": {"errors"},
    "fewshot.geometry": {"errors"},
    "fewshot.classifiers": {"errors", "fewshot.geometry"},
    "fewshot.evaluation": {"errors", "fewshot.geometry", "fewshot.classifiers"},
    "fewshot.rejector": {"errors", "fewshot.geometry"},
    "fewshot.lesson": {
        *("errors", "fewshot.geometry", "fewshot.classifiers", "fewshot.evaluation", "fewshot.rejector"),
    },
    "fewshot": {
        *("fewshot.geometry", "fewshot.classifiers", "fewshot.evaluation", "fewshot.rejector", "fewshot.lesson"),
    },
    "projection": {"errors"},
    "draw": {"errors"},
    "training.loss": {"errors"},
    "training.schedule": {"errors"},
    "checkpoint.safe": {"errors", "limits"},
    "checkpoint.layouts": {"errors", "config", "checkpoint.safe"},
    "checkpoint.hub": {"errors", "limits"},
    "checkpoint": {"errors", "config", "checkpoint.safe", "checkpoint.layouts", "checkpoint.hub"},
    "outputs": set(),
    "model": {"errors", "config", "checkpoint", "outputs"},
    "image.decode": {"errors", "limits"},
    "image.processor": {"errors", "checkpoint", "image.decode"},
    "image.batches": {"errors", "limits", "image.decode"},
    "image": {"image.decode", "image.processor", "image.batches"},
    "data": {"errors", "limits", "image", "names"},
    "attention": {"errors", "model", "outputs"},
    "relevance": {"errors", "attention", "model", "outputs"},
    "robustness.prediction": {"errors", "encoder"},
    "robustness.masked_views": {"image", "encoder", "robustness.prediction"},
    "robustness.deciding_patches": {
        *("errors", "image", "encoder", "attention", "robustness.prediction", "robustness.masked_views"),
    },
    "robustness": {"robustness.prediction", "robustness.masked_views", "robustness.deciding_patches"},
    "look": {"errors", "image", "model", "outputs", "encoder", "attention", "relevance", "robustness"},
    "encoder": {"errors", "limits", "config", "checkpoint", "model", "outputs", "image", "masking"},
    "archive": {"errors", "limits", "names"},
    "gallery": {"errors", "limits", "archive", "image", "encoder", "names"},
    "bundle": {"errors", "limits", "archive", "image", "encoder", "gallery", "names"},
    "lowshot": {"errors", "image", "data", "encoder"},
    "parquet": {"errors", "image", "encoder"},
    "export": {"errors", "checkpoint", "model", "encoder", "fewshot", "gallery"},
    "training": TRAINING,
    **dict.fromkeys(
        TRAINING - {"training.loss", "training.schedule", "training.log_figure", "training.teacher"},
        {"errors"} | BELOW_TRAINING | TRAINING,
    ),
    "training.log_figure": {"errors", "draw"},
    "training.teacher": {"errors", "encoder", "training.answers"},
    "training.live": {"errors", "lowshot"} | TRAINING,  # kNN while it learns
    "training.pretrain": {"checkpoint", "data", "encoder", "lowshot"} | TRAINING,  # kNN while it learns
    "training.head": {"checkpoint", "data", "encoder", "lowshot"} | TRAINING,
    "ui": set(),
    "ui.models": {"errors", "limits", "checkpoint", "encoder"},
    "ui.visits": {"errors", "limits", "image", "encoder", "ui.models"},
    "ui.shared": set(),
    **dict.fromkeys(SHARED, LIBRARY | SHARED | {"ui.models", "ui.visits"}),
    "ui.app": {"errors", "ui.models", "ui.visits"} | SHARED,
    **of_tabs(),
    "ui.page": {"errors", "limits", "encoder", "ui.models", "ui.visits", "ui.app"}
    | SHARED
    | {f"ui.{tab}.tab" for tab in TABS},
    "ui.guard": {"limits"},
    "ui.server": {"errors", "limits", "ui.guard", "ui.models", "ui.page"},
    # ui only inside `serve`, see below
    **dict.fromkeys({"cli"} | CLI, LIBRARY | TRAINING | CLI | {"training", "ui.server"}),
    "__main__": {"cli"},
    "__init__": LIBRARY,
    "app": {"ui.server"},
}

# third-party package -> who may import it; what is not here may be imported by every module.
ONLY_IN: dict[str, str] = {
    "gradio": r"ui(\..+)?|app",
    "gradio_client": r"",
    "huggingface_hub": r"checkpoint\.hub",
    "safetensors": r"checkpoint(\..+)?|bundle",
    "umap": r"projection",
    "chardet": r"names",
    "pyarrow": r"parquet",
    "datasets": r"data",
    "accelerate": r"training(\..+)?|cli(\..+)?",
    "transformers": r"training\.teacher",  # when a classifier of that package is the teacher
    "torchvision": r"",
    "matplotlib.pyplot": r"",  # keeps figures alive between visitors
}
# never at import time: they take long, or need not be there
WHEN_USED = {"umap", "chardet", "transformers"}

# A file tells one story in about 300 lines; longer ones say here why they are one story still.
LONG_FROM = 450
LONG: dict[str, str] = {
    "encoder": "the one way from pictures to embeddings, tokens and classes, with its lock and its cache",
    "lowshot": "features, kNN, linear probe and low-shot protocol, on the rows and the solver that they share",
    "model": "backbone, classifier and head on one forward path, with the reading and writing of each",
}


class Import(NamedTuple):
    line: int
    target: str  # dotted, absolute
    inside: str | None  # outermost function it stands in; None: import time


def module_name(path: Path) -> str:
    if path == ROOT / "app.py":
        return "app"
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


FILES = {module_name(path): path for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "app.py"] if path.exists()}
MODULES = pytest.mark.parametrize("module", sorted(FILES))


def imports(path: Path) -> list[Import]:
    """Every import of a file: statements, and calls of import_module and __import__ with a plain name."""
    package = ["vitmsn", *path.relative_to(PACKAGE).parent.parts] if path.is_relative_to(PACKAGE) else []
    found: list[Import] = []

    def visit(node: ast.AST, inside: str | None) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(node.lineno, alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            found.extend(Import(node.lineno, ".".join([*base, alias.name]), inside) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                target = node.args[0].value
                target = ".".join(["vitmsn", target.lstrip(".")]) if target.startswith(".") else target
                found.append(Import(node.lineno, target, inside))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and inside is None:
            inside = getattr(node, "name", "lambda")
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), None)
    return found


def inner(target: str) -> str | None:
    """'vitmsn.training.loss.msn_loss' -> 'training.loss'; None for what is not the package's."""
    parts = target.split(".")
    if parts[0] != "vitmsn":
        return None
    for end in range(len(parts), 1, -1):
        name = ".".join(parts[1:end])
        if name in ALLOWED:
            return name
    return "__init__"


@MODULES
def test_only_listed_modules_are_imported(module: str) -> None:
    assert module in ALLOWED, f"{module} is not in the table of who may know whom"
    wrong = [
        f"{FILES[module].name}:{found.line} imports {found.target}"
        for found in imports(FILES[module])
        if (name := inner(found.target)) is not None
        and name != module
        and not ALLOWED[module] & {name, name.partition(".")[0]}
    ]
    assert not wrong


@MODULES
def test_third_parties_stay_in_their_rooms(module: str) -> None:
    for found in imports(FILES[module]):
        for package, rooms in ONLY_IN.items():
            if (found.target + ".").startswith(package + "."):
                assert re.fullmatch(rooms or r"(?!)", module), f"{module}:{found.line} imports {found.target}"
                assert package not in WHEN_USED or found.inside, (
                    f"{module}:{found.line} imports {package} at import time"
                )


def test_the_command_line_knows_the_app_only_inside_serve() -> None:
    where = [
        (module, found.inside)
        for module in sorted({"cli"} | CLI)
        for found in imports(FILES[module])
        if (inner(found.target) or "").startswith("ui")
    ]
    assert where == [("cli.serve", "serve")]


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert not [name for name in FILES if re.search(r"(^|\.)(utils?|helpers?|common|misc)$", name)]


@MODULES
def test_a_file_tells_one_story(module: str) -> None:
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= LONG_FROM or LONG.get(module), f"{module} has {lines} lines"


def test_the_list_of_long_files_is_current() -> None:
    for module in LONG:
        lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
        assert lines > 0.8 * LONG_FROM, f"{module} is short again: take it off the list"


def test_public_names_are_sorted_and_there() -> None:
    package = importlib.import_module("vitmsn")
    names = getattr(package, "__all__", [])
    assert names == sorted(set(names))
    for name in names:
        assert getattr(package, name) is not None


def test_importing_the_library_imports_nothing_heavy() -> None:
    heavy = ["accelerate", "datasets", "gradio", "matplotlib", "transformers", "umap"]
    code = f"import sys, vitmsn; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_is_drawn_in_the_tree_of_its_header() -> None:
    errors = importlib.import_module("vitmsn.errors")
    parents = {
        name: base.__name__
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and thing.__module__ == errors.__name__
        for base in [thing.__mro__[1]]
    }
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"((?:│   |    )*)(├── |└── )?(\w+Error)\b", line)
        if not match:
            continue
        depth = len(match[1]) // 4 + bool(match[2])
        above[depth:] = [match[3]]
        drawn[match[3]] = above[depth - 1] if depth else "ValueError"
    assert drawn == parents


def test_tests_mirror_the_package() -> None:
    # A file of tests is about one module, but for these, which are about the whole.
    whole = {"test_embedded", "test_endpoints", "test_javascript", "test_layering", "test_parity", "test_project"}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        parts = path.relative_to(ROOT / "tests").with_suffix("").parts
        if parts[0] == "browser" or parts[-1] in whole:
            continue
        *folders, name = [*parts[:-1], parts[-1].removeprefix("test_")]
        own = ".".join(folders) if [name] == folders[-1:] else None  # tests/cli/test_cli.py is about the package
        module = ".".join([*folders, name])
        assert module in FILES or own in FILES, f"{path.relative_to(ROOT)} mirrors no module"


def test_no_test_imports_another() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for found in imports(path):
            parts = found.target.split(".")
            borrowed = parts[0] == "tests" and [name for name in parts if name.startswith(("test_", "conftest"))]
            assert not borrowed, f"{path.relative_to(ROOT)}:{found.line} imports {found.target}; use tests/support/"
