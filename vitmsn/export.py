"""Downloads: a checkpoint that transformers runs, and tables that are safe to open in spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vitmsn import checkpoint, fewshot
from vitmsn.errors import FewShotError

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder
    from vitmsn.fewshot import FewShotClassifier, Lesson
    from vitmsn.gallery import Gallery

# --- a checkpoint --------------------------------------------------------------------------------------------------

# Shown wherever a checkpoint is offered.
CHANGES = (
    "The checkpoint finds the same closest class for every picture. Its probability differs a little: a linear layer "
    "cannot scale a row to length 1, so pictures far from all others come out surer and near ones less sure. "
    "'None of these', 'not sure' and the nearest examples stay in the saved set."
)


def save_checkpoint(folder: str | Path, encoder: Encoder, classifier: FewShotClassifier) -> Path:
    """Write the backbone and a fitted classifier as a model folder: ``ViTMSNForImageClassification`` here and in
    transformers, whose image-classification pipeline runs it as it is.

    classifier: centroid, ridge or logistic, fitted on this encoder's embeddings of at least two classes. Its
    ``to_linear`` becomes the head: the same class for every picture; ``CHANGES`` says what becomes of the probability.
    Raises FewShotError for a classifier that is no linear layer
    or was fitted on something else, CheckpointError for a folder that cannot be written.
    """
    if not isinstance(classifier, (fewshot.CentroidClassifier, fewshot.RidgeClassifier, fewshot.LogisticClassifier)):
        raise FewShotError(
            f"{type(classifier).__name__} compares with every example, which no linear layer can: learn with centroid, "
            "ridge or logistic to save a checkpoint."
        )
    weight, bias = classifier.to_linear()
    if weight.shape[1] != encoder.config.hidden_size:
        raise FewShotError(
            f"The classifier learned from rows of {weight.shape[1]} numbers and {encoder.name} makes "
            f"{encoder.config.hidden_size}: give the encoder that made the rows."
        )
    labels = {index: str(label) for index, label in enumerate(classifier.classes_)}
    mean = encoder.feature_mean
    card: dict[str, object] = {
        "backbone": encoder.name,
        "trained_on": f"a few examples of {', '.join(labels.values())}",
    }
    checkpoint.save(
        folder,
        replace(encoder.config.with_labels(id2label=labels), problem_type=None),
        {key: tensor.float() for key, tensor in encoder.model.state_dict().items()},
        classifier={
            "weight": torch.from_numpy(np.asarray(weight, np.float32)),
            "bias": torch.from_numpy(np.asarray(bias, np.float32)),
        },
        feature_mean=None if mean is None else torch.from_numpy(np.asarray(mean, np.float32)),
        processor=encoder.processor.to_dict(),
        card=card,
    )
    return Path(folder)


def linear_lesson(lesson: Lesson, gallery: Gallery, encoder: Encoder) -> Lesson:
    """The lesson to save as a checkpoint: the same one where it is linear; where raw pixels were learned, the automatic
    one on the model's embeddings. Raises FewShotError for kNN.
    """
    if lesson.method == "pixels":
        method = "ridge" if lesson.shots >= fewshot.ENOUGH else "centroid"
        return fewshot.learn(gallery.X, gallery.y, method, feature_mean=encoder.feature_mean, pixels=gallery.pixels)
    if not lesson.linear:
        raise FewShotError(
            "k nearest examples cannot be a checkpoint, because it compares with every example: choose automatic, "
            "centroid, ridge or logistic, or save the set instead."
        )
    return lesson


def checkpoint_zip(encoder: Encoder, classifier: FewShotClassifier, target: str | Path) -> Path:
    """``save_checkpoint`` as one zip, whose files lie side by side; returns its path."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, encoder, classifier)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
            for file in sorted(Path(folder).iterdir()):
                packed.write(file, file.name)
            packed.writestr("README.md", _card(encoder, [str(label) for label in classifier.classes_]))
    return Path(target)


def _card(encoder: Encoder, labels: Sequence[str]) -> str:
    names = "\n".join(f"- {json.dumps(label, ensure_ascii=False)}" for label in labels)
    return (
        f"# A few-shot classifier on {encoder.name}\n\n{CHANGES}\n\n```python\nfrom transformers import pipeline\n\n"
        'classify = pipeline("image-classification", model="this folder")\nprint(classify("picture.jpg"))\n```\n\n'
        f"It tells apart:\n\n{names}\n"
    )


# --- tables --------------------------------------------------------------------------------------------------------

# A cell that begins so is a formula to a spreadsheet; a quote in front makes it text. Numbers stay numbers.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV (RFC 4180: CRLF, quoted where needed), one line per row under `header`.

    Strings that a spreadsheet would run as a formula, also behind spaces, get a leading quote; other values are written
    as Python prints them.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    for row in (header, *rows):
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def embeddings_csv(gallery: Gallery) -> str:
    """The gallery's enabled examples as CSV: file, class, and one column for each number of the embedding."""
    examples = gallery.enabled
    width = len(examples[0].embedding) if examples else 0
    rows = ([example.name, example.label, *np.round(example.embedding.astype(float), 6)] for example in examples)
    return csv_text(["file", "class", *map(str, range(width))], rows)


def _cell(value: object) -> object:
    if isinstance(value, str) and (value.startswith(FORMULA) or value.lstrip().startswith(FORMULA)):
        return "'" + value
    return value
