"""The embedded weights: complete, small, better than random, and as their card says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vitmsn import checkpoint, fewshot, image, masking
from vitmsn.config import VARIANTS
from vitmsn.data import open_data
from vitmsn.encoder import Encoder
from vitmsn.lowshot import extract, knn_accuracy
from vitmsn.ui.shared import examples

FOLDERS = [checkpoint.embedded(), checkpoint.embedded(checkpoint.MSN_ONLY)]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_pretrained(None, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def msn_only() -> Encoder:
    return Encoder.from_pretrained(checkpoint.MSN_ONLY, device="cpu", dtype="float32")


@each_folder
def test_files_are_the_released_ones(folder: Path) -> None:
    listed = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        listed[name] = digest
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.suffix in (".json", ".safetensors")
    }
    assert found == listed


@each_folder
def test_files_are_small_and_in_half_precision(folder: Path) -> None:
    for file in folder.iterdir():
        assert file.stat().st_size < 10 * 2**20, file.name
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                slices = [tensors.get_slice(key) for key in tensors.keys()]  # noqa: SIM118
            kinds = {part.get_dtype() for part in slices if len(part.get_shape()) > 1}  # vectors may stay exact
            assert kinds <= {"F16"}, file.name


def test_its_config_matches_the_table_of_variants(encoder: Encoder) -> None:
    wanted = VARIANTS["tiny-8-64"]
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size"):
        assert getattr(encoder.config, name) == getattr(wanted, name), name
    assert len(encoder.labels) == 200
    assert encoder.has_classifier
    assert encoder.has_msn_head
    assert encoder.feature_mean is not None
    assert 0 < encoder.card["not_sure_below"] < 1
    for kind, members in encoder.card["kinds"].items():
        assert set(members) <= set(encoder.labels), kind


def test_prototypes_are_in_use(encoder: Encoder) -> None:
    pictures = [picture for starter in examples.starter_sets() for row in starter.support.values() for picture in row]
    assigned = encoder.assign(pictures)
    assert assigned.sum(1) == pytest.approx(1, abs=1e-4)
    assert len(set(assigned.argmax(1))) > 5  # collapse would send everything to one


@pytest.mark.parametrize(("dtype", "most"), [("float16", 0.003), ("bfloat16", 0.02)])
def test_half_precision_changes_no_prediction(encoder: Encoder, dtype: str, most: float) -> None:
    pictures = [photograph.picture for photograph in examples.photographs()]
    half = Encoder.from_pretrained(encoder.source, device="cpu", dtype=dtype)
    full_shares, half_shares = (one.class_probabilities(one.embed(pictures)) for one in (encoder, half))
    np.testing.assert_allclose(half_shares, full_shares, atol=most)
    second, first = np.sort(full_shares)[:, -2:].T
    clear = first - second > 2 * most  # of the others either class may come first
    assert clear.sum() >= len(pictures) / 4
    np.testing.assert_array_equal(half_shares.argmax(1)[clear], full_shares.argmax(1)[clear])


def test_its_features_beat_random_weights_on_textures(encoder: Encoder) -> None:
    textures = next(starter for starter in examples.starter_sets() if "texture" in starter.name.lower())
    labels = [label for label, row in textures.support.items() for _ in row]
    pictures = [picture for row in textures.support.values() for picture in row]

    def accuracy(model: Encoder) -> float:
        estimator = fewshot.CentroidClassifier(center=model.feature_mean)
        return fewshot.leave_one_out(estimator, model.embed(pictures), labels).accuracy

    assert accuracy(encoder) >= 0.8


def test_neighbors_on_held_out_pictures(encoder: Encoder, msn_only: Encoder, shared_data: Path) -> None:
    source = shared_data / "tiny-imagenet"
    gallery = open_data(source, split="train").subset(range(1500))
    queries = open_data(source, split="validation").subset(range(500))
    embedded, alone, random = (
        knn_accuracy(*_features(model, gallery), *_features(model, queries))
        for model in (encoder, msn_only, Encoder.random(device="cpu"))
    )
    assert embedded > 2 * alone and alone > 1.5 * random


def test_accuracy_on_held_out_pictures(encoder: Encoder, shared_data: Path) -> None:
    queries = open_data(shared_data / "tiny-imagenet", split="validation").subset(range(600))
    names = [queries.classes[label] for label in queries.labels]
    answers = encoder.classify([record.data for record in queries], top_k=5)
    right = np.array([answer.labels[0] == wanted for answer, wanted in zip(answers, names, strict=True)])
    sure = np.array([answer.sure for answer in answers])
    stated = np.array([answer.probabilities[0] for answer in answers])
    assert right.mean() > 0.36  # its card says more; 600 pictures have luck
    assert sure.mean() > 0.25 and right[sure].mean() > 0.6
    assert abs(stated.mean() - right.mean()) < 0.06


def test_masking_keeps_sure_predictions(encoder: Encoder, shared_data: Path) -> None:
    queries = [
        record.data for record in open_data(shared_data / "tiny-imagenet", split="validation").subset(range(400))
    ]
    keep = masking.random_mask(encoder.grid(), 0.7, torch.Generator().manual_seed(0), batch=len(queries))
    before, after = (encoder.classify(queries, top_k=1, keep_indices=kept) for kept in (None, keep))
    sure = [(a.labels[0], b.labels[0]) for a, b in zip(before, after, strict=True) if a.probabilities[0] > 0.5]
    assert len(sure) > 80 and np.mean([first == second for first, second in sure]) > 0.7


def _features(model: Encoder, dataset: object) -> tuple[np.ndarray, np.ndarray]:
    rows = extract(model, dataset)  # type: ignore[arg-type]
    return rows.X, rows.y


def test_every_example_photograph_gets_a_prediction(encoder: Encoder) -> None:
    for example in examples.photographs():
        (answer,) = encoder.classify([image.decode(example.picture)])
        assert answer.labels[0] in answer.sentence()
