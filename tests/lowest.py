"""`make lowest`: the quick suite with the lowest versions that requirements/ allow, on Python 3.10.

The environment is build/lowest, kept until a bound changes. ARGS="--python python3.11 --torch 2.13.0 -- -k mask" names
another Python, holds torch (its lowest may come as a CUDA build of gigabytes) and gives pytest what follows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "lowest"
PARTS = ("core", "app", "figures", "train", "distil", "onnx", "openvino", "mcp", "completion")  # what a user installs


def lines(part: str) -> list[Requirement]:
    text = (ROOT / "requirements" / f"{part}.txt").read_text(encoding="utf-8")
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def lowest(one: Requirement) -> str:
    """The lowest version that a range with one lower end allows, as a pin."""
    [low] = [specifier.version for specifier in one.specifier if specifier.operator == ">="]
    return f"{one.name}=={low}"


def pins(torch: str | None) -> list[str]:
    """The lowest version of every package that is no tool of the tests."""
    found = [lowest(one) for part in PARTS for one in lines(part)]
    return [f"torch=={torch}" if torch and pin.startswith("torch==") else pin for pin in found]


def environment(python: str, torch: str | None) -> Path:
    """The Python of the environment, installed where it is not there or has other versions."""
    own, wanted, made = FOLDER / "bin" / "python", FOLDER / "wanted.txt", FOLDER / "made.txt"
    text = "\n".join([*pins(torch), ""])
    if made.is_file() and made.read_text(encoding="utf-8") == text:
        return own
    subprocess.run([python, "-m", "venv", "--clear", str(FOLDER)], check=True)
    wanted.write_text(text, encoding="utf-8")
    files = [word for part in (*PARTS, "test") for word in ("-r", str(ROOT / "requirements" / f"{part}.txt"))]
    quiet = ["--quiet", "--disable-pip-version-check", "--prefer-binary"]
    subprocess.run([str(own), "-m", "pip", "install", *quiet, *files, "-c", str(wanted)], check=True)
    made.write_text(text, encoding="utf-8")
    return own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="python3.10")
    parser.add_argument("--torch", help="hold this version")
    parser.add_argument("rest", nargs="*", help="for pytest")
    options = parser.parse_args()
    own = environment(options.python, options.torch)
    calm = "-Wdefault::DeprecationWarning"  # an old package asks a newer one beneath it in the old way
    quick = ["-q", "-m", "not browser", "--ignore=tests/test_project.py"]
    command = [str(own), "-m", "pytest", *quick, calm, *options.rest]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
