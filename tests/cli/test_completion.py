"""The scripts by which shells complete commands."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from vitmsn import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_script_names_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("fewshot", "predict", "--mask-ratio", "--re-embed", "relevance"):
        assert word.lstrip("-") in script


def test_bash_completes_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    assert cli.main(["completion", "bash"]) == 0
    ask = "COMP_WORDS=(vitmsn cl); COMP_CWORD=1; _shtab_vitmsn vitmsn cl vitmsn; echo ${COMPREPLY[@]}"
    done = subprocess.run([bash, "-c", f"{capsys.readouterr().out}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["classify"]
