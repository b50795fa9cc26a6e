"""Checkpoints that transformers runs, and CSV that is safe in spreadsheets."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from vitmsn import image
from vitmsn.config import ViTMSNConfig
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError
from vitmsn.export import CHANGES, checkpoint_zip, csv_text, embeddings_csv, linear_lesson, save_checkpoint
from vitmsn.fewshot import learn
from vitmsn.fewshot.geometry import softmax
from vitmsn.gallery import Gallery
from vitmsn.model import ViTMSNForImageClassification


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_spreadsheet_formulas_become_text(cell: str) -> None:
    assert read(csv_text(["name"], [[cell]]))[1][0].startswith("'")


def test_numbers_and_plain_text_stay() -> None:
    assert csv_text(["file", "p"], [["a.png", -0.25], ["b", 3]]) == "file,p\r\na.png,-0.25\r\nb,3\r\n"


def test_commas_quotes_and_lines_come_back_as_they_were() -> None:
    cell = 'a "quoted", two-line\nname'
    assert read(csv_text(["name"], [[cell]])) == [["name"], [cell]]


def test_formulas_in_headers_become_text() -> None:
    assert csv_text(["=cmd"], []) == "'=cmd\r\n"


# --- a checkpoint --------------------------------------------------------------------------------------------------

CONFIG = ViTMSNConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


@pytest.fixture(scope="module")
def gallery(encoder: Encoder) -> Gallery:
    made = Gallery(encoder)
    for label in ("=red", "<b>blue</b>", "$green$"):
        rng = np.random.default_rng(len(label))
        noise = rng.normal(size=(6, 24, 20, 3)) * 40 + rng.uniform(0, 255, 3)
        pictures = [image.decode(Image.fromarray(rows.clip(0, 255).astype(np.uint8)), name="-x.png") for rows in noise]
        made.add(label, pictures, encoder.embed(pictures))
    return made


@pytest.mark.parametrize("method", ["centroid", "ridge", "logistic"])
def test_transformers_runs_the_checkpoint(encoder: Encoder, gallery: Gallery, tmp_path: Path, method: str) -> None:
    lesson = learn(gallery.X, gallery.y, method)
    folder = save_checkpoint(tmp_path / "model", encoder, lesson.classifier)
    pictures = [example.picture() for example in gallery.examples]
    X = encoder.embed(pictures)
    weight, bias = lesson.classifier.to_linear()
    expected = softmax(X @ weight.T + bias)
    run = transformers.pipeline("image-classification", model=str(folder), device="cpu")
    for row, label, said in zip(expected, lesson.classifier.predict(X), run(pictures, top_k=3), strict=True):
        assert said[0]["label"] == label
        scores = {one["label"]: one["score"] for one in said}
        np.testing.assert_allclose([scores[name] for name in lesson.classes], row, atol=1e-4)
    ours = Encoder.from_pretrained(folder, device="cpu", dtype="float32")
    assert ours.labels == lesson.classes
    np.testing.assert_allclose(ours.class_probabilities(ours.embed(pictures)), expected, atol=1e-4)


def test_nonlinear_classifiers_are_refused(encoder: Encoder, gallery: Gallery, tmp_path: Path) -> None:
    knn = learn(gallery.X, gallery.y, "knn")
    with pytest.raises(FewShotError, match="KNNClassifier compares with every example"):
        save_checkpoint(tmp_path, encoder, knn.classifier)
    with pytest.raises(FewShotError, match="k nearest examples cannot be a checkpoint"):
        linear_lesson(knn, gallery, encoder)
    short = learn(gallery.X[:, :8], gallery.y, "ridge")
    with pytest.raises(FewShotError, match="learned from rows of 8 numbers"):
        save_checkpoint(tmp_path, encoder, short.classifier)
    assert not list(tmp_path.iterdir())
    pixels = learn(gallery.X, gallery.y, "pixels", pixels=gallery.pixels)
    assert linear_lesson(pixels, gallery, encoder).method == "ridge"
    ridge = learn(gallery.X, gallery.y, "ridge")
    assert linear_lesson(ridge, gallery, encoder) is ridge


def test_one_zip_holds_the_checkpoint_and_says_what_changes(encoder: Encoder, gallery: Gallery, tmp_path: Path) -> None:
    lesson = learn(gallery.X, gallery.y)
    with zipfile.ZipFile(checkpoint_zip(encoder, lesson.classifier, tmp_path / "model.zip")) as packed:
        assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= set(packed.namelist())
        card = packed.read("README.md").decode()
        packed.extractall(tmp_path / "there")
    assert CHANGES in card and '"$green$"' in card
    assert ViTMSNForImageClassification.from_pretrained(tmp_path / "there").config.id2label[0] == "$green$"


def test_embeddings_as_a_table(gallery: Gallery) -> None:
    head, *rows = read(embeddings_csv(gallery))
    assert head == ["file", "class", *map(str, range(16))] and len(rows) == 18
    assert rows[0][:2] == ["'-x.png", "'=red"]
    np.testing.assert_allclose([float(cell) for cell in rows[0][2:]], gallery.X[0], atol=1e-6)
    assert read(embeddings_csv(Gallery(Encoder.random(CONFIG, device="cpu")))) == [["file", "class"]]
