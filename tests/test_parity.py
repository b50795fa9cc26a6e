"""Parity with transformers: same weights, same pictures, same numbers; and files that travel both ways.

transformers' eager attention is the oracle (its default, SDPA, gives no attention maps). Configurations and inputs are
drawn by seed, so that shapes nobody thought of are among them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from PIL import Image
from torch import Tensor, nn

from vitmsn import ViTMSNConfig, ViTMSNForImageClassification, ViTMSNModel
from vitmsn.checkpoint.layouts import HUGGING_FACE_5
from vitmsn.config import pair
from vitmsn.encoder import Encoder

SEEDS = range(24)
PRECISION = {torch.float64: 1e-9, torch.float32: 1e-5}
HEADS = {"backbone": ViTMSNModel, "classifier": ViTMSNForImageClassification}


@dataclass
class Case:
    """One random network with its oracle, and one random input for both."""

    config: ViTMSNConfig
    ours: nn.Module
    theirs: nn.Module
    inputs: dict[str, Any]


def draw(seed: int, kind: str, dtype: torch.dtype, native: bool = False) -> Case:
    """The case of a seed; ``native`` leaves out what is not about weights (other sizes, mask tokens)."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    heads, patch = rng.choice((1, 2, 3, 4)), rng.choice((2, 3, 4, 7))
    rows, columns = rng.randint(1, 5), rng.randint(1, 5)
    size = pair(patch)
    other_size = not native and rng.random() < 0.6
    if other_size:  # transformers interpolates from square grids only
        image: int | tuple[int, int] = rows * patch + rng.randint(0, patch - 1)
        size = rng.randint(1, 6) * patch, rng.randint(1, 6) * patch
    else:
        image = size = rows * patch, columns * patch
    config = ViTMSNConfig(
        hidden_size=heads * rng.choice((4, 8, 10)),
        num_hidden_layers=rng.randint(1, 4),
        num_attention_heads=heads,
        intermediate_size=rng.choice((7, 16, 40)),
        hidden_act=rng.choice(("gelu", "gelu", "gelu_new", "relu", "silu")),
        layer_norm_eps=rng.choice((1e-12, 1e-6, 1e-2)),
        image_size=image,
        patch_size=patch,
        num_channels=rng.choice((1, 3, 4)),
        qkv_bias=rng.random() < 0.7,
    ).with_labels(rng.randint(1, 6))
    mask_token = kind == "backbone" and not native and rng.random() < 0.5
    theirs = oracle(config, kind, mask_token).to(dtype)
    ours = HEADS[kind](config, use_mask_token=mask_token).to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    ours.load_state_dict(translated(ours, dict(theirs.state_dict())))
    pixels = torch.randn(rng.randint(1, 3), config.num_channels, *size, dtype=dtype)
    inputs: dict[str, Any] = {"pixel_values": pixels, "interpolate_pos_encoding": other_size}
    if mask_token:
        inputs["bool_masked_pos"] = torch.rand(len(pixels), size[0] // patch * (size[1] // patch)) < 0.4
    return Case(config, ours.train(seed % 2 == 0), theirs.train(seed % 2 == 0), inputs)


def oracle(config: ViTMSNConfig, kind: str, mask_token: bool = False) -> nn.Module:
    described = transformers.ViTMSNConfig(**config.to_dict(), attn_implementation="eager")
    if kind == "backbone":
        return transformers.ViTMSNModel(described, use_mask_token=mask_token)
    return transformers.ViTMSNForImageClassification(described)


def translated(ours: nn.Module, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What transformers holds under its names (weights or gradients), under ours: query, key and value joined."""
    prefix = "vit." if "classifier.weight" in theirs else ""
    joined = {}
    for key in ours.state_dict():
        own = key.removeprefix(prefix)
        names = [key] if key.startswith("classifier") else [prefix + n for n in HUGGING_FACE_5.names(own)]
        joined[key] = torch.cat([theirs[name] for name in names])
    return joined


def close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    bound = PRECISION[ours.dtype] * max(1.0, float(theirs.detach().abs().max()))
    difference = float((ours - theirs).detach().abs().max())
    assert difference <= bound, f"{what} differs by {difference:.2e}; {bound:.2e} is allowed"


def result(output: Any) -> Tensor:
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_and_backward(seed: int, kind: str, dtype: torch.dtype) -> None:
    case = draw(seed, kind, dtype)
    ours = case.ours(**case.inputs, output_hidden_states=True, output_attentions=True)
    theirs = case.theirs(**case.inputs, output_hidden_states=True, output_attentions=True)
    assert list(ours) == list(theirs) and len(ours[0]) == len(theirs[0])  # the same fields in the same places
    close(result(ours), result(theirs), "the output")
    for name in ("hidden_states", "attentions"):
        mine, reference = getattr(ours, name), getattr(theirs, name)
        assert len(mine) == len(reference) == case.config.num_hidden_layers + (name == "hidden_states")
        for layer, (one, other) in enumerate(zip(mine, reference, strict=True)):
            close(one, other, f"{name}[{layer}]")

    weights = torch.randn_like(result(theirs))
    for output in (ours, theirs):
        (result(output) * weights).sum().backward()
    reference = {name: p.grad for name, p in case.theirs.named_parameters()}
    assert all(gradient is not None for gradient in reference.values())
    expected = translated(case.ours, {name: gradient for name, gradient in reference.items() if gradient is not None})
    for name, parameter in case.ours.named_parameters():
        assert parameter.grad is not None, name
        close(parameter.grad, expected[name], f"the gradient of {name}")


@pytest.mark.parametrize("seed", SEEDS)
def test_output_flags_do_not_change_the_embedding(seed: int) -> None:
    case = draw(seed, "backbone", torch.float32)
    plain = case.ours(**case.inputs)
    assert plain.hidden_states is None and plain.attentions is None
    close(plain.last_hidden_state, case.theirs(**case.inputs).last_hidden_state, "the output")


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_kept_patches_are_transformers_layers_on_the_gathered_tokens(seed: int, dtype: torch.dtype) -> None:
    case = draw(seed, "backbone", dtype)
    embedded = case.theirs.embeddings(**case.inputs)
    batch, patches = len(embedded), embedded.shape[1] - 1
    kept = torch.stack([torch.randperm(patches)[: max(1, patches // 2)].sort().values for _ in range(batch)])
    rows = torch.cat((torch.zeros(batch, 1, dtype=torch.int64), kept + 1), dim=1)  # CLS is row 0
    x = embedded.gather(1, rows.unsqueeze(-1).expand(-1, -1, embedded.shape[-1]))
    expected = [x]
    for layer in case.theirs.layers:
        expected.append(layer(expected[-1]))
    out = case.ours(**case.inputs, keep_indices=kept, output_hidden_states=True)
    close(out.last_hidden_state, case.theirs.layernorm(expected[-1]), "the output")
    for layer, (one, other) in enumerate(zip(out.hidden_states, expected, strict=True)):
        close(one, other, f"hidden_states[{layer}]")

    weights = torch.randn_like(out.last_hidden_state)
    (out.last_hidden_state * weights).sum().backward()
    (case.theirs.layernorm(expected[-1]) * weights).sum().backward()
    gradients = {name: p.grad for name, p in case.theirs.named_parameters() if p.grad is not None}
    for name, gradient in translated(case.ours, gradients).items():
        close(dict(case.ours.named_parameters())[name].grad, gradient, f"the gradient of {name}")


@pytest.mark.parametrize(
    ("labels", "problem", "target"),
    [
        (5, None, torch.tensor([0, 4, 2])),
        (5, None, torch.tensor([[0.0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])),
        (1, None, torch.tensor([0.5, -1.0, 3.0])),
        (1, None, torch.tensor([[0.5], [-1.0], [3.0]])),
        (5, "regression", torch.arange(15.0).view(3, 5)),
        (5, "single_label_classification", torch.tensor([[1], [2], [3]])),
        (5, "multi_label_classification", torch.eye(5)[:3]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_loss_is_the_one_transformers_chooses(labels: int, problem: str | None, target: Tensor) -> None:
    case = draw(3, "classifier", torch.float32, native=True)
    config = ViTMSNConfig.from_dict(case.config.to_dict() | {"problem_type": problem}).with_labels(labels)
    ours, theirs = ViTMSNForImageClassification(config), oracle(config, "classifier")
    ours.load_state_dict(translated(ours, dict(theirs.state_dict())))
    pixels = torch.randn(3, config.num_channels, *pair(config.image_size))
    one, other = ours(pixels, labels=target), theirs(pixels, labels=target)
    assert one.loss.ndim == 0
    close(one.loss, other.loss, "the loss")


# --- Files that travel --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet_bars() -> None:
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("seed", range(6))
def test_checkpoints_of_transformers_are_read(seed: int, kind: str, tmp_path: Path) -> None:
    case = draw(seed, kind, torch.float32, native=True)
    case.theirs.save_pretrained(tmp_path)
    assert_equal_answers(HEADS[kind].from_pretrained(tmp_path), case)


@pytest.mark.parametrize("kind", HEADS)
def test_sharded_checkpoints_of_transformers_are_read(kind: str, tmp_path: Path) -> None:
    case = draw(4, kind, torch.float32, native=True)
    case.theirs.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    assert_equal_answers(HEADS[kind].from_pretrained(tmp_path), case)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("seed", range(6))
def test_transformers_reads_our_checkpoints(seed: int, kind: str, tmp_path: Path) -> None:
    case = draw(seed, kind, torch.float32, native=True)
    case.ours.save_pretrained(tmp_path)
    back, report = type(case.theirs).from_pretrained(tmp_path, attn_implementation="eager", output_loading_info=True)
    assert not any(report.values()), report
    assert back.config.id2label == case.config.id2label
    for (name, before), (_, after) in zip(case.theirs.state_dict().items(), back.state_dict().items(), strict=True):
        assert torch.equal(before, after), name


def assert_equal_answers(loaded: nn.Module, case: Case) -> None:
    assert not loaded.training
    assert loaded.config == case.config
    expected = case.theirs.eval()(**case.inputs)
    close(result(loaded(**case.inputs)), result(expected), "the output")
    for name, tensor in case.ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_mask_tokens_are_saved_for_transformers(tmp_path: Path) -> None:
    case = next(c for c in (draw(seed, "backbone", torch.float32) for seed in SEEDS) if "bool_masked_pos" in c.inputs)
    case.theirs.save_pretrained(tmp_path / "theirs")
    loaded = ViTMSNModel.from_pretrained(tmp_path / "theirs")
    close(result(loaded(**case.inputs)), result(case.theirs.eval()(**case.inputs)), "the output")
    loaded.save_pretrained(tmp_path / "ours")
    back = transformers.ViTMSNModel.from_pretrained(tmp_path / "ours", use_mask_token=True)
    assert torch.equal(back.embeddings.mask_token, case.theirs.embeddings.mask_token)


def test_the_pipeline_gives_our_probabilities(tmp_path: Path) -> None:
    names = {0: "tabby", 1: "Egyptian cat", 2: "teapot"}
    config = ViTMSNConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    ).with_labels(id2label=names)
    model = ViTMSNForImageClassification(config).eval()
    nn.init.normal_(model.classifier.weight)
    model.save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    picture = Image.linear_gradient("L").resize((50, 40)).convert("RGB")
    classify = transformers.pipeline("image-classification", model=str(tmp_path), device="cpu")
    pixels = classify.image_processor(picture, return_tensors="pt")["pixel_values"]
    probabilities = model(pixels).logits.detach().softmax(-1)[0]
    answers = {answer["label"]: answer["score"] for answer in classify(picture, top_k=3)}
    assert answers == pytest.approx({names[index]: float(p) for index, p in enumerate(probabilities)}, abs=1e-5)


@pytest.mark.parametrize(
    ("problem_type", "names"),
    [
        (None, ["cat", "indoor", "striped"]),
        ("single_label_classification", ["cat", "indoor", "striped"]),
        ("multi_label_classification", ["cat", "indoor", "striped"]),
        (None, ["cat"]),
        ("regression", ["age"]),
        ("regression", ["age", "height"]),
    ],
)
def test_scores_match_the_pipeline_for_every_option(tmp_path: Path, problem_type: str | None, names: list[str]) -> None:
    if problem_type == "regression" and Version(transformers.__version__) < Version("5.23"):
        pytest.skip("older pipelines make probabilities of a regression's numbers")
    config = ViTMSNConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(names)),
        problem_type=problem_type,
    )
    model = ViTMSNForImageClassification(config).eval()
    nn.init.normal_(model.classifier.weight)
    model.save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    picture = Image.linear_gradient("L").resize((50, 40)).convert("RGB")
    told = transformers.pipeline("image-classification", model=str(tmp_path), device="cpu")(picture)
    encoder = Encoder.from_pretrained(tmp_path, device="cpu", dtype="float32")
    [found] = encoder.classify(picture)
    assert found.labels == [answer["label"] for answer in told]
    assert found.probabilities == pytest.approx([answer["score"] for answer in told], abs=1e-5)
    assert encoder.has_classifier == (problem_type != "regression")
