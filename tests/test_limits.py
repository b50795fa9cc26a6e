"""Bounds: one line each, whole numbers above zero, and overridden by the environment."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vitmsn import limits
from vitmsn.errors import InputError

SOURCE = Path(limits.__file__)
BOUNDS = sorted(name for name in vars(limits) if name.isupper() and name not in ("MIB", "TYPE_CHECKING"))


def fresh() -> ModuleType:
    """The module as a new process would read it; the one in use stays as it is."""
    spec = importlib.util.spec_from_file_location("limits_read_again", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", BOUNDS)
def test_the_environment_overrides_every_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(getattr(limits, name)) is int
    assert getattr(limits, name) >= 1
    before = {other: getattr(limits, other) for other in BOUNDS}
    monkeypatch.setenv(f"VITMSN_{name}", "12345")
    after = fresh()
    assert {other: getattr(after, other) for other in BOUNDS} == {**before, name: 12345}
    assert getattr(limits, name) == before[name]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many", "nan", "1e6", "9" * 5000])
def test_an_invalid_bound_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMSN_MAX_PIXELS", text)
    sentence = rf"^VITMSN_MAX_PIXELS is {re.escape(repr(text[:40]))}; .* correct or unset it\.$"
    read = fresh()
    with pytest.raises(InputError, match=sentence):
        read.check()
    with pytest.raises(InputError, match=sentence):
        print(read.MAX_PIXELS)
    assert read.MAX_ASPECT == limits.MAX_ASPECT
    with pytest.raises(AttributeError, match="no bound is named MAX_PIXEL"):
        print(read.MAX_PIXEL)


@pytest.mark.parametrize("name", ["LEAVE_SECONDS", "MAX_PIXELS", "PROXY"])
@pytest.mark.parametrize("command", [["app.py"], ["-m", "vitmsn", "serve"], ["-m", "vitmsn", "classify", "none.png"]])
def test_a_bad_setting_is_one_sentence_and_exit_2(root: Path, command: list[str], name: str) -> None:
    if name == "PROXY" and "classify" in command:
        return  # of the app only
    made = {**os.environ, f"VITMSN_{name}": "many"}
    ended = subprocess.run([sys.executable, *command], cwd=root, env=made, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"vitmsn: VITMSN_{name} is 'many'; it must be a whole number")


def test_each_bound_reads_its_own_variable() -> None:
    """Each bound is read from the environment by its own name, and by no other."""
    read = {
        statement.targets[0].id: statement.value.args[0].value
        for statement in ast.parse(SOURCE.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.args[0], ast.Constant)
    }
    assert sorted(read) == BOUNDS
    assert all(name == asked for name, asked in read.items())


def test_no_other_module_defines_a_bound() -> None:
    """A constant named like a bound stands in no other file."""
    like_a_bound = re.compile(r"(MAX|LONGEST|LARGEST|LIMIT)(_[A-Z_]+)?|[A-Z_]+_(LENGTH|BYTES|LIMIT)")
    elsewhere = [
        f"{path.relative_to(SOURCE.parent)}: {target.id}"
        for path in SOURCE.parent.rglob("*.py")
        if path != SOURCE
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name) and like_a_bound.fullmatch(target.id)
    ]
    assert not elsewhere


def test_bounds_are_consistent() -> None:
    assert limits.MAX_IMAGE_BYTES <= limits.MAX_UPLOAD_BYTES
    assert limits.MAX_ARCHIVE_BYTES <= limits.MAX_UPLOAD_BYTES
    assert limits.MAX_PIXELS <= limits.DECODING_PIXELS <= limits.REQUEST_PIXELS
    assert limits.MAX_PIXELS <= limits.MAX_SCANNED_PIXELS
    assert limits.MAX_CLASSES <= limits.MAX_EXAMPLES
    assert limits.MAX_NAME_LENGTH <= limits.MAX_NAME_CODE_POINTS
    assert limits.MAX_PIXELS <= limits.BATCH_PIXELS <= limits.MAX_SCANNED_PIXELS
    assert limits.THUMBNAIL_SIDE**2 <= limits.MAX_PIXELS
