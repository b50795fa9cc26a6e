"""Allowed imports: a table, checked against every file."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vitmsn"

BOTTOM = {"errors", "extras", "files", "limits"}  # which every module may know
WORDS = {"ui.locale"}  # which every module of the page may know
LIBRARY = {
    *("errors", "limits", "outputs", "classification", "config", "checkpoint", "layers", "model", "msn_head", "image"),
    *("data", "masking", "packed", "compiled_forward", "openvino_forward", "backend"),
    *("scikit", "pickled", "devices", "timing", "runner", "encodings", "heads", "encoder"),
    *("attention", "relevance", "robustness", "look", "names", "archive", "fewshot", "gallery", "bundle"),
    *("projection", "lowshot", "bulk", "export", "onnx_export", "parquet", "publish", "draw", "nearest"),
}
CLI = {f"cli.{path.stem}" for path in (PACKAGE / "cli").glob("[!_]*.py")}
TABS = ("classify", "attention", "masking", "fewshot", "explore", "learn")
TAB_PARTS = {"ui.models", "ui.visits", "ui.app", "ui.fair_queue", "ui.page_scripts"}
SHARED = {f"ui.shared.{path.stem}" for path in (PACKAGE / "ui" / "shared").glob("[!_]*.py")}


def of_tabs() -> dict[str, set[str]]:
    """A tab knows the library, `app`, `visits`, `models`, what the tabs share and its own folder; never another tab.
    Learn also knows the loss and the shapes: it shows what the trainer computes, and from what."""
    rows: dict[str, set[str]] = {}
    for tab in TABS:
        own = {f"ui.{tab}.{path.stem}" for path in (PACKAGE / "ui" / tab).glob("[!_]*.py")}
        rows[f"ui.{tab}"] = set()
        rows |= dict.fromkeys(own, LIBRARY | SHARED | own | TAB_PARTS)
    rows["ui.learn.walkthrough"] = rows["ui.learn.walkthrough"] | {"training.loss"}
    rows["ui.learn.training_film"] = rows["ui.learn.training_film"] | {"training.shapes"}
    return rows


# module -> what it may import from the package, beside BOTTOM. Complete and current: what is not listed may not be
# imported, and what is not imported may not be listed. A package stands for its files; these have a row of their own.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "extras": {"errors"},
    "limits": {"errors"},
    "outputs": set(),
    "classification": set(),
    "config": set(),
    "names": set(),
    "masking": set(),
    "projection": set(),
    "draw": set(),
    "checkpoint.safe": set(),
    "checkpoint.layouts": {"config", "checkpoint.safe"},
    "checkpoint.download": set(),
    "checkpoint.hub": {"checkpoint.download"},
    "checkpoint": {"config", "checkpoint.safe", "checkpoint.layouts", "checkpoint.download", "checkpoint.hub"},
    "layers": {"config"},
    "model": {"config", "checkpoint", "layers", "outputs"},
    "msn_head": {"layers"},
    "packed": {"config", "layers", "model", "outputs"},
    "openvino_forward": {"config", "layers", "model", "outputs", "packed"},
    "compiled_forward": {"devices", "layers", "model", "outputs", "packed"},
    "backend": {"compiled_forward", "devices", "model", "openvino_forward", "outputs", "packed"},
    "image.formats": set(),
    "image.quiet": set(),
    "image.pixels": {"image.formats", "image.quiet"},
    "image.jpeg": set(),
    "image.heif": set(),
    "image.values": set(),
    "image.tiff": {"image.values"},
    "image.decode": {
        *("image.formats", "image.jpeg", "image.heif", "image.pixels", "image.quiet", "image.values", "image.tiff"),
    },
    "image.processor": {"checkpoint", "image.decode"},
    "image.batches": {"image.decode"},
    "image.view_cache": {"image.decode", "image.processor"},
    "image": {"image.formats", "image.decode", "image.pixels", "image.processor", "image.batches", "image.view_cache"},
    "archive": {"names"},
    "data": {"image", "names"},
    "scikit": set(),
    "devices": set(),
    "timing": set(),
    "pickled": set(),
    "runner": {"backend", "config", "devices", "model", "outputs", "timing"},
    "encodings": {"image", "outputs", "packed", "runner"},
    "heads": {"checkpoint", "classification", "config", "msn_head", "runner"},
    "encoder": {
        *("classification", "config", "checkpoint", "devices", "encodings", "heads", "image", "masking"),
        *("model", "msn_head", "outputs", "pickled", "runner", "scikit", "timing"),
    },
    "attention": {"layers", "model", "outputs", "packed"},
    "relevance": {"attention", "layers", "model", "msn_head", "outputs"},
    "robustness.prediction": {"encoder"},
    "robustness.masked_views": {"classification", "image", "encoder", "masking", "robustness.prediction"},
    "robustness.deciding_patches": {
        *("image", "encoder", "encodings", "attention", "robustness.prediction"),
    },
    "robustness": {"robustness.prediction", "robustness.masked_views", "robustness.deciding_patches"},
    "nearest": {"image", "encoder", "encodings"},
    "look": {"image", "outputs", "encoder", "masking", "attention", "relevance", "robustness"},
    "fewshot.geometry": set(),
    "fewshot.copies": {"fewshot.geometry"},
    "fewshot.classifiers": {"fewshot.geometry"},
    "fewshot.evaluation": {"fewshot.geometry", "fewshot.classifiers"},
    "fewshot.rejector": {"fewshot.geometry", "fewshot.copies"},
    "fewshot.lesson": {
        "fewshot.geometry",
        "fewshot.copies",
        "fewshot.classifiers",
        "fewshot.evaluation",
        "fewshot.rejector",
    },
    "fewshot": {
        *(
            "fewshot.geometry",
            "fewshot.copies",
            "fewshot.classifiers",
            "fewshot.evaluation",
            "fewshot.rejector",
            "fewshot.lesson",
        ),
    },
    "lowshot.features": {"image", "data", "encoder", "lowshot.rows"},
    "lowshot.rows": set(),
    "lowshot.neighbors": {"lowshot.rows"},
    "lowshot.logistic": {"lowshot.rows"},
    "lowshot.probe": {"lowshot.rows", "lowshot.logistic"},
    "lowshot.report": set(),
    "lowshot.few_labels": {"lowshot.rows", "lowshot.logistic", "lowshot.report"},
    "lowshot.evaluation": {
        *("data", "encoder", "lowshot.rows", "lowshot.features", "lowshot.neighbors", "lowshot.probe"),
        *("lowshot.few_labels", "lowshot.report"),
    },
    "lowshot": {
        *("lowshot.evaluation", "lowshot.features", "lowshot.few_labels", "lowshot.neighbors", "lowshot.probe"),
        *("lowshot.report", "lowshot.rows"),
    },
    "parquet": {"image", "encoder", "names"},
    "gallery": {"archive", "image", "encoder", "names"},
    "bundle": {"archive", "image", "encoder", "gallery", "names"},
    "export": {"checkpoint", "encoder", "fewshot", "gallery"},
    "publish": {"checkpoint"},
    "bulk": {"encoder", "image"},
    "onnx_export": {"encoder", "fewshot", "model"},
    "training": set(),
    "training.loss": set(),
    "training.optimizer": set(),
    "training.schedule": set(),
    "training.augment": set(),
    "training.digits": set(),
    "training.shapes": set(),
    "training.distributed": set(),
    "training.log_figure": {"draw"},
    "training.card": {"data"},
    "training.calibration": {"checkpoint", "classification", "data", "encoder", "lowshot", "training.card"},
    "training.loop": {"training.distributed"},
    "training.result": set(),
    "training.picture_store": {"data", "image"},
    "training.recipe": {"config", "checkpoint", "training.augment"},
    "training.answers": {"training.augment"},
    "training.teacher": {"classification", "devices", "encoder", "training.answers"},
    "training.trainer": {
        *("config", "checkpoint", "model", "msn_head", "image", "masking"),
        *("training.augment", "training.distributed", "training.loop", "training.loss", "training.picture_store"),
        *("training.recipe", "training.schedule"),
    },
    "training.pretrain": {
        *("checkpoint", "data", "devices", "lowshot"),  # kNN while it learns
        *("training.digits", "training.distributed", "training.log_figure", "training.loop"),
        *("training.picture_store", "training.recipe", "training.result", "training.shapes", "training.trainer"),
    },
    "training.finetune": {
        *("config", "checkpoint", "model", "image", "masking", "data", "devices"),
        *("training.augment", "training.calibration", "training.card", "training.distributed", "training.loop"),
        *("training.optimizer", "training.result", "training.schedule", "training.trainer"),
    },
    "training.distil": {
        *("checkpoint", "config", "data", "devices", "image", "model"),
        *(
            "training.answers",
            "training.augment",
            "training.calibration",
            "training.card",
            "training.distributed",
            "training.finetune",
        ),
        *("training.log_figure", "training.loop", "training.result", "training.similarity", "training.student"),
        "training.teacher",
    },
    "training.similarity": {"training.answers"},
    "training.student": {"checkpoint", "config", "model"},
    "training.soft_labels": {"training.calibration"},
    "training.head": {"checkpoint", "data", "encoder", "lowshot", "training.calibration", "training.card"},
    "training.live": {"lowshot", "training.trainer"},  # kNN while it learns
    "ui.gradio_stubs": set(),
    "ui": {"ui.gradio_stubs"},
    "ui.locale": set(),
    "ui.locale.middleware": {"ui.locale"},
    "ui.zero_gpu": {"config", "encoder", "model", "outputs", "runner"},
    "ui.models": {"checkpoint", "encoder", "ui.shared.html", "ui.zero_gpu"},
    "ui.visits": {"image", "encoder", "timing", "ui.models", "ui.shared.html"},
    "ui.shared": set(),
    "ui.fair_queue": {"ui.request_body"},
    "ui.uploads": set(),
    "ui.faults": {"devices", "ui.uploads"},
    "ui.sessions": set(),
    "ui.blocks": {
        *("ui.fair_queue", "ui.faults", "ui.locale.middleware", "ui.sessions"),
        *("ui.shared.checks", "ui.shared.endpoints"),
    },
    "ui.memory": set(),
    **dict.fromkeys(SHARED, LIBRARY | SHARED | {"ui.models", "ui.visits"}),
    "ui.shared.live_camera": LIBRARY | SHARED | {"ui.app", "ui.visits"},
    "ui.shared.examples": LIBRARY | SHARED | {"ui.models", "ui.visits", "training.shapes"},
    "ui.status": {"ui.models", "ui.visits", "ui.shared.html"},
    "ui.page_scripts": {"ui.shared.scripts", "ui.visits"},
    "ui.app": {
        *(
            "image",
            "ui.fair_queue",
            "ui.faults",
            "ui.memory",
            "ui.models",
            "ui.page_scripts",
            "ui.status",
            "ui.visits",
            "ui.shared.controls",
            "ui.shared.endpoints",
            "ui.shared.examples",
            "ui.shared.html",
        ),
        *("ui.shared.photo", "ui.shared.scripts"),
    },
    **of_tabs(),
    "ui.classroom": set(),
    "ui.classroom.address": set(),
    "ui.classroom.challenge": {"encoder", "encodings", "image", "robustness"},
    "ui.classroom.room": {"names", "ui.classroom.challenge"},
    "ui.classroom.view": {
        *("ui.classroom.address", "ui.classroom.challenge", "ui.classroom.room"),
        *("ui.shared.examples", "ui.shared.html"),
    },
    "ui.classroom.dialog": {
        *("image", "ui.app", "ui.visits"),
        *("ui.classroom.address", "ui.classroom.challenge", "ui.classroom.room", "ui.classroom.view"),
        *("ui.shared.examples", "ui.shared.html", "ui.shared.patch_grid", "ui.shared.photo", "ui.shared.scripts"),
    },
    "ui.page": {
        *("ui.classroom.dialog", "ui.classroom.room"),
        *("encoder", "ui.blocks", "ui.fair_queue", "ui.models", "ui.page_scripts", "ui.visits", "ui.app"),
        *("ui.shared.examples", "ui.shared.html", "ui.shared.scripts", "ui.status", "ui.zero_gpu"),
        *(f"ui.{tab}.tab" for tab in TABS),
    },
    "ui.request_body": set(),
    "ui.rates": set(),
    "ui.guard": {"ui.locale.middleware", "ui.rates", "ui.request_body", "ui.uploads"},
    "ui.agents": {"__init__", "ui.faults", "ui.request_body", "ui.shared.checks", "ui.shared.endpoints", "ui.uploads"},
    "ui.server": {
        *("ui.agents",),  # inside `launch`: it needs an extra
        *("ui.app", "ui.blocks", "ui.fair_queue", "ui.guard", "ui.memory", "ui.models", "ui.page", "ui.visits"),
        "ui.learn.training_film",
        *("ui.classroom.address", "ui.classroom.dialog", "ui.classroom.room"),
        *("ui.shared.examples", "ui.shared.picture_gallery", "ui.uploads", "ui.zero_gpu"),
    },
    "cli": {"cli.output", "cli.parser"},
    "cli.output": {"export", "names"},
    "cli.inputs": {"image", "encoder", "names", "cli.output"},
    "cli.parquet": {"encoder", "parquet", "training.distributed", "cli.inputs", "cli.output"},
    "cli.classify": {"names", "cli.inputs", "cli.output", "cli.parquet"},
    "cli.attention": {"attention", "draw", "encoder", "image", "look", "cli.inputs", "cli.output"},
    "cli.mask": {"draw", "encoder", "look", "masking", "robustness", "cli.attention", "cli.inputs", "cli.output"},
    "cli.fewshot": {"archive", "bundle", "encoder", "export", "fewshot", "gallery", "cli.inputs", "cli.output"},
    "cli.evaluate": {"data", "draw", "encoder", "image", "lowshot", "projection", "cli.inputs", "cli.output"},
    "cli.convert": {
        *("bundle", "checkpoint", "encoder", "export", "fewshot", "onnx_export"),
        *("cli.fewshot", "cli.inputs", "cli.output"),
    },
    "cli.train": {
        *("checkpoint", "cli.inputs", "cli.output"),
        *("training.answers", "training.calibration", "training.card", "training.distil", "training.finetune"),
        *("training.head", "training.live"),
        *("training.pretrain", "training.recipe"),
    },
    "cli.publish": {"publish", "cli.inputs", "cli.output"},
    "cli.serve": {"ui.server", "ui.zero_gpu", "cli.inputs"},  # ui only inside `serve`, see below
    "cli.completion": {"cli.inputs"},
    "cli.parser": {"__init__"} | CLI - {"cli.parser", "cli.parquet"},
    "__main__": {"cli"},
    "__init__": {"config", "model", "msn_head", "image", "encoder"},
    "app": {"ui.server", "ui.zero_gpu"},
}
# Rows that are a rule, not a list: a tab may know all of the library and of what tabs share.
RULES = {*SHARED, *(module for module in of_tabs() if module not in {f"ui.{tab}" for tab in TABS})}

# third-party package -> who may import it; what is not here may be imported by every module.
ONLY_IN: dict[str, str] = {
    "spaces": r"ui\.zero_gpu",
    "gradio": r"ui(\..+)?|app",
    "psutil": r"ui\.classroom\.address",
    "segno": r"ui\.classroom\.address",
    "markupsafe": r"ui(\..+)?",
    "gradio_client": r"",
    "huggingface_hub": r"checkpoint\.(hub|download)",
    "safetensors": r"checkpoint(\..+)?|bundle",
    "umap": r"projection",
    "chardet": r"names",
    "pi_heif": r"image\.heif",
    "pyarrow": r"parquet",
    "datasets": r"data",
    "accelerate": r"training(\..+)?|cli(\..+)?",
    "fsspec": r"bulk",
    "onnx": r"onnx_export",
    "onnxruntime": r"onnx_export",
    "onnxscript": r"onnx_export",
    "openvino": r"openvino_forward",
    "transformers": r"training\.teacher",  # when a classifier of that package is the teacher
    "torchvision": r"",
    "matplotlib.pyplot": r"",  # keeps figures alive between visitors
}
# never at import time: they take long, or need not be there
WHEN_USED = {"fsspec", "onnx", "onnxruntime", "onnxscript", "openvino", "umap", "chardet", "pi_heif", "transformers"}

# A file tells one story in about 300 lines; longer ones say here why they are one story still.
LONG_FROM = 450
LONG: dict[str, str] = {}


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


def known_by(module: str) -> set[str]:
    """The package's modules that a file imports."""
    return {name for found in imports(FILES[module]) if (name := inner(found.target)) is not None} - {module}


