"""The project's own files agree with one another: README, pins, metadata, Makefile, and the wheel they make."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import Image

import vitmsn
from tests.support.app import Served
from vitmsn import extras

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTRAS: dict[str, dict[str, list[str]]] = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

# Where the name that is imported is not the name that is installed.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "skimage": "scikit-image", "umap": "umap-learn"}
DOCS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]
PARTS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))
SPACE = ("core", "app", "figures")  # what a Space installs
# Gradio's own parts, in the versions that it brings.
GRADIO_BRINGS = {"anyio", "fastapi", "pandas", "pydantic", "starlette"}


def requirements(*parts: str) -> dict[str, Requirement]:
    """The lines of these files of requirements/."""
    texts = [(ROOT / "requirements" / f"{part}.txt").read_text(encoding="utf-8") for part in parts]
    lines = [line for text in texts for line in text.splitlines()]
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in found}


def pins(python: str) -> dict[str, Version]:
    """What constraints.txt fixes for one version of Python."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        one = Requirement(line)
        if isinstance(one.marker, Marker) and not one.marker.evaluate({"python_version": python}):
            continue
        [specifier] = one.specifier
        assert specifier.operator == "==" and one.name not in found, line
        found[one.name] = Version(specifier.version)
    return found


def front_matter() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(README.split("---\n")[1])
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_inside_its_range(python: str) -> None:
    fixed = pins(python)
    for name, one in requirements(*PARTS).items():
        assert name in fixed, f"{name} has no pin for Python {python}"
        assert one.specifier.contains(fixed[name]), f"{name}=={fixed[name]} is outside {one.specifier}"
        unbounded = ("fsspec", "packaging", "setuptools")
        assert "<" in str(one.specifier) or name in unbounded, f"{name} has no upper end"


def test_torch_suits_this_machine_and_spaces() -> None:
    torch = requirements("core")["torch"].specifier
    assert all(torch.contains(version) for version in ("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.13.0"))
    assert {str(pins(python)["torch"]) for python in PYTHONS} == {"2.13.0"}


def test_the_lists_are_sorted() -> None:
    for name in ("constraints.txt", *(f"requirements/{part}.txt" for part in PARTS)):
        lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        names = [canonicalize_name(Requirement(line).name) for line in lines]
        assert names == sorted(names)


def test_what_is_imported_is_declared() -> None:
    declared = set(requirements(*PARTS)) | GRADIO_BRINGS
    for path in [ROOT / "app.py", *sorted((ROOT / "vitmsn").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                targets = [node.module]
            else:
                continue
            for target in targets:
                top = target.split(".")[0]
                known = top in sys.stdlib_module_names or top == "vitmsn"
                assert known or canonicalize_name(DISTRIBUTIONS.get(top, top)) in declared, f"{path.name}: {target}"


def test_a_space_installs_core_app_and_figures() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [str(Requirement(line)) for line in lines if not line.startswith("#")]
    assert listed == [str(one) for _, one in sorted(requirements(*SPACE).items())], "run: make requirements"


def test_each_package_has_one_range() -> None:
    parts = {part: set(requirements(part)) for part in PARTS}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))


def test_packages_of_extras_are_imported_inside_named_or_in_their_part() -> None:
    """A package outside the core is named with its extra, where the library imports it."""
    owners = {name: part for part in PARTS if part not in ("core", "test", "docs") for name in requirements(part)}
    for package, extra in extras.EXTRAS.items():
        part = owners[canonicalize_name(DISTRIBUTIONS.get(package, package))]
        assert extra == {"figures": "app"}.get(part, part), package
        [files] = [one["file"] for name, one in EXTRAS.items() if name == extra]
        assert f"requirements/{part}.txt" in files


def test_one_version_everywhere() -> None:
    version = vitmsn.__version__
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vitmsn.__version__"}
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version and citation["license"] == PROJECT["project"]["license"]
    assert citation["preferred-citation"]["url"] in README


def test_the_readme_front_matter_suits_a_space() -> None:
    head = front_matter()
    assert README.startswith("---\n")
    assert head["sdk"] == "gradio" and Version(head["sdk_version"]) == pins("3.12")["gradio"]
    assert (ROOT / head["app_file"]).is_file()
    assert requirements("app")["gradio"].specifier.contains(head["sdk_version"])
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(head["python_version"])
    assert head["python_version"] in ("3.10", "3.12")  # what ZeroGPU has
    assert head["suggested_hardware"] == "cpu-basic"
    assert "thumbnail" not in head, "it is a web address, which only whoever has the Space knows: docs/deploy.md"
    assert "preload_from_hub" not in head, "the models that the page needs are in assets/"
    assert "models" not in head, "no model of this project is on the hub"
    assert len(head["emoji"]) == 1 and all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in head["tags"])
    assert head["license"] == PROJECT["project"]["license"].lower()
    assert 0 < len(head["short_description"]) <= 60
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {head["colorFrom"], head["colorTo"]} <= colors


def test_the_readme_leads_with_the_two_commands() -> None:
    start = README.split("\n# ")[1][:600]
    assert start.index("make run") < start.index("make test")


def links(text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            yield target


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/decisions.md", "docs/deploy.md"]
)
def test_links_have_targets(name: str) -> None:
    path = ROOT / name
    for target in links(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{name} links to {target}"


def test_readme_python_examples_run(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 80, 100, 3), dtype=np.uint8)
    for name, pixels in zip(("cat", "dog", "who"), pictures, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("http://127.0.0.1:7860", served.url), names)
    for name, shape in re.findall(r"^(\w+) = .*?# \(([^)]*)\)", "\n".join(blocks), re.MULTILINE):
        assert len(names[name].shape) == len(shape.split(",")), name  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert re.search(r"\['(cat|dog)'\]", said) and "'probability'" in said


def test_each_threat_names_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    there = {name for file in files for name in re.findall(r"def (test_\w+)", file)}
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) > 20 and set(named) <= there
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[\w/.]+)`", text))
    rows = [line for line in text.partition("## Threats")[2].splitlines() if line.startswith("| ")][1:]
    assert all("`test" in row.rpartition("|")[0].rpartition("|")[2] for row in rows)


def test_the_license_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000


def test_make_help_lists_every_command() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^make (\w+) +\S", done.stdout, re.MULTILINE)
    commands = [
        "help",
        "run",
        "install",
        "test",
        "lint",
        "bench",
        "compat",
        "lowest",
        "fuzz",
        "load",
        "soak",
        "docs",
        "api",
        "model",
        "requirements",
        "clean",
    ]
    assert listed == commands


def test_old_python_is_reported(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(["make", "run", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "needs Python 3.10 or newer" in done.stderr


def test_no_file_needs_large_file_storage() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        path = ROOT / name
        assert not path.exists() or path.stat().st_size < 10 * 2**20, f"{name} is 10 MiB or more"
