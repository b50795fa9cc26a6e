"""What people install: the sdist, the wheel made of it, their metadata, and the wheel in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import vitmsn
from tests.support.app import PATIENCE, ROOT

NOT_PACKED = {"screenshots", "__pycache__"}
CORE = {
    *("cachetools", "chardet", "huggingface-hub", "numpy", "pi-heif", "pillow", "safetensors", "scikit-learn"),
    *("scipy", "torch"),
}
# What an environment without extras does not have.
EXTRAS = [
    *("accelerate", "datasets", "gradio", "markupsafe", "matplotlib", "numba", "onnx", "onnxruntime", "openvino"),
    *("pandas", "pyarrow", "skimage", "spaces", "transformers", "umap"),
]
HIDE = f"""
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
"""
USE = """
from vitmsn import Encoder, attention, fewshot, masking
encoder = Encoder.from_pretrained(None, device="cpu")
print(*attention.cls_attention(encoder.model, encoder.tokens("cat.jpg")).shape)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(sdist, wheel); the wheel is built from the sdist, which is built from what git knows."""
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    source = folder / "source"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    [sdist] = folder.glob("vitmsn-*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(sdist)], check=True, capture_output=True)
    [wheel] = folder.glob("vitmsn-*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> Message:
    with zipfile.ZipFile(built[1]) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


def expected(folder: str, prefix: str = "") -> set[str]:
    """The files of a folder that a wheel holds, with their names there."""
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and not NOT_PACKED & {*path.parts}]
    return {prefix + path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_contains_models_and_assets(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        inside = set(archive.namelist())
        [entry] = [name for name in inside if name.endswith("entry_points.txt")]
        assert "vitmsn = vitmsn.cli:main" in archive.read(entry).decode()
    packed = {name for name in inside if ".dist-info/" not in name}
    assert packed == expected("vitmsn") | expected("assets", "vitmsn/")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in inside)


def test_the_sdist_contains_what_builds_the_wheel(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements/core.txt"} <= inside
    assert not [name for name in inside if name.startswith("assets/screenshots/")]


def test_the_core_depends_on_little(metadata: Message) -> None:
    found = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert {one.name.replace("_", "-") for one in found if one.marker is None} == CORE
    extras = set(metadata.get_all("Provides-Extra", []))
    assert extras == {"all", "app", "bench", "completion", "distil", "docs", "mcp", "onnx", "openvino", "test", "train"}


def test_the_metadata_describe_the_package(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("vitmsn", vitmsn.__version__)
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert isinstance(description, str) and description.lstrip().startswith("# vitmsn")
    assert "sdk_version" not in description and "make run" in description
    assert "Topic :: Scientific/Engineering :: Image Recognition" in metadata.get_all("Classifier", [])


def test_the_wheel_works_in_an_empty_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    """With the libraries of this environment, but for those of the extras, which seem not to be installed."""
    home = tmp_path / "environment"
    builder = venv.EnvBuilder(with_pip=False, symlinks=True)
    builder.create(home)
    python = Path(builder.ensure_directories(home).env_exe)
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (site / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(built[1])], check=True, capture_output=True)
    Image.fromarray(np.full((80, 100, 3), 90, np.uint8)).save(tmp_path / "cat.jpg")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    where = run(str(python), "-c", "import vitmsn; print(vitmsn.__version__, vitmsn.__file__)")
    assert where.stdout.startswith(f"{vitmsn.__version__} {site}"), where.stderr
    program = str(python.with_name("vitmsn"))
    answer = run(program, "classify", "cat.jpg", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["pictures"][0]["file"] == "cat.jpg"
    used = run(str(python), "-c", USE)
    assert used.stdout.split()[0] == "1", used.stderr
    for command, package, extra in (
        ((program, "serve"), "gradio", "app"),
        ((program, "attention", "cat.jpg", "--out", "map.png"), "matplotlib", "app"),
        ((program, "embed", "cat.jpg", "--out", "e.parquet"), "pyarrow", "train"),
    ):
        said = run(*command)
        wanted = f"vitmsn: This needs {package}, which is not installed; install it with: pip install 'vitmsn[{extra}]'"
        assert (said.returncode, said.stderr.splitlines()) == (2, [wanted])


def test_the_container_is_small_unprivileged_and_watched(tmp_path: Path) -> None:
    """No engine is needed: the file is read, and what it copies and runs is tried in a fresh folder."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    names = [name for name, _ in steps]
    assert names[0] == "FROM" and steps[0][1] == "python:3.12-slim"
    assert ["USER", "visitor"] in steps and names.index("USER") < names.index("CMD")
    [check] = [rest for name, rest in steps if name == "HEALTHCHECK"]
    assert "/healthz" in check and "urllib.request" in check
    [install] = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    assert "-r requirements.txt -c constraints.txt" in install and "download.pytorch.org/whl/cpu" in text
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    app = tmp_path / "app"
    for name, rest in steps:
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                assert f"!{source}" in let_in, f".dockerignore keeps {source} out"
                place = app / target / source if target == "./" else app / target
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns(*NOT_PACKED))
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, place)
    [run] = [rest for name, rest in steps if name == "RUN" and "compileall" in rest]
    subprocess.run([sys.executable, *run.split()[1:]], cwd=app, check=True, capture_output=True)
    assert list(app.glob("vitmsn/ui/__pycache__/server.*.pyc"))
    done = subprocess.run(
        [sys.executable, "app.py", "--port", "70000"], cwd=app, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("vitmsn: '70000' is no port")
