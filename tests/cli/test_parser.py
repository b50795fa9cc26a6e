"""What `--help` shows, and what is refused before anything is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vitmsn
from vitmsn import cli
from vitmsn.cli.parser import make_parser

LOOKING = ["classify", "embed", "attention", "mask"]
COMMANDS = [
    *LOOKING,
    "fewshot",
    "map",
    "lowshot",
    "pretrain",
    "finetune",
    "distil",
    "head",
    "calibrate",
    "convert",
    "push",
    "serve",
    "completion",
]
Capture = pytest.CaptureFixture[str]


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "sklearn", "PIL", "gradio", "datasets"]
    code = f"""if True:
        import sys
        from vitmsn.cli.parser import make_parser
        print(make_parser().format_help(), [name for name in {heavy} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.rstrip().endswith("[]")
    assert re.findall(r"^    (\w+)\b", done.stdout, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("command", [*COMMANDS, "fewshot train", "fewshot predict"])
def test_every_option_has_help_text(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: python -m vitmsn" in shown
    [*_, example] = shown.rstrip().splitlines()
    words = example.split()
    assert words[:3] == ["python", "-m", "vitmsn"] and " ".join(words[3:]).startswith(command)
    make_parser().parse_args([word for word in words[3:] if word != ">>" and "bashrc" not in word])
    if command not in ("fewshot", "serve", "completion"):
        assert "--json" in shown


def test_help_shows_the_command_as_it_was_called(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for called, shown in (("/usr/bin/vitmsn", "vitmsn"), ("/usr/lib/vitmsn/__main__.py", "python -m vitmsn")):
        monkeypatch.setattr(sys, "argv", [called, "classify", "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        said = capsys.readouterr().out
        assert said.startswith(f"usage: {shown} classify") and f"example:\n  {shown} classify" in said


def test_nothing_at_all_lists_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "argv", ["vitmsn"])
    assert cli.main() == cli.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "name what is in pictures" in said.err


def test_the_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"vitmsn {vitmsn.__version__}\n"


def test_help_tells_the_exit_codes(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert re.findall(r"^  (\d+)  ", shown, re.MULTILINE) == ["0", "1", "2", "130", "141"]


@pytest.mark.parametrize(
    "words", [["classify", "x", "--out", "a.txt"], ["lowshot", "x", "--figure", "a.gif"], ["map", "x", "--out", "a"]]
)
def test_output_names_are_checked_first(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2 and "must end in" in capsys.readouterr().err


def test_the_environment_sets_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMSN_MODEL", "from/environment")
    assert make_parser().parse_args(["classify", "a.png"]).model == "from/environment"
    assert make_parser().parse_args(["classify", "a.png", "--model", "given"]).model == "given"
