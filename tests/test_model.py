"""Properties of the network with any weights: patches really dropped, everything trainable, clear errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitmsn import checkpoint
from vitmsn.config import ViTMSNConfig
from vitmsn.errors import CheckpointError, InputError, MissingHeadError
from vitmsn.layers import PIECE
from vitmsn.model import ViTMSNForImageClassification, ViTMSNModel
from vitmsn.msn_head import MSNHead, log_assignment

CONFIG = ViTMSNConfig(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, image_size=24, patch_size=4
)
PATCHES = 36


def network(config: ViTMSNConfig = CONFIG, **options: Any) -> ViTMSNModel:
    """A network whose weights are large enough for every part to matter."""
    model = ViTMSNModel(config, **options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def pictures(count: int = 2, config: ViTMSNConfig = CONFIG) -> Tensor:
    return torch.randn(count, config.num_channels, 24, 24)


def kept(count: int = 2, number: int = 10) -> Tensor:
    return torch.stack([torch.randperm(PATCHES)[:number].sort().values for _ in range(count)])


def near(one: Tensor, other: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


# --- Dropped patches ----------------------------------------------------------------------------------------------


def test_keeping_every_patch_is_the_full_view() -> None:
    model, pixels = network(), pictures()
    everything = torch.arange(PATCHES).expand(2, -1)
    full, all_kept = model(pixels), model(pixels, keep_indices=everything)
    near(all_kept.last_hidden_state, full.last_hidden_state)
    assert full.keep_indices is None and all_kept.keep_indices is everything
    assert full.grid == all_kept.grid == (6, 6)


def test_the_order_of_kept_patches_is_the_order_of_tokens() -> None:
    model, pixels, indices = network(), pictures(), kept()
    order = torch.randperm(10)
    one = model(pixels, keep_indices=indices).last_hidden_state
    other = model(pixels, keep_indices=indices[:, order]).last_hidden_state
    near(other[:, 0], one[:, 0])
    near(other[:, 1:], one[:, 1:][:, order])


def test_dropped_patches_have_no_influence_and_kept_ones_have() -> None:
    model, pixels, indices = network(), pictures(1), torch.tensor([[0, 7, 35]])
    before = model(pixels, keep_indices=indices).last_hidden_state
    changed = pixels.clone()
    changed[..., 4:8, 0:4] += 1  # row 1, column 0: patch 6
    assert torch.equal(model(changed, keep_indices=indices).last_hidden_state, before)
    changed[..., 4:8, 4:8] += 1  # row 1, column 1: patch 7
    assert not torch.allclose(model(changed, keep_indices=indices).last_hidden_state, before, atol=1e-3)


def test_dropped_patches_cost_nothing_in_the_layers() -> None:
    model = network()
    out = model(pictures(), keep_indices=kept(), output_hidden_states=True, output_attentions=True)
    assert {tuple(x.shape) for x in out.hidden_states} == {(2, 11, 32)}
    assert {tuple(x.shape) for x in out.attentions} == {(2, 2, 11, 11)}


def test_each_picture_may_keep_its_own_patches() -> None:
    model, pixels, indices = network(), pictures(3), kept(3)
    together = model(pixels, keep_indices=indices).last_hidden_state
    for index in range(3):
        alone = model(pixels[index : index + 1], keep_indices=indices[index : index + 1]).last_hidden_state
        near(together[index : index + 1], alone)


def test_mask_tokens_and_dropped_patches_go_together() -> None:
    model, pixels, indices = network(use_mask_token=True), pictures(), kept()
    masked = torch.rand(2, PATCHES) < 0.5
    both = model(pixels, bool_masked_pos=masked, keep_indices=indices, output_hidden_states=True).hidden_states[0]
    all_tokens = model(pixels, bool_masked_pos=masked, output_hidden_states=True).hidden_states[0]
    near(both[:, 1:], all_tokens[:, 1:].gather(1, indices.unsqueeze(-1).expand(-1, -1, 32)))
    near(model(pixels, bool_masked_pos=masked.long()).last_hidden_state, model(pixels, masked).last_hidden_state)


# --- Sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(24, 24), (8, 40), (4, 4), (48, 20)])
def test_any_size_of_whole_patches(size: tuple[int, int]) -> None:
    out = network()(torch.randn(1, 3, *size), interpolate_pos_encoding=True)
    assert out.grid == (size[0] // 4, size[1] // 4)
    assert out.last_hidden_state.shape == (1, 1 + out.grid[0] * out.grid[1], 32)


def test_at_the_native_size_nothing_is_interpolated() -> None:
    model, pixels = network(), pictures()
    assert torch.equal(model(pixels).last_hidden_state, model(pixels, interpolate_pos_encoding=True).last_hidden_state)


def test_pixels_beyond_the_last_whole_patch_are_not_seen() -> None:
    config = replace(CONFIG, image_size=(26, 27))
    model = network(config)
    pixels = torch.randn(1, 3, 26, 27)
    other = pixels.clone()
    other[..., 24:, :] = other[..., 24:] = 9.0
    for interpolate in (False, True):
        assert torch.equal(
            model(pixels, interpolate_pos_encoding=interpolate).last_hidden_state,
            model(other, interpolate_pos_encoding=interpolate).last_hidden_state,
        )


# --- One result, whichever way it is computed ---------------------------------------------------------------------


def test_attention_maps_are_distributions_and_change_nothing() -> None:
    model, pixels = network(), pictures()
    with_maps = model(pixels, output_attentions=True)
    near(with_maps.last_hidden_state, model(pixels).last_hidden_state)
    for weights in with_maps.attentions:
        assert weights.min() >= 0
        near(weights.sum(-1), torch.ones(2, 2, 37))


def test_activations_in_pieces_are_the_same() -> None:
    model, pixels = network(), pictures(16)
    assert 2 * PIECE <= 16 * 37
    whole = model(pixels).last_hidden_state  # with gradients, nothing is overwritten
    with torch.no_grad():
        near(model(pixels).last_hidden_state, whole, 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    model, pixels = network(), pictures()
    full = model(pixels).last_hidden_state
    half = model.to(dtype)(pixels)  # pixels are cast, as in transformers
    assert half.last_hidden_state.dtype == dtype
    near(half.last_hidden_state.float(), full, 0.1)


def test_gradient_checkpointing_changes_neither_output_nor_gradients() -> None:
    pixels, indices = pictures(), kept()
    plain, saving = network().train(), ViTMSNModel(CONFIG).train()
    saving.load_state_dict(plain.state_dict())
    saving.gradient_checkpointing_enable()
    calls: list[int] = []
    saving.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for model in (plain, saving):
        model(pixels, keep_indices=indices).last_hidden_state.square().mean().backward()
    assert len(calls) == 2, "each layer runs once forward and once again for its backward pass"
    for (name, one), (_, other) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        assert one.grad is not None and other.grad is not None, name
        near(one.grad, other.grad, 1e-6)


def test_a_fixed_network_gives_fixed_numbers() -> None:
    model = ViTMSNModel(CONFIG).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(0.3 * torch.sin(torch.arange(parameter.numel()) * 0.7 + number).view_as(parameter))
    pixels = torch.cos(torch.arange(3 * 24 * 24) * 0.05).view(1, 3, 24, 24)
    cls = model(pixels, keep_indices=torch.tensor([[1, 2, 20]])).last_hidden_state[0, 0, :4]
    # from transformers' layers, in float64, on the tokens of these three patches
    near(cls.detach(), torch.tensor([0.372145, -0.286037, -0.436336, -0.268264]))


# --- Training -----------------------------------------------------------------------------------------------------


def test_every_parameter_learns() -> None:
    model = network(use_mask_token=True).train()
    head = MSNHead(32, hidden=16, output=8, prototypes=5)
    masked = torch.rand(4, PATCHES) < 0.3
    out = model(pictures(4), bool_masked_pos=masked, keep_indices=kept(4, 30)).last_hidden_state
    assignments = log_assignment(head(out[:, 0]), head.prototypes, 0.1)
    (assignments[:, 0].mean() + out[:, 1:].square().mean()).backward()
    for name, parameter in (*model.named_parameters(), *head.named_parameters()):
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


def test_dropout_is_active_only_in_training() -> None:
    config = replace(CONFIG, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    model, pixels = network(config), pictures()
    first, second = (model(pixels).last_hidden_state for _ in range(2))
    assert torch.equal(first, second)
    model.train()
    first, second = (model(pixels).last_hidden_state for _ in range(2))
    assert not torch.allclose(first, second)


def test_weights_start_small_and_biases_at_zero() -> None:
    model = ViTMSNModel(replace(CONFIG, hidden_size=128, initializer_range=0.02))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "layernorm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif parameter.numel() > 1000:
            assert 0.018 < parameter.std() < 0.022, name


# --- Inputs that cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": torch.zeros(3, 24, 24)}, r"shape \(3, 24, 24\); \(pictures, 3, height, width\)"),
        ({"pixel_values": torch.zeros(1, 1, 24, 24)}, r"\(pictures, 3, height, width\) is needed"),
        ({"pixel_values": torch.zeros(2, 3, 32, 24)}, "32 x 24 but the model was built for 24 x 24"),
        (
            {"pixel_values": torch.zeros(2, 3, 30, 24), "interpolate_pos_encoding": True},
            "30 x 24, which patches of 4 x 4 do not divide",
        ),
        (
            {"pixel_values": torch.zeros(2, 3, 0, 24), "interpolate_pos_encoding": True},
            "0 x 24, which patches of 4 x 4 do not divide",
        ),
        ({"bool_masked_pos": torch.zeros(2, 35, dtype=torch.bool)}, r"\(2, 35\); bool \(2, 36\) is needed"),
        ({"bool_masked_pos": torch.zeros(2, 36)}, r"torch.float32 \(2, 36\); bool"),
        ({"bool_masked_pos": torch.zeros(2, 36, dtype=torch.bool)}, "no mask token; build it with use_mask_token=True"),
        ({"keep_indices": torch.zeros(2, 0, dtype=torch.int64)}, r"int64 \(2, at least 1\) is needed"),
        ({"keep_indices": torch.zeros(1, 3, dtype=torch.int64)}, r"int64 \(1, 3\); int64 \(2, at least 1\)"),
        ({"keep_indices": torch.zeros(2, 3)}, r"torch.float32 \(2, 3\)"),
        ({"keep_indices": torch.tensor([[0], [36]])}, "runs from 0 to 36; the grid has patches 0 to 35"),
        ({"keep_indices": torch.tensor([[-1], [3]])}, "runs from -1 to 3"),
    ],
)
def test_invalid_inputs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        network()(**({"pixel_values": pictures()} | change))


# --- Classifier ---------------------------------------------------------------------------------------------------


def test_a_classifier_reads_the_normalized_cls_token() -> None:
    model = ViTMSNForImageClassification(CONFIG.with_labels(4)).eval()
    pixels, indices = pictures(), kept()
    out = model(pixels, keep_indices=indices, output_hidden_states=True, output_attentions=True)
    cls = model.vit(pixels, keep_indices=indices).last_hidden_state[:, 0]
    near(out.logits, cls @ model.classifier.weight.T + model.classifier.bias)
    assert out.loss is None and len(out.hidden_states) == 4 and len(out.attentions) == 3


def test_a_backbone_needs_num_labels_for_a_classifier(tmp_path: Path) -> None:
    backbone = network()
    backbone.save_pretrained(tmp_path)
    with pytest.raises(MissingHeadError, match="is a backbone without a classifier, so it has no class to name"):
        ViTMSNForImageClassification.from_pretrained(tmp_path)
    for asked, names in (
        ({"num_labels": 3}, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        ({"id2label": {0: "cat", 1: "dog"}}, {0: "cat", 1: "dog"}),
    ):
        fresh = ViTMSNForImageClassification.from_pretrained(tmp_path, **asked)
        assert fresh.config.id2label == fresh.vit.config.id2label == names
        assert fresh.classifier.weight.shape == (len(names), 32)
        assert not fresh.has_trained_head and not fresh.training
        assert torch.equal(fresh.vit.layernorm.weight, backbone.layernorm.weight)


def test_a_trained_classifier_is_restored_and_can_be_replaced(tmp_path: Path) -> None:
    model = ViTMSNForImageClassification(CONFIG.with_labels(id2label={0: "cat", 1: "dog", 2: "owl"}))
    assert not model.has_trained_head
    model.save_pretrained(tmp_path)
    loaded = ViTMSNForImageClassification.from_pretrained(tmp_path)
    assert loaded.has_trained_head and not loaded.training and loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    fresh = ViTMSNForImageClassification.from_pretrained(tmp_path, num_labels=5)
    assert not fresh.has_trained_head and fresh.classifier.weight.shape == (5, 32)
    with pytest.raises(CheckpointError, match="of 3 labels and 5 are asked for; pass ignore_mismatched_sizes=True"):
        ViTMSNForImageClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=False)
    for asked in (
        {"num_labels": 3},
        {"label2id": {"x": 0, "y": 1, "z": 2}},
        {"id2label": {"0": "x", "1": "y", "2": "z"}},
    ):
        kept = ViTMSNForImageClassification.from_pretrained(tmp_path, **asked)
        assert kept.has_trained_head and torch.equal(kept.classifier.weight, model.classifier.weight)
        assert kept.config.label2id == (
            {"cat": 0, "dog": 1, "owl": 2} if "num_labels" in asked else {"x": 0, "y": 1, "z": 2}
        )
    several = ViTMSNForImageClassification.from_pretrained(tmp_path, problem_type="multi_label_classification")
    assert several.has_trained_head and several.config.problem_type == "multi_label_classification"
    assert torch.equal(ViTMSNModel.from_pretrained(tmp_path).layernorm.weight, model.vit.layernorm.weight)


def test_a_classifier_of_no_labels_is_saved_as_a_backbone(tmp_path: Path) -> None:
    model = ViTMSNForImageClassification(CONFIG.with_labels(0))
    assert model(pictures()).logits.shape == (2, 32)
    model.save_pretrained(tmp_path)
    with pytest.raises(MissingHeadError):
        ViTMSNForImageClassification.from_pretrained(tmp_path)


def test_models_of_one_checkpoint_share_no_memory(tmp_path: Path) -> None:
    network(use_mask_token=True).save_pretrained(tmp_path)
    loaded = checkpoint.load(tmp_path)
    one, other = ViTMSNModel.from_checkpoint(loaded), ViTMSNModel.from_checkpoint(loaded)
    with torch.no_grad():
        for parameter in one.parameters():
            assert parameter.requires_grad and parameter.device.type == "cpu"
            parameter.zero_()
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, loaded.tensors[name]) and parameter.any(), name


@pytest.mark.parametrize("kind", [ViTMSNModel, ViTMSNForImageClassification])
def test_precision_and_attention_by_transformers_names(tmp_path: Path, kind: Any) -> None:
    model = ViTMSNForImageClassification(CONFIG)
    model.save_pretrained(tmp_path)
    assert kind.from_pretrained(tmp_path).dtype == torch.float32
    for asked in ({"dtype": "float16"}, {"dtype": torch.float16}, {"torch_dtype": torch.float16}):
        half = kind.from_pretrained(tmp_path, **asked)
        assert {part.dtype for part in half.parameters()} == {torch.float16} and half.dtype == torch.float16
    half.save_pretrained(tmp_path / "half")
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 2.5 * half.num_parameters()
    for attention in ("eager", "sdpa", None):
        loaded = kind.from_pretrained(tmp_path, attn_implementation=attention)
        assert {layer.attention.eager for layer in getattr(loaded, "vit", loaded).layers} == {attention == "eager"}
    for asked, said in (
        ({"dtype": "auto"}, "dtype is 'auto'; name a precision"),
        ({"torch_dtype": torch.int8}, "dtype is torch.int8; name a precision"),
        ({"attn_implementation": "flash_attention_2"}, "'flash_attention_2'; choose eager or sdpa"),
    ):
        with pytest.raises(InputError, match=said):
            kind.from_pretrained(tmp_path, **asked)


def test_eager_attention_uses_no_fused_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network().save_pretrained(tmp_path)
    pixels = pictures()
    fused = ViTMSNModel.from_pretrained(tmp_path)(pixels)[0]
    eager = ViTMSNModel.from_pretrained(tmp_path, attn_implementation="eager")
    monkeypatch.delattr(torch.nn.functional, "scaled_dot_product_attention")
    near(eager(pixels)[0], fused)


def test_device_and_number_of_parameters() -> None:
    model = ViTMSNForImageClassification(CONFIG.with_labels(3))
    assert model.device == model.vit.device == torch.device("cpu") and model.to("meta").device.type == "meta"
    assert model.num_parameters() - model.vit.num_parameters() == 3 * 32 + 3
    model.vit.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == 3 * 32 + 3


def test_no_pictures_give_no_rows() -> None:
    model, none = network(), pictures(0)
    out = model(none, output_attentions=True)
    assert out.last_hidden_state.shape == (0, 37, 32) and out.attentions[0].shape == (0, 2, 37, 37)
    assert model(none, keep_indices=kept(1)[:0]).last_hidden_state.shape == (0, 11, 32)
    with pytest.raises(InputError, match="pixel_values is missing"):
        model()


def test_loading_errors_name_the_cause(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file or folder here and no hub id"):
        ViTMSNModel.from_pretrained(tmp_path / "nothing")


# --- MSN head -----------------------------------------------------------------------------------------------------


def test_assignments_are_cosine_softmaxes() -> None:
    head = MSNHead(32, hidden=16, output=8, prototypes=5, temperature=0.2, sharpening=0.5).eval()
    cls = torch.randn(3, 32)
    projected = head(cls)
    assert projected.shape == (3, 8)
    cosine = torch.cosine_similarity(projected[:, None], head.prototypes[None], dim=-1)
    near(head.assign(cls).exp(), (cosine / 0.2).softmax(-1))
    near(head.assign(cls, sharpen=True).exp(), (cosine / 0.1).softmax(-1))
    near(log_assignment(7 * projected, 0.1 * head.prototypes, 0.2), head.assign(cls))


def test_tiny_temperatures_do_not_overflow() -> None:
    head = MSNHead(32, hidden=16, output=8, prototypes=5).eval()
    logarithms = log_assignment(head(torch.randn(3, 32)).half(), head.prototypes.half(), 1e-4)
    assert logarithms.dtype == torch.float32 and torch.isfinite(logarithms).all()


def test_an_msn_head_is_restored_with_its_temperatures(tmp_path: Path) -> None:
    head = MSNHead(32, hidden=16, output=8, prototypes=5, temperature=0.2, sharpening=0.5)
    head(torch.randn(9, 32))  # moves the running statistics
    checkpoint.save(
        tmp_path, CONFIG, network().state_dict(), msn_head=head.state_dict(), temperature=0.2, sharpening=0.5
    )
    loaded = checkpoint.load(tmp_path)
    back = MSNHead.from_tensors(loaded.msn_head, loaded.temperature, loaded.sharpening)
    cls = torch.randn(3, 32)
    assert not back.training
    for sharpen in (False, True):
        assert torch.equal(back.assign(cls, sharpen), head.eval().assign(cls, sharpen))