def stands_for(allowed: str, module: str) -> bool:
    return allowed in (module, module.partition(".")[0])


@MODULES
def test_only_listed_modules_are_imported(module: str) -> None:
    assert module in ALLOWED, f"{module} is not in the table of who may know whom"
    allowed = ALLOWED[module] | (set() if module in BOTTOM else BOTTOM)
    allowed |= WORDS if module.startswith("ui.") else set()
    wrong = [name for name in known_by(module) if not any(stands_for(one, name) for one in allowed)]
    assert not wrong, f"{module} imports {', '.join(wrong)}, which its row does not list"


@MODULES
def test_every_listed_import_is_used(module: str) -> None:
    if module in RULES:
        return
    unused = [one for one in ALLOWED[module] if not any(stands_for(one, name) for name in known_by(module))]
    assert not unused, f"{module} does not import {', '.join(unused)}: take it out of its row"


def test_the_table_lists_only_existing_modules() -> None:
    assert ALLOWED.keys() == FILES.keys()


def test_no_circular_imports() -> None:
    TopologicalSorter({module: known_by(module) for module in FILES}).prepare()


@MODULES
def test_third_party_imports_are_restricted(module: str) -> None:
    for found in imports(FILES[module]):
        for package, places in ONLY_IN.items():
            if (found.target + ".").startswith(package + "."):
                assert re.fullmatch(places or r"(?!)", module), f"{module}:{found.line} imports {found.target}"
                assert package not in WHEN_USED or found.inside, (
                    f"{module}:{found.line} imports {package} at import time"
                )


