"""Every command run as a person would, on small models and pictures made here; mistakes; a tiny training end to end."""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitmsn import checkpoint, cli, config
from vitmsn import encoder as encoder_module
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import MSNHead, ViTMSNForImageClassification, ViTMSNModel

CONFIG = ViTMSNConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=16,
    patch_size=4,
    id2label={0: "ant", 1: "bee", 2: "cat"},
)
COLOURS = {"blue": (40, 40, 200), "red": (200, 40, 40)}
LOOKING = ["classify", "embed", "attention", "mask"]
COMMANDS = [*LOOKING, "fewshot", "map", "lowshot", "pretrain", "finetune", "head", "convert", "serve"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole model folder: classifier, MSN head, mean, preprocessing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "small"
    checkpoint.save(
        folder,
        CONFIG,
        ViTMSNModel(CONFIG).state_dict(),
        classifier={"weight": torch.randn(3, 16), "bias": torch.zeros(3)},
        msn_head=MSNHead(16, 8, 6, 5).state_dict(),
        feature_mean=torch.zeros(16),
        processor=ViTMSNImageProcessor(16).to_dict(),
    )
    return str(folder)


def picture(colour: tuple[int, int, int], seed: int, side: int = 20) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 20, size=(side, side + 4, 3))
    return Image.fromarray(np.uint8(np.clip(colour + noise, 0, 255)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of five pictures, the red ones in a folder below."""
    for name, colour in COLOURS.items():
        folder = tmp_path / "pictures" / name / ("deeper" if name == "red" else "")
        folder.mkdir(parents=True)
        for number in range(5):
            picture(colour, number).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *words: object, code: int = 0) -> str:
    """Run a command; what it printed."""
    assert cli.main([str(word) for word in words]) == code
    return capsys.readouterr().out


def run_json(capsys: Capture, *words: object, code: int = 0) -> Any:
    return json.loads(run(capsys, *words, "--json", code=code))


# The frame


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "sklearn", "PIL", "gradio", "datasets"]
    code = f"import sys, vitmsn.cli as c; print(c.parser().format_help(), [n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.rstrip().endswith("[]")
    assert re.findall(r"^    (\w+)\b", done.stdout, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("command", [*COMMANDS, "fewshot train", "fewshot predict"])
def test_every_option_has_a_word_of_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert "usage: python -m vitmsn" in capsys.readouterr().out


def test_the_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "vitmsn"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "the following arguments are required: COMMAND" in done.stderr


def test_a_mistake_is_one_line_and_exit_2(capsys: Capture, pictures: Path) -> None:
    assert cli.main(["classify", str(pictures), "--model", "no/such/model"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("vitmsn: 'no/such/model' is no file or folder")
    assert shown.err.count("\n") == 1


def test_what_cannot_be_written_is_a_mistake(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "answers.json"
    assert cli.main(["classify", str(pictures), "--model", model, "--out", str(out)]) == 2
    assert re.fullmatch(r"vitmsn: .*file.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    "words", [["classify", "x", "--out", "a.txt"], ["lowshot", "x", "--figure", "a.gif"], ["map", "x", "--out", "a"]]
)
def test_the_name_of_an_output_is_checked_at_once(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2 and "must end in" in capsys.readouterr().err


def test_interrupting_is_130(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(options: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "classify", stop)
    assert cli.main(["classify", "x.png"]) == 130
    assert capsys.readouterr().err == "vitmsn: interrupted\n"


def test_warnings_of_the_library_are_lines_too(capsys: Capture, pictures: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    ViTMSNModel(CONFIG).save_pretrained(bare)
    (bare / "preprocessor_config.json").unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["embed", str(pictures / "blue" / "0.png"), "--model", str(bare)]) == 0
    assert re.fullmatch(r"vitmsn: .*no preprocessor_config\.json.*\n", capsys.readouterr().err)


def test_bad_files_are_skipped_and_said(capsys: Capture, model: str, pictures: Path) -> None:
    (pictures / "blue" / "notes.txt").write_text("no picture")
    (pictures / ".hidden").mkdir()
    (pictures / ".hidden" / "x.png").write_text("never looked at")
    assert cli.main(["embed", str(pictures), str(pictures / "gone.png"), "--model", model, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert len(found["files"]) == 10
    assert [Path(one["file"]).name for one in found["skipped"]] == ["notes.txt", "gone.png"]
    assert "is not there" in found["skipped"][1]["reason"] and shown.err.count("vitmsn: skipped ") == 2


def test_when_nothing_worked_it_is_exit_1(capsys: Capture, model: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for command in LOOKING:
        found = run_json(capsys, command, tmp_path / "a.png", "--model", model, code=1)
        assert len(found["skipped"]) == 1


def test_an_empty_folder_is_a_mistake(capsys: Capture, model: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.main(["classify", str(tmp_path / "empty"), "--model", model]) == 2
    assert "holds no files" in capsys.readouterr().err


def test_names_move_no_cursor(capsys: Capture, model: str, tmp_path: Path) -> None:
    picture((9, 9, 9), 0).save(tmp_path / "a\x1b[2J.png")
    shown = run(capsys, "classify", tmp_path, "--model", model)
    assert "\x1b" not in shown and "a\N{REPLACEMENT CHARACTER}[2J.png" in shown


def test_tables_line_up() -> None:
    shown = cli.table(("file", "share", "word"), [("a", "9.5 %", "x"), ("long", "10.0 %", "")])
    assert shown == "file   share  word\na      9.5 %  x\nlong  10.0 %"


def test_progress_is_a_line_on_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.Bar("quiet")(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = cli.Bar("loud\x07")
    bar(15, 30)
    bar.named("next", 30, 30)
    half, whole = capsys.readouterr().err.split("\r")[1:]
    assert half == f"loud\N{REPLACEMENT CHARACTER} [{'=' * 15}{' ' * 15}] 15/30"
    assert whole == f"next [{'=' * 30}] 30/30\n"


def test_random_weights_by_name(capsys: Capture, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoder_module.VARIANTS, "tiny-8-64", CONFIG)
    assert run_json(capsys, "embed", pictures / "blue", "--model", "random")["model"] == "random weights"


# Looking at pictures


def test_classify(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run_json(capsys, "classify", pictures, "--model", model, "--top-k", 2)
    assert found.keys() == {"model", "pictures", "skipped"} and len(found["pictures"]) == 10
    first = found["pictures"][0]
    assert first.keys() == {"file", "labels", "sure", "kind", "sentence"} and len(first["labels"]) == 2
    [expected] = Encoder.from_pretrained(model).classify(first["file"], top_k=2)
    assert [entry["label"] for entry in first["labels"]] == expected.labels
    assert first["labels"][0]["probability"] == pytest.approx(expected.probabilities[0], abs=1e-4)
    shown = run(capsys, "classify", pictures, "--model", model, "--out", tmp_path / "new" / "a.csv")
    assert shown.splitlines()[0].split() == ["file", "answer", "probability", "sure", "next"]
    with (tmp_path / "new" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row["answer"] for row in rows} <= {"ant", "bee", "cat"}


def test_classify_without_a_head_says_so(capsys: Capture, tmp_path: Path, pictures: Path) -> None:
    ViTMSNModel(CONFIG).save_pretrained(tmp_path / "bare")
    ViTMSNImageProcessor(16).save_pretrained(tmp_path / "bare")
    assert cli.main(["classify", str(pictures), "--model", str(tmp_path / "bare")]) == 2
    assert "without a trained classifier" in capsys.readouterr().err


def test_embed(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    encoder = Encoder.from_pretrained(model)
    files = sorted(str(path) for path in pictures.rglob("*.png"))
    expected = encoder.embed(files)
    found = run_json(capsys, "embed", pictures, "--model", model, "--out", tmp_path / "e.npz")
    assert found["files"] == files and found["dim"] == 16
    np.testing.assert_allclose(found["embeddings"], expected, atol=1e-3)
    saved = np.load(tmp_path / "e.npz")
    np.testing.assert_allclose(saved["embeddings"], expected, atol=1e-3)
    assert saved["files"].tolist() == files
    before = run_json(capsys, "embed", files[0], "--model", model, "--pre-layernorm", "--size", 8)
    np.testing.assert_allclose(before["embeddings"], encoder.embed(files[0], size=8, layernorm=False), atol=1e-3)
    assert run(capsys, "embed", files[0], "--model", model, "--out", tmp_path / "e.csv").endswith("of 16 numbers\n")
    assert len((tmp_path / "e.csv").read_text().splitlines()[1].split(",")) == 17


@pytest.mark.parametrize("kind", ["cls", "patch", "rollout"])
def test_attention(capsys: Capture, model: str, pictures: Path, tmp_path: Path, kind: str) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "map.png"
    where = ["--layer", 1, "--head", 2, "--row", 2, "--column", 3, "--size", 24]
    found = run_json(capsys, "attention", file, "--model", model, "--kind", kind, *where, "--out", out)
    [first] = found["pictures"]
    assert first.keys() == {"file", "kind", "layer", "head", "grid", "map", "entropy", "out"}
    assert first["grid"] == [6, 6] and np.shape(first["map"]) == (6, 6)
    assert (first["layer"], first["head"]) == ((None, None) if kind == "rollout" else (1, 2))
    assert first["out"] == str(out) and size_of(out)[0] == 24
    if kind == "patch":
        from vitmsn import attention

        encoder = Encoder.from_pretrained(model)
        rows = attention.patch_attention(encoder.model, encoder.tokens(file, size=24), 1 * 6 + 2, 0)
        np.testing.assert_allclose(np.ravel(first["map"]), rows[0, 1], atol=1e-4)
    assert "entropy in nats" in run(capsys, "attention", file, "--model", model, "--kind", kind)


def test_attention_of_several_makes_a_folder(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run_json(capsys, "attention", pictures, "--model", model, "--out", tmp_path / "maps")
    outs = [one["out"] for one in found["pictures"]]
    assert len(set(outs)) == 10 and all(Path(out).is_file() for out in outs)
    assert {Path(out).name for out in outs} >= {"0-attention.png", "0-attention-2.png"}  # of two folders


@pytest.mark.parametrize(
    ("option", "value", "word"), [("layer", 3, "0 to 2"), ("head", -1, "0 to 2"), ("row", 5, "1 to 4")]
)
def test_attention_that_is_not_there(
    capsys: Capture, model: str, pictures: Path, option: str, value: int, word: str
) -> None:
    file = str(pictures / "blue" / "0.png")
    assert cli.main(["attention", file, "--model", model, f"--{option}", str(value)]) == 2
    assert f"--{option} is {value}; it must be from {word}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "kept"), [(["--kind", "random", "--ratio", 0.5], 8), (["--kind", "focal"], 4), (["--paint", "1.1-2.4"], 8)]
)
def test_mask(capsys: Capture, model: str, pictures: Path, tmp_path: Path, how: list[object], kept: int) -> None:
    file, out = pictures / "blue" / "0.png", tmp_path / "masked.png"
    [found] = run_json(capsys, "mask", file, "--model", model, *how, "--out", out)["pictures"]
    assert (found["kept"], found["total"]) == (kept, 16) and -1 <= found["similarity"] <= 1
    assert found["milliseconds_full"] > 0 and found["milliseconds_masked"] > 0
    assert len(found["top_before"]) == len(found["top_after"]) == 3
    assert size_of(out) == size_of(file)
    assert "similarity" in run(capsys, "mask", file, "--model", model, *how)


def test_the_similarity_of_a_mask(capsys: Capture, model: str, pictures: Path) -> None:
    file = pictures / "blue" / "0.png"
    [found] = run_json(capsys, "mask", file, "--model", model, "--paint", "1.1-4.3")["pictures"]
    encoder = Encoder.from_pretrained(model)
    full, masked = encoder.embed(file)[0], encoder.embed(file, keep_indices=[3, 7, 11, 15])[0]
    expected = full @ masked / np.linalg.norm(full) / np.linalg.norm(masked)
    assert found["similarity"] == pytest.approx(expected, abs=1e-3)


# Learning from examples


@pytest.mark.parametrize("method", ["auto", "knn", "logistic"])
def test_fewshot(capsys: Capture, model: str, pictures: Path, tmp_path: Path, method: str) -> None:
    bundle = tmp_path / "b" / "classes.zip"
    told = run_json(
        capsys, "fewshot", "train", pictures, "--model", model, "--method", method, "--k", 3, "--out", bundle
    )
    assert told["classes"] == [{"label": name, "examples": 5, "accuracy": 1.0} for name in COLOURS]
    assert told["leave_one_out"]["right"] == told["leave_one_out"]["total"] == 10
    query = tmp_path / "query.png"
    picture(COLOURS["red"], 77).save(query)
    found = run_json(capsys, "fewshot", "predict", bundle, query, "--model", model, "--caution", 0)
    [answer] = found["predictions"]
    assert found["classes"] == list(COLOURS) and found["method"] == told["method"]
    assert answer["label"] in ("red", None) and 0.5 < answer["confidence"] <= 1
    assert [one["label"] for one in answer["neighbours"]] == ["red"] * 3
    shown = run(capsys, "fewshot", "predict", bundle, query, "--model", model, "--out", tmp_path / "a.csv")
    assert "query.png" in shown and "most similar example" in (tmp_path / "a.csv").read_text()


def test_fewshot_from_a_zip_and_none_of_these(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    archive = tmp_path / "examples.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in pictures.rglob("*.png"):
            file.write(path, path.relative_to(pictures))
    told = run(capsys, "fewshot", "train", archive, "--model", model, "--out", tmp_path / "b.zip")
    assert "100% right (10 of 10" in told
    Image.new("RGB", (20, 20), (20, 255, 20)).save(tmp_path / "green.png")
    words = ("fewshot", "predict", tmp_path / "b.zip", tmp_path / "green.png", "--model", model)
    assert run_json(capsys, *words)["predictions"][0]["label"] is None
    assert "none of these" in run(capsys, *words)


def test_a_bundle_of_another_model(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    other, bundle = tmp_path / "other", tmp_path / "b.zip"
    torch.manual_seed(7)
    checkpoint.save(other, CONFIG, ViTMSNModel(CONFIG).state_dict(), processor=ViTMSNImageProcessor(16).to_dict())
    run(capsys, "fewshot", "train", pictures, "--model", model, "--out", bundle)
    words = ["fewshot", "predict", str(bundle), str(pictures / "blue"), "--model", str(other)]
    assert cli.main(words) == 2
    assert "was made with" in capsys.readouterr().err
    assert len(run_json(capsys, *words, "--re-embed")["predictions"]) == 5


# Measuring


def test_map(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    found = run_json(capsys, "map", pictures, "--model", model, "--out", tmp_path / "m.png")
    assert len(found["points"]) == 10 and found["points"][0].keys() == {"file", "label", "x", "y"}
    assert {point["label"] for point in found["points"]} == set(COLOURS)
    assert size_of(tmp_path / "m.png")[0] > 100
    shown = run(capsys, "map", pictures, "--model", model, "--limit", 6, "--out", tmp_path / "m.csv")
    assert shown.splitlines()[0].split() == ["class", "pictures", "x", "y"]
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 7


def test_map_skips_bad_pictures(capsys: Capture, model: str, pictures: Path) -> None:
    (pictures / "blue" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (pictures / "blue" / "notes.txt").write_text("no picture")
    found = run_json(capsys, "map", pictures, "--model", model)
    assert len(found["points"]) == 10
    assert {one["file"] for one in found["skipped"]} == {"blue/bad.png", "blue/notes.txt"}


def test_lowshot(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    words = ("lowshot", pictures, "--model", model, "--shots", 1, 2, 9, "--held-out", 0.4)
    outs = ("--figure", tmp_path / "curve.png", "--out", tmp_path / "table.csv")
    found = run_json(capsys, *words, "--baselines", *outs)
    assert [report["model"] for report in found["reports"]] == [model, "random weights"]
    first = found["reports"][0]
    assert (first["train"], first["test"], first["classes"]) == (6, 4, 2)
    assert {row["features"] for row in first["rows"]} == {"post-layernorm", "raw-pixels"}
    assert {row["protocol"] for row in first["rows"]} == {
        "1 image per class", "2 images per class", "kNN, k = 20", "linear, all labels"
    }  # fmt: skip
    assert first["notes"] == ["left out 9 images per class: blue has 3 pictures"]
    assert all(0 <= row["accuracy"] <= 1 for row in first["rows"])
    assert size_of(tmp_path / "curve.png")[0] > 100
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 12
    shown = run(capsys, *words)
    assert "6 pictures to train on, 4 to test on" in shown


def test_lowshot_on_pictures_of_their_own(capsys: Capture, model: str, pictures: Path) -> None:
    features = ("--features", "pre-layernorm", "raw-pixels")
    found = run_json(capsys, "lowshot", pictures, "--test", pictures, "--model", model, "--shots", 1, *features)
    [report] = found["reports"]
    assert (report["train"], report["test"]) == (10, 10)
    assert [row["features"] for row in report["rows"]] == 3 * ["pre-layernorm"] + 3 * ["raw-pixels"]


# Training, converting, serving


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config.VARIANTS, "tiny-8-64", CONFIG.with_labels(num_labels=2))


TRAINING = ("--batch-size", 8, "--held-out", 0.2, "--device", "cpu")
PRETRAIN = ("pretrain", "tiny-8-64", *TRAINING, "--views", "8:8:0.5", "16:8:0.5", "--focal-views", 1, "--prototypes", 6)


@pytest.mark.usefixtures("tiny")
def test_pretrain_end_to_end(capsys: Capture, pictures: Path, tmp_path: Path) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 3)
    found = run_json(capsys, *words, "--out", tmp_path / "run")
    assert found["finished"] and found["steps"] == 3 and found["pictures"] == 8 and 0 <= found["knn"] <= 1
    trained = Encoder.from_pretrained(found["model"])
    assert trained.has_msn_head and trained.feature_mean is not None and trained.card["epochs"] == 3
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2
    start = Encoder.random(config.VARIANTS["tiny-8-64"])
    assert np.abs(trained.embed(pictures / "blue" / "0.png") - start.embed(pictures / "blue" / "0.png")).max() > 1e-3
    # the finished run is not run again, and can be the start of another
    again = run_json(capsys, *words, "--out", tmp_path / "run")
    assert again["steps"] == 3 and again["knn"] == found["knn"]
    go_on = (*PRETRAIN[:-2], "--data", pictures, "--epochs", 1, "--out", tmp_path / "second", "--rate", 1e-9)
    second = run_json(capsys, *go_on, "--init", found["model"])
    assert second["initialised_from"] == found["model"]
    file = pictures / "blue" / "0.png"
    np.testing.assert_allclose(
        Encoder.from_pretrained(second["model"]).embed(file), trained.embed(file), atol=1e-4
    )  # at no rate at all


@pytest.mark.usefixtures("tiny")
def test_a_limit_stops_and_the_same_command_goes_on(capsys: Capture, pictures: Path, tmp_path: Path) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 2, "--out", tmp_path / "run")
    assert "not finished" in run(capsys, *words, "--limit-minutes", 0)
    found = run_json(capsys, *words)
    assert found["finished"] and found["steps"] == 2
    assert cli.main([*map(str, words), "--seed", "4"]) == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_prototypes_come_with_the_start(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 1, "--out", tmp_path / "run", "--init", model)
    assert cli.main([str(word) for word in words]) == 2
    assert "has 5 prototypes; leave --prototypes out" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_pretraining_needs_no_labels(capsys: Capture, pictures: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        path.rename(pictures / f"{number}.png")
    words = (*PRETRAIN, "--data", pictures, "--epochs", 1, "--out", tmp_path / "run")
    assert "no labels" in run(capsys, *words)


def test_finetune_end_to_end(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    words = ("finetune", "--model", model, "--data", pictures, "--out", tmp_path / "run", "--epochs", 30)
    found = run_json(capsys, *words, *TRAINING, "--rate", 3e-3, "--views", "16:1")
    assert found["finished"] and found["steps"] == 30 and found["held_out"]["pictures"] == 2
    tuned = Encoder.from_pretrained(found["model"])
    assert tuned.labels == list(COLOURS)
    answers = tuned.classify(sorted(pictures.rglob("*.png")), top_k=1)
    assert [answer.labels[0] for answer in answers] == ["blue"] * 5 + ["red"] * 5
    assert not any(answer.sure for answer in answers)  # two held-out pictures are no ground to be sure on
    assert ViTMSNForImageClassification.from_pretrained(found["model"]).has_trained_head


def test_finetuning_needs_classes(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    words = ["finetune", "--model", model, "--data", str(pictures / "blue"), "--out", str(tmp_path / "run")]
    assert cli.main(words) == 2
    assert "has 0 classes" in capsys.readouterr().err


def test_head_end_to_end(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    for name, colour in COLOURS.items():
        for number in range(5, 12):
            picture(colour, number).save(pictures / name / f"{number}.png")
    kinds, out = tmp_path / "kinds.json", tmp_path / "taught"
    kinds.write_text('{"colour": ["red", "blue"]}')
    words = ("head", "--model", model, "--data", pictures, "--held-out", 0.25, "--device", "cpu", "--out", out)
    found = run_json(capsys, *words, "--kinds", kinds)
    assert found["held_out"] == {"pictures": 6, "top1": 1.0, "top5": 1.0} and found["pictures"] == 18
    before, after = checkpoint.load(model), checkpoint.load(out)
    assert list(after.config.id2label.values()) == list(COLOURS) and after.processor == before.processor
    assert after.card == {
        "kinds": {"colour": ["red", "blue"]}, "held_out": found["held_out"], "not_sure_below": found["not_sure_below"]
    }  # fmt: skip
    for part in ("tensors", "msn_head"):
        halved = {name: tensor.half().to(tensor.dtype) for name, tensor in getattr(before, part).items()}
        torch.testing.assert_close(getattr(after, part), halved)
    torch.testing.assert_close(after.feature_mean, before.feature_mean)
    for one in run_json(capsys, "classify", pictures, "--model", out)["pictures"]:
        assert one["labels"][0]["label"] == ("red" if "red" in one["file"] else "blue")
        # six held-out pictures are no ground to be sure on
        assert not one["sure"] and one["sentence"].startswith("Not sure")
    shown = run(capsys, *words[:2], out, *words[3:], "--dtype", "float32")  # over itself
    assert shown.split("\n")[0].split() == ["held-out", "pictures", "top-1", "top-5", "sure", "from"]
    assert shown.splitlines()[1].split() == ["6", "100.0", "%", "100.0", "%", "never"]
    assert checkpoint.load(out).card["kinds"] == {"colour": ["red", "blue"]}  # still of these classes
    torch.testing.assert_close(checkpoint.load(out).tensors, after.tensors)


def test_a_head_has_calibrated_logits(model: str) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.arange(3).repeat(200)
    logits = torch.randn(600, 3, generator=generator) + 2 * torch.nn.functional.one_hot(wanted, 3)
    judged, sharper = cli._judged(logits, wanted), cli._judged(4 * logits, wanted)
    assert sharper.temperature == pytest.approx(4 * judged.temperature, rel=1e-3)
    assert sharper.sure == pytest.approx(judged.sure, abs=1e-3) and 1 / 3 < judged.sure < 1 and not judged.notes
    best, guess = (logits / judged.temperature).softmax(1).max(1)
    assert (guess == wanted)[best >= judged.sure].float().mean() > 0.6
    assert judged.held_out["top1"] == pytest.approx(float((guess == wanted).float().mean()), abs=1e-4)


def test_kinds_of_another_head_do_not_stay(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    loaded, start = checkpoint.load(model), tmp_path / "start"
    card = {"trained_on": "everything", "kinds": {"insect": ["ant", "bee"]}}
    checkpoint.save(start, loaded.config, loaded.tensors, processor=loaded.processor, card=card)
    words = ["head", "--model", start, "--data", pictures, "--held-out", "0.4", "--out", tmp_path / "out"]
    assert cli.main([str(word) for word in words]) == 0
    assert "are of other classes and are left out" in capsys.readouterr().err
    left = checkpoint.load(tmp_path / "out").card
    assert left.keys() == {"trained_on", "not_sure_below", "held_out"} and left["trained_on"] == "everything"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"pet": ["cat"]}', "names what is none of the 2 classes: cat."),
        ('{"pet": "blue"}', "must hold one JSON object of kinds"),
        ('["blue"]', "must hold one JSON object of kinds"),
        ("{", "is not JSON"),
    ],
)
def test_kinds_that_do_not_fit(
    capsys: Capture, model: str, pictures: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "kinds.json").write_text(text)
    words = [
        "head",
        "--model",
        model,
        "--data",
        pictures,
        "--kinds",
        tmp_path / "kinds.json",
        "--out",
        tmp_path / "out",
    ]
    assert cli.main([str(word) for word in words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_head_needs_pictures_of_every_class(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    for path in (pictures / "red").rglob("*.png"):
        path.write_bytes(b"no picture")
    words = ["--model", model, "--out", str(tmp_path / "out"), "--held-out", "0.4"]
    assert cli.main(["head", "--data", str(pictures), *words]) == 2
    assert "1 of 2 classes have no picture to learn from (red)" in capsys.readouterr().err
    assert cli.main(["head", "--data", str(pictures / "blue"), *words]) == 2
    assert "has 0 classes" in capsys.readouterr().err


def test_convert(capsys: Capture, model: str, tmp_path: Path) -> None:
    target = tmp_path / "half"
    found = run_json(capsys, "convert", model, target, "--dtype", "float16")
    assert found["parts"] == ["backbone", "classifier", "MSN head", "feature mean"]
    before, after = checkpoint.load(model), checkpoint.load(target)
    assert after.config == before.config and after.processor == before.processor
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor.half().float())
    size = (target / "model.safetensors").stat().st_size
    assert size < 0.7 * (Path(model) / "model.safetensors").stat().st_size
    assert "loads here and in transformers" in run(capsys, "convert", model, target)


def test_serve_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def serve(*given: Any) -> int:
        asked.append(given)
        return 0

    page = types.ModuleType("vitmsn.ui.build")
    page.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vitmsn.ui.build", page)
    assert cli.main(["serve", "--model", "folder", "--host", "0.0.0.0", "--port", "7861"]) == 0
    assert asked == [("folder", "0.0.0.0", 7861)]


def test_the_model_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMSN_MODEL", "from/environment")
    assert cli.parser().parse_args(["classify", "a.png"]).model == "from/environment"
    assert cli.parser().parse_args(["classify", "a.png", "--model", "given"]).model == "given"
