"""Configurations: accepted values, defaults and errors."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from tests.support.models import small
from vitmsn.config import OFFICIAL, VARIANTS, ViTMSNConfig, msn_head_shapes, pair
from vitmsn.errors import ConfigError
from vitmsn.layers import ACTIVATIONS
from vitmsn.model import ViTMSNModel
from vitmsn.msn_head import MSNHead


def test_defaults_match_transformers() -> None:
    theirs = transformers.ViTMSNConfig()
    for name, value in ViTMSNConfig().to_dict().items():
        known = {int(key): label for key, label in value.items()} if name == "id2label" else value
        assert getattr(theirs, name) == known, name


def test_transformers_reads_what_we_write() -> None:
    config = ViTMSNConfig(
        hidden_size=36,
        num_hidden_layers=5,
        num_attention_heads=3,
        intermediate_size=50,
        hidden_act="silu",
        hidden_dropout_prob=0.25,
        layer_norm_eps=1e-3,
        image_size=(32, 48),
        patch_size=8,
        num_channels=1,
        qkv_bias=False,
        problem_type="regression",
        id2label={0: "a", 1: "b", 2: "c"},
    )
    theirs = transformers.ViTMSNConfig(**json.loads(json.dumps(config.to_dict())))
    back = ViTMSNConfig.from_dict(json.loads(theirs.to_json_string(use_diff=False)))
    assert back == config


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({}, {0: "LABEL_0", 1: "LABEL_1"}),
        ({"num_labels": 3}, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        ({"num_labels": 0}, {}),
        ({"id2label": {"1": "b", "0": "a"}}, {0: "a", 1: "b"}),
        ({"label2id": {"a": 0, "b": 1}}, {0: "a", 1: "b"}),
        ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "num_labels": 2}, {0: "a", 1: "b"}),
        ({"id2label": {0: "crane", 1: "crane"}}, {0: "crane", 1: "crane"}),  # ImageNet has two
    ],
)
def test_labels_can_be_given_in_any_form(given: dict[str, Any], labels: dict[int, str]) -> None:
    config = ViTMSNConfig(**given)
    assert config.id2label == labels
    assert list(config.id2label) == sorted(labels)
    assert config.label2id == {label: index for index, label in labels.items()}
    assert config.num_labels == len(labels)


def test_other_labels_replace_all_three() -> None:
    config = ViTMSNConfig(num_labels=5)
    assert config.with_labels() is config
    assert config.with_labels(id2label={0: "x"}).num_labels == 1
    assert config.with_labels(id2label={0: "x"}).label2id == {"x": 0}
    assert config.with_labels(label2id={"x": 0}).id2label == {0: "x"}
    assert config.with_labels(3).id2label[2] == "LABEL_2"
    named = config.with_labels(id2label={0: "x", 1: "y"})
    assert named.with_labels(2) is named  # as many as there are: they keep their names
    assert replace(config, image_size=32).num_labels == 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"problem_type": "single_label_classification", "num_labels": 1}, "there is one label, which would always be"),
        ({"hidden_size": 0}, "hidden_size is 0; a whole number of at least 1 is needed"),
        ({"hidden_size": 10.5}, r"hidden_size is 10\.5"),
        ({"hidden_size": "768"}, "hidden_size is '768'"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"intermediate_size": math.inf}, "intermediate_size is inf"),
        ({"num_channels": math.nan}, "num_channels is nan"),
        ({"hidden_dropout_prob": 1.5}, r"hidden_dropout_prob is 1\.5; a number of at least 0 and at most 1"),
        ({"layer_norm_eps": -1e-6}, "layer_norm_eps is -1e-06"),
        ({"layer_norm_eps": math.inf}, "layer_norm_eps is inf"),
        ({"num_attention_heads": 7}, "768 cannot be shared by 7 heads"),
        ({"image_size": 8}, "image_size 8 holds no patch of patch_size 16"),
        ({"image_size": (64, 8)}, r"image_size \(64, 8\) holds no patch"),
        ({"image_size": (1, 2, 3)}, r"image_size is \(1, 2, 3\); one whole number of pixels or a pair"),
        ({"patch_size": "16"}, "patch_size is '16'"),
        ({"patch_size": (0, 4)}, "patch_size is 0"),
        ({"qkv_bias": 1}, "qkv_bias is 1; true or false"),
        ({"hidden_act": "softplus"}, "hidden_act is 'softplus'; known are gelu, "),
        ({"problem_type": "guess"}, "problem_type is 'guess'; known are regression, "),
        ({"id2label": {1: "a"}}, r"numbered \[1\]\.\.\.; they must count 0, 1, 2"),
        ({"id2label": ["a", "b"]}, "no table of numbers and names"),
        ({"id2label": {"cat": 0}}, "no table of numbers and names"),
        ({"label2id": {"a": 0}, "id2label": {0: "b"}}, "label2id is not the inverse"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "num_labels is 3 but 1 labels are named"),
        ({"num_labels": 10**12}, "num_labels is 1000000000000; .* at most 100000"),
    ],
)
def test_invalid_configs_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ViTMSNConfig(**given)


def test_json_with_unknown_keys_gives_the_architecture() -> None:
    text = """{"architectures": ["ViTMSNModel"], "transformers_version": "4.20.0", "torch_dtype": "float32",
        "hidden_size": 384.0, "num_attention_heads": 6, "patch_size": [16, 16], "hidden_dropout_prob": 0,
        "id2label": {"0": "a", "1": "b"}, "label2id": {"a": "0", "b": "1"}, "problem_type": null}"""
    config = ViTMSNConfig.from_dict(json.loads(text))
    assert (config.hidden_size, config.patch_size, config.id2label) == (384, (16, 16), {0: "a", 1: "b"})
    assert isinstance(config.hidden_size, int)
    assert config.grid == (14, 14) and config.num_patches == 196 and config.head_dim == 64


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="describes a 'vit' model; a 'vit_msn' one is needed"):
        ViTMSNConfig.from_dict({"model_type": "vit"})


def test_a_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ViTMSNConfig().hidden_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(("value", "expected"), [(7, (7, 7)), ([3, 4], (3, 4)), ((3, 4), (3, 4))])
def test_pair(value: Any, expected: tuple[int, int]) -> None:
    assert pair(value) == expected


def test_grids_count_whole_patches() -> None:
    assert ViTMSNConfig(image_size=(50, 33), patch_size=(16, 8)).grid == (3, 4)


# dim, layers, heads, patch of the paper's models and of the one that comes with the package
PUBLISHED = {
    "small-16": (384, 12, 6, 16),
    "base-16": (768, 12, 12, 16),
    "base-8": (768, 12, 12, 8),
    "base-4": (768, 12, 12, 4),
    "large-16": (1024, 24, 16, 16),
    "large-7": (1024, 24, 16, 7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_variants(name: str) -> None:
    config = VARIANTS[name]
    shape = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.patch_size)
    assert shape == PUBLISHED[name]
    assert config.intermediate_size == 4 * config.hidden_size and config.image_size == 224


def test_official_checkpoints_are_variants() -> None:
    assert set(OFFICIAL.values()) <= set(PUBLISHED)
    assert all(name.startswith("facebook/vit-msn-") for name in OFFICIAL)


@pytest.mark.parametrize("kept", [None, 3])
def test_operations_are_those_that_torch_counts(kept: int | None) -> None:
    config = small(image_size=(8, 24), patch_size=(2, 4), num_channels=1)
    keep = None if kept is None else torch.arange(kept)[None]
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        ViTMSNModel(config)(torch.zeros(1, 1, 8, 24), keep_indices=keep, output_attentions=True)
    assert config.gigaflops(kept) == pytest.approx(counted.get_total_flops() / 1e9)
    assert VARIANTS["base-16"].gigaflops() == pytest.approx(35.1, abs=0.1)  # as published: 17.6 multiply-adds


def test_every_activation_named_exists() -> None:
    from vitmsn import config

    assert tuple(ACTIVATIONS) == config.ACTIVATIONS


def test_shapes_of_an_msn_head_follow_its_own_tensors() -> None:
    head = {key: tuple(tensor.shape) for key, tensor in MSNHead(12, 8, 6, 5).state_dict().items()}
    assert msn_head_shapes(head, 12) == head
    assert msn_head_shapes({}, 12) == {}
    assert msn_head_shapes({"prototypes": (5, 6)}, 12) == {"prototypes": (5, 6)}
    assert msn_head_shapes({"projector.fc1.weight": (8, 12)}, 12)["projector.fc2.weight"] == (8, 8)
    assert msn_head_shapes(head, 13)["projector.fc1.weight"] == (8, 13)
