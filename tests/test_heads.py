"""Heads: classes, numbers and prototypes of embeddings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.encoders import CONFIG, LABELS, picture, save_everything
from vitmsn import checkpoint
from vitmsn.classification import Classification
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.msn_head import MSNHead


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.random(CONFIG, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_everything(tmp_path_factory.mktemp("model"))


@pytest.fixture
def whole(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder, device="cpu", dtype="float32")


def test_classes_are_the_softmax_of_the_linear_head(whole: Encoder, folder: Path) -> None:
    image = picture()
    head = checkpoint.load(folder).classifier
    logits = torch.from_numpy(whole.embed(image)) @ head["weight"].T + head["bias"]
    expected = logits.softmax(-1)[0]
    [found] = whole.classify(image, top_k=9)  # more than there are
    assert found.labels == [LABELS[i] for i in expected.argsort(descending=True)]
    np.testing.assert_allclose(found.probabilities, sorted(expected.tolist(), reverse=True), rtol=1e-4)
    assert len(whole.classify([image, picture(1)], top_k=2)[1].labels) == 2


def test_multi_label_models_give_independent_probabilities(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(folder)
    config = replace(loaded.config, problem_type="multi_label_classification")
    checkpoint.save(tmp_path, config, loaded.tensors, classifier=loaded.classifier, processor=loaded.processor)
    encoder, image = models.read(tmp_path), picture()
    logits = torch.from_numpy(encoder.embed(image)) @ loaded.classifier["weight"].T + loaded.classifier["bias"]
    np.testing.assert_allclose(encoder.class_probabilities(encoder.embed(image)), logits.sigmoid(), atol=1e-5)
    found = encoder._heads.named(np.array([0.899, 0.2, 0.866, 0.51]), 3)
    assert (found.sure, found.right, found.problem_type) == (True, 3, "multi_label_classification")
    assert found.sentence() == "This shows: siamese cat 90 %, goldfish 87 %, shark 51 %."
    doubt = encoder._heads.named(np.array([0.4, 0.2, 0.1, 0.0]), 3)
    assert not doubt.sure and doubt.kind is None and doubt.sentence() == "Not sure. Closest match: siamese cat (40 %)."


def test_regression_models_give_numbers(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(folder)
    config = replace(loaded.config.with_labels(id2label={0: "age"}), problem_type="regression")
    head = {name: tensor[:1] for name, tensor in loaded.classifier.items()}
    checkpoint.save(tmp_path, config, loaded.tensors, classifier=head, processor=loaded.processor)
    encoder, image = models.read(tmp_path), picture()
    value = float(encoder.embed(image)[0] @ head["weight"][0].numpy() + head["bias"][0].item())
    [found] = encoder.classify(image)
    assert found.probabilities == pytest.approx([value], abs=1e-5)
    assert found.sentence() == f"age: {value:.4g}."
    assert found.to_dict()["labels"] == [{"label": "age", "value": pytest.approx(value, abs=1e-5)}]
    assert not encoder.has_classifier and encoder.problem_type == "regression"
    with pytest.raises(MissingHeadError, match=r"gives numbers \(age\) and no probabilities of classes"):
        encoder.class_probabilities(encoder.embed(image))


def test_a_backbone_has_no_classes(encoder: Encoder) -> None:
    with pytest.raises(MissingHeadError, match="random weights is a backbone without a trained classifier"):
        encoder.classify(picture())
    with pytest.raises(MissingHeadError, match="no projector and prototypes"):
        encoder.assign(picture())
    assert encoder.labels == [] and not encoder.has_classifier and not encoder.has_msn_head


def test_top_k_below_one(whole: Encoder) -> None:
    with pytest.raises(InputError, match="top_k is 0"):
        whole.classify(picture(), top_k=0)


def test_embeddings_of_another_model_are_refused(whole: Encoder) -> None:
    with pytest.raises(InputError, match=r"\(2, 5\).*16"):
        whole.classify_embeddings(np.zeros((2, 5), np.float32))
    assert len(whole.classify_embeddings(np.zeros((2, 16)))) == 2  # float64 is as good


@pytest.mark.parametrize(
    ("probabilities", "sure", "kind", "sentence"),
    [
        ([0.7, 0.1, 0.1, 0.1], True, None, "This looks like: siamese cat (70 %)."),
        (
            [0.4, 0.3, 0.2, 0.1],
            False,
            "cat",
            "Probably a cat (70 %). Closest match: siamese cat (40 %).",
        ),
        (
            [0.1, 0.3, 0.55, 0.05],
            False,
            "fish",
            "Probably a fish (60 %). Closest match: goldfish (55 %).",
        ),
        ([0.3, 0.25, 0.25, 0.2], False, None, "Not sure. Closest match: siamese cat (30 %)."),
        ([0.999, 0.0005, 0.0005, 0], True, None, "This looks like: siamese cat (over 99 %)."),
    ],
)
def test_predictions_are_a_class_a_kind_or_not_sure(
    whole: Encoder, probabilities: list[float], sure: bool, kind: str | None, sentence: str
) -> None:
    found: Classification = whole._heads.named(np.array(probabilities), 4)
    assert (found.sure, found.kind, found.sentence()) == (sure, kind, sentence)
    told = found.to_dict()
    assert (told["label"], told["reason"]) == ((found.labels[0], "") if sure else (None, "not sure"))
    assert (told["closest"], told["probability"]) == (found.labels[0], max(probabilities))


def test_assignments_match_the_msn_head(whole: Encoder, folder: Path) -> None:
    loaded = checkpoint.load(folder)
    head = MSNHead.from_tensors(loaded.msn_head, 0.2, 0.5).eval()
    cls = torch.from_numpy(whole.embed([picture(0), picture(1)]))
    with torch.no_grad():
        cosine = torch.nn.functional.normalize(head(cls)) @ torch.nn.functional.normalize(head.prototypes).T
    plain = whole.assign([picture(0), picture(1)])
    np.testing.assert_allclose(plain, (cosine / 0.2).softmax(-1).numpy(), rtol=1e-4)
    sharp = whole.assign([picture(0), picture(1)], sharpen=True)
    np.testing.assert_allclose(sharp, (cosine / 0.1).softmax(-1).numpy(), rtol=1e-4)
    np.testing.assert_allclose(sharp.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(whole.assign_embeddings(cls.numpy(), sharpen=True), sharp)
    warm = whole.assign_embeddings(cls.numpy(), temperature=0.3)
    np.testing.assert_allclose(warm, (cosine / 0.3).softmax(-1).numpy(), rtol=1e-4)
    with pytest.raises(InputError, match=r"\(2, 5\).*16"):
        whole.assign_embeddings(np.zeros((2, 5), np.float32))
