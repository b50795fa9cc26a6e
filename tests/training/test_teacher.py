"""Teachers by name: models of this package, of transformers, functions, files; and the whole of a distillation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pretraining import MODEL, noise
from tests.support.stripes import striped
from vitmsn import checkpoint, cli
from vitmsn.data import open_data
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, InputError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.model import ViTMSNForImageClassification
from vitmsn.msn_head import MSNHead
from vitmsn.training import distil
from vitmsn.training.answers import TeacherViews
from vitmsn.training.distil import DistilRecipe
from vitmsn.training.finetune import Stretch
from vitmsn.training.teacher import open_teacher

FUNCTION = """
import torch

def answer(pixels):
    above, below = (half.float().mean((1, 2, 3)) / 10 for half in pixels.chunk(2, 2))
    return torch.stack([above - below, below - above, 10 - above - below], 1).softmax(1)

nothing = 3
"""
QUICK = DistilRecipe(
    epochs=30, batch_size=16, peak_rate=4e-3, warmup_epochs=2, scale=(0.8, 1.0), average=0.9,
    stretches=(Stretch(0.8, mask_ratio=0.5), Stretch(0.2)),
)  # fmt: skip


@pytest.fixture
def function(tmp_path: Path) -> str:
    file = tmp_path / "halves.py"
    file.write_text(FUNCTION)
    return f"{file}:answer"


def folders(root: Path, labelled: bool = True) -> Path:
    """The pictures of :func:`striped` as files, in a folder for each class where they are labelled."""
    data, labels = striped(80)
    for number, (pixels, label) in enumerate(zip(data, labels.tolist(), strict=True)):
        folder = root / ("above", "below", "dark")[label] if labelled else root
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:02}.png")
    return root


def small(folder: Path, classifier: bool = False, msn_head: bool = False) -> str:
    torch.manual_seed(0)
    model = ViTMSNForImageClassification(MODEL.with_labels(id2label={0: "cat", 1: "dog", 2: "owl"}))
    checkpoint.save(
        folder,
        model.config if classifier else model.config.with_labels(num_labels=2),
        model.vit.state_dict(),
        model.classifier.state_dict() if classifier else None,
        MSNHead(32, 16, 8, 5).state_dict() if msn_head else None,
        processor=ViTMSNImageProcessor({"height": 16, "width": 16}).to_dict(),
    )
    return str(folder)


def test_a_model_answers_with_its_classes_its_prototypes_or_centers_of_its_features(tmp_path: Path) -> None:
    pictures = noise()
    images = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in pictures[:4]]
    classes = open_teacher(small(tmp_path / "c", classifier=True), pictures, "cpu")
    assert classes.classes == ("cat", "dog", "owl") and classes.answer is not None
    encoder = Encoder.from_pretrained(tmp_path / "c", "cpu")
    wanted = encoder.class_probabilities(encoder.embed(images))
    np.testing.assert_allclose(classes.answer(pictures[:4]), wanted, atol=1e-6)

    prototypes = open_teacher(small(tmp_path / "p", msn_head=True), pictures, "cpu")
    encoder = Encoder.from_pretrained(tmp_path / "p", "cpu")
    assert prototypes.answer is not None and prototypes.classes == ()
    np.testing.assert_allclose(prototypes.answer(pictures[:4]), encoder.assign(images, sharpen=True), atol=1e-6)

    features = open_teacher(small(tmp_path / "f"), pictures, "cpu")
    assert features.answer is not None
    near = features.answer(pictures)
    assert near.shape == (24, 6) and torch.allclose(near.sum(1), torch.ones(24), atol=1e-5)
    assert len(set(near.argmax(1).tolist())) > 3


def test_a_teacher_of_several_classes_at_once_is_refused(tmp_path: Path) -> None:
    source = small(tmp_path / "a", classifier=True)
    settings = json.loads((tmp_path / "a" / "config.json").read_text())
    settings["problem_type"] = "multi_label_classification"
    (tmp_path / "a" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="answers with multi_label_classification, and a student learns shares"):
        open_teacher(source, noise(), "cpu")


def test_a_classifier_of_transformers(tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], id2label={0: "cat", 1: "dog"}, label2id={"cat": 0}
    )
    model = transformers.ResNetForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    teacher = open_teacher(f"transformers:{tmp_path}", noise(), "cpu")
    images = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in noise()[:3]]
    with torch.no_grad():
        wanted = model(**processor(images=images, return_tensors="pt")).logits.softmax(1)
    assert teacher.answer is not None and teacher.classes == ("cat", "dog")
    assert torch.allclose(teacher.answer(noise()[:3]), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:answer", "no file .*nowhere.py"),
        ("halves.py:missing", "no function 'missing'"),
        ("halves.py:nothing", "no function 'nothing'"),
        ("nothing.npy", "not an array"),
    ],
)
def test_invalid_teachers_are_refused(
    tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_teacher(name, noise())


def test_a_student_learns_from_labels_and_teacher_and_continues_from_its_folder(tmp_path: Path, function: str) -> None:
    data, start = folders(tmp_path / "data"), small(tmp_path / "start")
    given = {"model": start, "layers": 3, "recipe": QUICK, "held_out": 0.2, "device": "cpu", "precision": "float32"}
    first = distil.run(data, tmp_path / "run", function, **given, say=lambda _: None)  # type: ignore[arg-type]
    assert first is not None and first.finished
    assert first.accuracy is not None and first.accuracy > 0.8 and first.agreement > 0.8
    encoder = Encoder.from_pretrained(first.model, "cpu")
    assert encoder.labels == ["above", "below", "dark"] and encoder.config.num_hidden_layers == 3
    assert encoder.card["held_out"]["pictures"] == 16 and encoder.card["initialised_from"] == start
    assert (first.out / "log.png").exists()
    columns = (first.out / "log.csv").read_text().splitlines()[0].split(",")
    assert {"divergence", "accuracy", "agreement"} <= set(columns)  # which its figure draws

    again = distil.run(  # the classifier and the head beside it are gone on with: it knows all from the first step
        data, tmp_path / "more", function, model=first.model, answers=first.out / "answers",
        recipe=DistilRecipe(epochs=0.3, batch_size=16, peak_rate=1e-6), held_out=0.2, device="cpu", say=lambda _: None,
    )  # fmt: skip
    assert again is not None and again.accuracy is not None
    assert again.accuracy >= first.accuracy - 0.1 and again.agreement >= first.agreement - 0.1
    assert not (tmp_path / "more" / "answers").exists()


def test_without_labels_the_teacher_alone_teaches(tmp_path: Path) -> None:
    data = folders(tmp_path / "data", labelled=False)
    teacher = small(tmp_path / "teacher", classifier=True)
    found = distil.run(data, tmp_path / "run", teacher, model=teacher, recipe=QUICK,
                       held_out=0.2, device="cpu", say=lambda _: None)  # fmt: skip
    assert found is not None and found.accuracy is None and found.calibration is None and found.agreement > 0.5
    assert Encoder.from_pretrained(found.model, "cpu").labels == ["cat", "dog", "owl"]


def test_a_file_of_answers_needs_one_for_each_picture(tmp_path: Path) -> None:
    data, start = folders(tmp_path / "data"), small(tmp_path / "start")
    rows = np.full((80, 4), 0.25, np.float32)
    np.save(tmp_path / "said.npy", rows)
    quick = DistilRecipe(epochs=0.5, batch_size=16)
    found = distil.run(
        data, tmp_path / "run", str(tmp_path / "said.npy"), model=start, recipe=quick, held_out=0.2, device="cpu",
        say=lambda _: None,
    )  # fmt: skip
    assert found is not None and found.card["distilled_from"].endswith("said.npy")
    np.save(tmp_path / "few.npy", rows[:60])
    with pytest.raises(DataError, match="has 60 answers; a file needs one for each whole picture"):
        distil.run(data, tmp_path / "other", str(tmp_path / "few.npy"), model=start, recipe=quick, device="cpu")
    with pytest.raises(DataError, match="a file needs one for each whole picture"):
        distil.run(
            data, tmp_path / "crops", str(tmp_path / "said.npy"), model=start, recipe=quick, device="cpu",
            views=TeacherViews(2, scale=quick.scale),
        )  # fmt: skip


def test_soft_labels_of_a_file_reach_their_pictures(tmp_path: Path, function: str) -> None:
    data, start, file = folders(tmp_path / "data"), small(tmp_path / "start"), tmp_path / "soft.npy"
    wrong = np.eye(3, dtype=np.float16)[(open_data(str(data)).labels + 1) % 3]  # each the class after its own
    np.save(file, wrong)

    def accuracy(soft: Path | None, share: float = 0.0) -> float:
        recipe = replace(QUICK, teacher_share=0.0, similarity=0.0, label_share=share)
        found = distil.run(
            data, tmp_path / f"run-{soft is not None}-{share}", function, model=start, recipe=recipe, soft_labels=soft,
            held_out=0.2, device="cpu", say=lambda _: None,
        )  # fmt: skip
        assert found is not None and found.accuracy is not None
        assert found.card.get("soft_labels") == (None if soft is None else "soft.npy")
        return found.accuracy

    assert accuracy(None) > 0.9 and accuracy(file, share=1.0) > 0.9 and accuracy(file) < 0.2

    np.save(file, wrong[:60])
    with pytest.raises(DataError, match=r"probabilities \(60, 3\); .*data needs a row for each of its pictures"):
        accuracy(file)
    np.save(file, 2 * wrong)
    with pytest.raises(DataError, match="holds no probabilities: each row must be at least 0 and sum to 1"):
        accuracy(file)


def test_the_distil_command_stops_and_resumes(
    tmp_path: Path, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, start = folders(tmp_path / "data"), small(tmp_path / "start")
    words = [
        "distil", "--data", str(data), "--teacher", function, "--model", start, "--out", str(tmp_path / "run"),
        "--epochs", "2", "--batch-size", "16", "--held-out", "0.2", "--teacher-views", "2", "--teacher-side", "16",
        "--set", "teacher_share=0.5", "--views", "16:0.5:0.5", "16:0.5", "--device", "cpu", "--json",
    ]  # fmt: skip
    assert cli.main([*words, "--limit-minutes", "0"]) == 0
    stopped = json.loads(capsys.readouterr().out)
    assert not stopped["finished"] and stopped["steps"] == 1
    assert cli.main(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["finished"] and done["steps"] == 8 and done["distilled_from"] == function
    assert Encoder.from_pretrained(done["model"], "cpu").labels == ["above", "below", "dark"]