def test_the_command_line_imports_the_app_only_inside_serve() -> None:
    where = [
        (module, found.inside)
        for module in sorted({"cli"} | CLI)
        for found in imports(FILES[module])
        if (inner(found.target) or "").startswith("ui")
    ]
    assert where == [("cli.serve", "serve"), ("cli.serve", "serve")]


def test_no_utils_module() -> None:
    assert not [name for name in FILES if re.search(r"(^|\.)(utils?|helpers?|common|misc)$", name)]


@MODULES
def test_files_are_short(module: str) -> None:
    lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= LONG_FROM or LONG.get(module), f"{module} has {lines} lines"


def test_the_list_of_long_files_is_current() -> None:
    assert len(LONG) <= 3, "make a package of one of these, or find a better idea"
    for module in LONG:
        lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
        assert lines > 0.8 * LONG_FROM, f"{module} is short again: take it off the list"


def test_public_class_names_are_unique() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in FILES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_public_names_are_sorted_and_exist() -> None:
    package = importlib.import_module("vitmsn")
    names = getattr(package, "__all__", [])
    assert names == sorted(set(names))
    for name in names:
        assert getattr(package, name) is not None


# A program that uses each part of the core. (scikit-learn imports pandas and pyarrow where they are installed.)
CORE = """
from vitmsn import Encoder, attention, fewshot, masking
import torch
encoder = Encoder.random(device="cpu")
pictures = [torch.full((64, 64, 3), shade, dtype=torch.uint8).numpy() for shade in (0, 90, 180, 250)]
keep = masking.random_mask((8, 8), 0.7, torch.Generator().manual_seed(0))
embedded = encoder.embed(pictures, keep_indices=keep)
attention.cls_attention(encoder.model, encoder.tokens(pictures[0]))
fewshot.KNNClassifier(n_neighbors=1).fit(embedded, ["a", "a", "b", "b"]).predict(embedded)
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import vitmsn", ["numpy", "openvino", "torch", "PIL", "sklearn"]),
        (CORE, ["accelerate", "datasets", "gradio", "matplotlib", "numba", "transformers", "umap"]),
    ],
)
def test_importing_the_library_imports_nothing_heavy(code: str, heavy: list[str]) -> None:
    code += f"\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_building_the_page_imports_nothing_that_only_some_tabs_need() -> None:
    """These take seconds, which the first visitor would wait for."""
    late = ["accelerate", "datasets", "matplotlib", "numba", "onnxruntime", "scipy", "skimage", "sklearn", "umap"]
    code = (
        "import sys; from vitmsn.ui.models import Models; from vitmsn.ui.page import build; models = Models(); "
        f"models.start(); build(models); print([name for name in {late} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_error_tree_in_the_docstring_is_complete() -> None:
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
    whole = {
        "test_agreement",
        "test_benchmarks",
        "test_catalogues",
        "test_distribution",
        "test_docs",
        "test_doctests",
        "test_embedded",
        "test_ending",
        "test_endpoints",
        "test_german_page",
        "test_hostile_input",
        "test_javascript",
        "test_layering",
        "test_leaving",
        "test_parity",
        "test_project",
    }
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
