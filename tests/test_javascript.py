"""The page's JavaScript: in separate files, with computations tested by node."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UI = ROOT / "vitmsn" / "ui"


def test_node_tests_pass() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js; install version 20 or newer to run these")
    tests = sorted(str(path) for path in (ROOT / "tests").rglob("*.test.mjs"))
    assert tests
    done = subprocess.run([node, "--test", *tests], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_javascript_inside_python_beyond_one_line() -> None:
    for path in sorted(UI.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
                found = re.search(r"=> \{|addEventListener|document\.|window\.", node.value)
                assert not found, f"{path.relative_to(ROOT)}:{node.lineno} has JavaScript; give it a file"


def test_every_script_of_the_page_is_used() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in UI.rglob("*.py"))
    unused = [path.name for path in sorted(UI.rglob("*.js")) if f'"{path.name}"' not in code]
    assert not unused


def test_javascript_tests_mirror_the_scripts() -> None:
    for path in sorted((ROOT / "tests" / "ui").rglob("*.test.mjs")):
        name = path.relative_to(ROOT / "tests" / "ui").as_posix().replace(".test.mjs", ".js")
        assert (UI / name).is_file(), f"{path.relative_to(ROOT)} mirrors no script"
