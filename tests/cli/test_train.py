"""pretrain, finetune and head: tiny ones end to end, and their mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from vitmsn import checkpoint, cli
from vitmsn.config import ViTMSNConfig
from vitmsn.devices import choose_dtype
from vitmsn.encoder import Encoder
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.training import recipe

TRAINING = ("--batch-size", 8, "--held-out", 0.2, "--device", "cpu")
PRETRAIN = ("pretrain", "tiny-8-64", *TRAINING, "--views", "8:8:0.5", "16:8:0.5", "--focal-views", 1, "--prototypes", 6)
COLORS = {"blue": (40, 40, 200), "red": (200, 40, 40)}
Run = Any  # conftest's: run(...) gives what was printed, run.json(...) the parsed answer
Picture = Callable[..., Image.Image]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, small: ViTMSNConfig) -> None:
    monkeypatch.setitem(
        recipe.PRESETS, "tiny-8-64", recipe.Recipe(model=small.with_labels(num_labels=2), picture_size=16)
    )


@pytest.mark.usefixtures("tiny")
def test_pretrain_end_to_end(run: Run, pictures: Path, tmp_path: Path) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 3)
    found = run.json(*words, "--out", tmp_path / "run")
    assert found["finished"] and found["steps"] == 3 and found["pictures"] == 8 and 0 <= found["knn"] <= 1
    trained = Encoder.from_pretrained(found["model"])
    assert trained.has_msn_head and trained.feature_mean is not None and trained.card["epochs"] == 3
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2
    start = Encoder.random(recipe.PRESETS["tiny-8-64"].model)
    assert np.abs(trained.embed(pictures / "blue" / "0.png") - start.embed(pictures / "blue" / "0.png")).max() > 1e-3
    # the finished run is not run again, and can be the start of another
    again = run.json(*words, "--out", tmp_path / "run")
    assert again["steps"] == 3 and again["knn"] == found["knn"]
    go_on = (*PRETRAIN[:-2], "--data", pictures, "--epochs", 1, "--out", tmp_path / "second", "--rate", 1e-9)
    second = run.json(*go_on, "--init", found["model"])
    assert second["initialised_from"] == found["model"]
    file = pictures / "blue" / "0.png"
    np.testing.assert_allclose(
        Encoder.from_pretrained(second["model"]).embed(file), trained.embed(file), atol=1e-4
    )  # at no rate at all


@pytest.mark.usefixtures("tiny")
def test_a_time_limit_stops_and_the_same_command_resumes(
    run: Run, capsys: Capture, pictures: Path, tmp_path: Path
) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 2, "--out", tmp_path / "run")
    assert "not finished" in run(*words, "--limit-minutes", 0)
    found = run.json(*words)
    assert found["finished"] and found["steps"] == 2
    assert cli.main([*map(str, words), "--seed", "4"]) == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_init_refuses_another_number_of_prototypes(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 1, "--out", tmp_path / "run", "--init", model)
    assert cli.main([str(word) for word in words]) == 2
    assert "has 5 prototypes; leave --prototypes out" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_set_changes_any_setting_and_pictures_can_stay_on_disk(run: Run, pictures: Path, tmp_path: Path) -> None:
    words = (*PRETRAIN, "--data", pictures, "--epochs", 2, "--log-every", 1, "--save-every", 1)
    more = ("--set", "me_max_weight=0", "sinkhorn_iterations=0", "--as-original")
    held, streamed = (
        run.json(*words, *more, *extra, "--out", tmp_path / str(n)) for n, extra in enumerate(((), ("--stream",)))
    )
    logs = [(tmp_path / str(n) / "log.csv").read_text().splitlines() for n in (0, 1)]
    columns = logs[0][0].split(",")
    assert len(logs[0]) == 3 and {"feature_rank", "knn", "backward_ms"} <= set(columns)
    for ours, theirs in zip(*logs, strict=True):  # the same losses from disk
        assert ours.split(",")[:6] == theirs.split(",")[:6]
    row = dict(zip(columns, logs[0][1].split(","), strict=True))
    assert row["loss"] == row["cross_entropy"]  # me-max is off
    auto = str(choose_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    assert held["precision"] == streamed["precision"] == auto and held["processes"] == 1
    with Image.open(tmp_path / "0" / "log.png") as figure:
        assert figure.size == (1200, 800)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--set", "lambda=5"), "There is no setting 'lambda'"),
        (("--batch-size", "5000"), "8 pictures do not fill a batch of 5000"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_bad_options_are_reported_before_the_run(
    capsys: Capture, pictures: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    given = [str(word) for word in (*PRETRAIN, "--data", pictures, "--out", tmp_path / "run", *words)]
    assert cli.main(given) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_lists_the_known_ones(capsys: Capture, pictures: Path, tmp_path: Path) -> None:
    assert cli.main(["pretrain", "huge", "--data", str(pictures), "--out", str(tmp_path)]) == 2
    assert (
        "choose among tiny-8-64, digits, shapes, small-16, base-16, base-4, large-16, large-7"
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("tiny")
def test_pretraining_needs_no_labels(run: Run, pictures: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        path.rename(pictures / f"{number}.png")
    words = (*PRETRAIN, "--data", pictures, "--epochs", 1, "--out", tmp_path / "run")
    assert "no labels" in run(*words)


def test_finetune_end_to_end(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    words = ("finetune", "--model", model, "--data", pictures, "--out", tmp_path / "run", "--epochs", 30)
    (tmp_path / "kinds.json").write_text('{"cold": ["blue"]}')
    more = ("--rate", 3e-3, "--views", "16:0.5:0.5", "16:0.5", "--kinds", tmp_path / "kinds.json", "--dtype", "float16")
    found = run.json(*words, *TRAINING, *more)
    assert found["finished"] and found["steps"] == 30 and found["held_out"]["pictures"] == 2
    tuned = Encoder.from_pretrained(found["model"])
    assert tuned.labels == ["blue", "red"]
    answers = tuned.classify(sorted(pictures.rglob("*.png")), top_k=1)
    assert [answer.labels[0] for answer in answers] == ["blue"] * 5 + ["red"] * 5
    assert not any(answer.sure for answer in answers)  # two held-out pictures are no ground to be sure on
    assert ViTMSNForImageClassification.from_pretrained(found["model"]).has_trained_head
    saved = checkpoint.load(found["model"])
    assert saved.card["trained_on"] == "pictures"
    assert saved.card["kinds"] == {"cold": ["blue"]} and saved.feature_mean is not None
    with safe_open(Path(found["model"]) / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.parametrize("views", ["16", "16:1:0:0", "wide:1", "16:half"])
def test_invalid_views_are_refused(capsys: Capture, views: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["finetune", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--views", views])
    assert f"'{views}' is no SIDE:SHARE[:DROPPED] like 64:0.8:0.7" in capsys.readouterr().err


def test_finetuning_from_random_weights(run: Run, pictures: Path, tmp_path: Path) -> None:
    words = ("finetune", "--data", pictures, *TRAINING, "--views", "16:1", "--epochs", 1, "--model", "random")
    found = run.json(*words, "--out", tmp_path / "run")
    assert found["fine_tuned_from"] == "random" and found["steps"] == 1
    assert checkpoint.load(found["model"]).config.hidden_size == 192


def test_finetuning_needs_classes(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
    words = ["finetune", "--model", model, "--data", str(pictures / "blue"), "--out", str(tmp_path / "run")]
    assert cli.main(words) == 2
    assert "has 0 classes" in capsys.readouterr().err


def test_head_end_to_end(run: Run, model: str, pictures: Path, tmp_path: Path, picture: Picture) -> None:
    for name, color in COLORS.items():
        for number in range(5, 12):
            picture(color, number).save(pictures / name / f"{number}.png")
    kinds, out = tmp_path / "kinds.json", tmp_path / "taught"
    kinds.write_text('{"color": ["red", "blue"]}')
    words = ("head", "--model", model, "--data", pictures, "--held-out", 0.25, "--device", "cpu", "--out", out)
    found = run.json(*words, "--kinds", kinds)
    assert found["held_out"] == {"pictures": 6, "top1": 1.0, "top5": 1.0} and found["pictures"] == 18
    before, after = checkpoint.load(model), checkpoint.load(out)
    assert list(after.config.id2label.values()) == ["blue", "red"] and after.processor == before.processor
    assert after.card == {
        "kinds": {"color": ["red", "blue"]}, "held_out": found["held_out"], "not_sure_below": found["not_sure_below"]
    }  # fmt: skip
    for part in ("tensors", "msn_head"):
        halved = {name: tensor.half().to(tensor.dtype) for name, tensor in getattr(before, part).items()}
        torch.testing.assert_close(getattr(after, part), halved)
    torch.testing.assert_close(after.feature_mean, before.feature_mean)
    for one in run.json("classify", pictures, "--model", out)["pictures"]:
        assert one["labels"][0]["label"] == ("red" if "red" in one["file"] else "blue")
        # six held-out pictures are no ground to be sure on
        assert one["label"] is None and one["sentence"].startswith("Not sure")
    shown = run(*words[:2], out, *words[3:], "--dtype", "float32")  # over itself
    assert shown.split("\n")[0].split() == ["held-out", "pictures", "top-1", "top-5", "sure", "from"]
    assert shown.splitlines()[1].split() == ["6", "100.0", "%", "100.0", "%", "never"]
    assert checkpoint.load(out).card["kinds"] == {"color": ["red", "blue"]}  # still of these classes
    torch.testing.assert_close(checkpoint.load(out).tensors, after.tensors)


def test_an_overconfident_classifier_is_calibrated(
    run: Run, capsys: Capture, model: str, pictures: Path, tmp_path: Path, picture: Picture
) -> None:
    for name, color in COLORS.items():
        for number in range(5, 40):  # some are labelled wrongly, so that nobody can be sure
            shown = color if number % 5 else COLORS["blue" if name == "red" else "red"]
            picture(shown, number).save(pictures / name / f"{number}.png")
    taught, out = tmp_path / "taught", tmp_path / "calibrated"
    run("head", "--model", model, "--data", pictures, "--held-out", 0.25, "--device", "cpu", "--out", taught)
    loaded = checkpoint.load(taught)
    loud = {name: 30 * tensor for name, tensor in loaded.classifier.items()}
    checkpoint.save(taught, loaded.config, loaded.tensors, loud, loaded.msn_head, processor=loaded.processor)
    found = run.json("calibrate", taught, "--data", pictures, "--share", 0.5, "--out", out)
    assert found["temperature"] > 10 and found["held_out"]["pictures"] in range(30, 45)
    made = checkpoint.load(out)
    assert torch.allclose(made.classifier["weight"], loud["weight"] / found["temperature"], rtol=1e-3)
    assert made.card["held_out"] == found["held_out"] and made.msn_head.keys() == loaded.msn_head.keys()
    assert cli.main(["calibrate", str(taught), "--data", str(tmp_path), "--out", str(out)]) == 2
    assert "None of the classes of" in capsys.readouterr().err


def test_kinds_of_a_replaced_head_are_removed(capsys: Capture, model: str, pictures: Path, tmp_path: Path) -> None:
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
        ('{"pet": ["cat"]}', "name what is none of the 2 classes: cat;"),
        ('{"pet": "blue"}', "must hold one JSON object of kinds"),
        ('["blue"]', "must hold one JSON object of kinds"),
        ("{", "is not JSON"),
    ],
)
def test_invalid_kinds_are_refused(
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


def test_digits_need_no_data_option_and_can_be_watched(run: Run, tmp_path: Path) -> None:
    short = ("pretrain", "digits", "--epochs", 0.1, "--batch-size", 64, "--focal-views", 0, "--device", "cpu")
    found = run.json(*short, "--out", tmp_path / "run")
    assert found["trained_on"] == "scikit-learn's digits" and found["pictures"] == 1437 and found["steps"] == 2
    assert 0.4 < found["knn_at_the_start"] < 0.8 and 0.3 < found["knn"] < 0.9
    before = sorted(tmp_path.rglob("*"))
    about, *frames = [json.loads(line) for line in run(*short, "--watch", "--log-every", 1).splitlines()]
    assert about["held_out"] == 360 and [frame["step"] for frame in frames] == [0, 1, 2]
    assert frames[0]["knn"] == found["knn_at_the_start"] and frames[-1]["knn"] == found["knn"]
    assert sorted(tmp_path.rglob("*")) == before  # nothing on disk


def test_pretrain_names_missing_options(run: Run, capsys: Capture, tmp_path: Path) -> None:
    assert cli.main(["pretrain", "tiny-8-64", "--out", str(tmp_path / "run")]) == 2
    assert "tiny-8-64 has no data of its own; give --data" in capsys.readouterr().err
    assert cli.main(["pretrain", "digits"]) == 2
    assert "give --out" in capsys.readouterr().err
