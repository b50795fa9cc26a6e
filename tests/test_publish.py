"""What would be sent of a model folder, and its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support import models
from vitmsn import publish
from vitmsn.errors import CheckpointError, ExportError

ABOUT = {
    "trained_on": "my | pets\n# not a heading",
    "pictures": 900,
    "held_out": {"pictures": 100, "top1": 0.75, "top5": 0.9},
    "not_sure_below": 0.4,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models.write(tmp_path / "model", models.small(("ant", "<b>bee", "cat")), card=ABOUT)


def test_only_the_files_of_a_model_are_sent(folder: Path) -> None:
    (folder / "log.csv").write_text("secret")
    (folder / "state.pt").write_bytes(b"secret")
    planned = publish.plan(folder, "me/pets")
    assert [file for file, _ in planned.files] == [
        *("config.json", "model.safetensors", "preprocessor_config.json", "vitmsn.json", "msn_head.safetensors"),
        "README.md",
    ]
    sizes = dict(planned.files)
    assert sizes["config.json"] == (folder / "config.json").stat().st_size
    assert planned.bytes == sum(sizes.values()) and planned.to_dict()["bytes"] == planned.bytes


def test_the_card_says_what_the_model_is(folder: Path) -> None:
    card = publish.plan(folder, "me/pets").card
    head = dict(line.split(": ", 1) for line in card.split("---\n")[1].splitlines())
    assert json.loads(head["pipeline_tag"]) == "image-classification" and "vit_msn" in json.loads(head["tags"])
    assert "A classifier of 3 classes" in card and "- \\<b\\>bee" in card
    assert "| learned from | my \\| pets \\# not a heading |" in card
    assert "| right | 0.750, of 100 pictures held out |" in card and "| sure from | 0.4 |" in card
    assert 'Encoder.from_pretrained("me/pets")' in card and "/model" not in card


def test_a_backbone_has_a_card_without_classes(tmp_path: Path) -> None:
    folder = models.write(tmp_path / "b", models.small(), classifier=False, feature_mean=torch.zeros(16))
    card = publish.plan(folder, "me/backbone").card
    assert "A backbone without a classifier" in card and "pipeline_tag" not in card and "## Classes" not in card
    assert "| also inside | projector and prototypes, feature mean |" in card


def test_an_own_card_is_kept(folder: Path) -> None:
    (folder / "README.md").write_text("# mine", encoding="utf-8")
    assert publish.plan(folder, "me/pets").card == "# mine"


def test_what_cannot_be_sent_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("pets", "me/pets@main", "../pets", "me/a b"):
        with pytest.raises(ExportError, match="no name on the Hub"):
            publish.plan(folder, name)
    with pytest.raises(ExportError, match="is no folder"):
        publish.plan(tmp_path / "nothing", "me/pets")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        publish.plan(folder, "me/pets")
