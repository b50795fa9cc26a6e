"""The site of the docs: its pages, links, tutorials and notebooks. The strict build itself is `make docs`."""

from __future__ import annotations

import ast
import html
import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from vitmsn.cli.parser import make_parser

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def files(entry: Any) -> list[str]:
    """The pages below an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [file for value in (entry.values() if isinstance(entry, dict) else entry) for file in files(value)]


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(files(SITE["nav"])) == [page.relative_to(DOCS).as_posix() for page in PAGES]


def anchors(page: Path) -> set[str]:
    """What mkdocs makes of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_stay_inside_the_docs_and_have_targets(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        if path.startswith("screenshots/"):
            assert (ROOT / "assets" / path).is_file(), target
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.is_file() and found.is_relative_to(DOCS), target
        assert not anchor or anchor in anchors(found), target


def test_the_reference_names_modules_that_exist_and_are_documented() -> None:
    named = [name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.M)]
    assert len(named) == len(set(named)) > 30
    for name in named:
        assert (importlib.import_module(name).__doc__ or "").strip(), name


def test_tutorials_name_what_is_on_the_page() -> None:
    """What is bold in a tutorial is a word of the page, or the heading of a step."""
    sources = [*(ROOT / "vitmsn" / "ui").rglob("*.py"), *(ROOT / "vitmsn" / "ui").rglob("*.js")]
    text = html.unescape("\n".join(source.read_text(encoding="utf-8") for source in sources))
    for page in TUTORIALS:
        for words in re.findall(r"\*\*(.+?)\*\*", page.read_text(encoding="utf-8")):
            if words.endswith((".", "?")):
                continue  # the first words of a step
            assert re.search(rf"[\"'>]{re.escape(words)}[\"'<]", text), f"{page.name}: {words}"


def commands() -> list[str]:
    found = [
        line for page in TUTORIALS for line in re.findall(r"^vitmsn (.+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    assert len(found) > 5
    return found


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_tutorials_are_understood(command: str) -> None:
    assert callable(make_parser().parse_args(shlex.split(command, comments=True)).run)


def picture(path: Path, tint: int, seed: int) -> None:
    """A picture of its own whose color says its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 90, (48, 64, 3), dtype=np.uint8)
    pixels[..., tint] += 150
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the pictures that the tutorials and notebooks ask for."""
    for place, name in enumerate(("cat", "dog", "who")):
        picture(tmp_path / f"{name}.jpg", place, place)
    for place, name in enumerate(("cup", "spoon")):
        for number in range(4):
            picture(tmp_path / "examples" / name / f"{number}.png", place, 10 * place + number)
        for number in range(8):
            picture(tmp_path / "pictures" / name / f"{number}.png", place, 100 + 10 * place + number)
        picture(tmp_path / "queries" / f"{name}-to-name.png", place, 50 + place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_python_of_the_tutorials_runs(page: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
    said = capsys.readouterr().out
    if page.stem == "engineer":
        assert names["embeddings"].shape == (2, 192) and "torch.Size([1, 200])" in said
    if page.stem == "maker":
        assert "cup" in said or "spoon" in said


def run(notebook: Path) -> list[Any]:
    """Run the cells of a notebook one after the other, as Jupyter does; the values that it would show."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]), f"{notebook.name}[{number}]")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{notebook.name}[{number}]", "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), f"{notebook.name}[{number}]", "eval"), names))
    return [value for value in shown if value is not None]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebooks_run(notebook: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(notebook)
    said = capsys.readouterr().out
    assert all(isinstance(value, Image.Image) and min(value.size) >= 48 for value in shown)
    if notebook.stem == "few_shot":
        assert len(shown) == 1 and "{'cup': 4, 'spoon': 4}" in said and "cup-to-name.png" in said
        assert (pictures / "my-classes.zip").is_file()
    elif notebook.stem == "attention":
        assert len(shown) == 3 and "what counted for" in said and "at random:" in said
    else:
        assert "16 pictures of cup, spoon" in said and (pictures / "runs/student/model/config.json").is_file()


def test_notebooks_are_kept_without_outputs_and_named_on_their_page() -> None:
    page = (DOCS / "notebooks" / "index.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    for notebook in NOTEBOOKS:
        assert f"({notebook.name})" in page
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None
