"""Outputs are read as transformers' are, and PyTorch's exporters look into them."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.utils import _pytree as pytree

from vitmsn import ViTMSNConfig, ViTMSNForImageClassification, ViTMSNModel
from vitmsn.outputs import ClassifierOutput, ViTMSNOutput

CONFIG = ViTMSNConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    image_size=12,
    patch_size=4,
    id2label={0: "ant", 1: "bee", 2: "cat"},
)
KINDS = pytest.mark.parametrize("kind", [ViTMSNModel, ViTMSNForImageClassification], ids=["backbone", "classifier"])
KEPT = torch.tensor([[0, 4, 8], [1, 2, 3]])
Kind = type[ViTMSNModel] | type[ViTMSNForImageClassification]


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 12, 12)


def network(kind: Kind) -> Any:
    model = kind(CONFIG).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def near(one: Any, other: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


# --- Reading ------------------------------------------------------------------------------------------------------


def test_outputs_by_attribute_key_and_index() -> None:
    model, pixels = network(ViTMSNForImageClassification), pictures()
    out = model(pixels, labels=torch.tensor([0, 2]), output_hidden_states=True, output_attentions=True)
    assert list(out) == list(out.keys()) == ["loss", "logits", "hidden_states", "attentions"] and len(out) == 4
    assert out[0] is out["loss"] is out.loss and out[1] is out["logits"] is out.logits
    assert out[2:] == out.to_tuple()[2:] == (out.hidden_states, out.attentions)
    assert all(one is other for one, other in zip(out.values(), out.to_tuple(), strict=True))
    assert dict(out.items()).keys() == dict(out).keys() == {**out}.keys()


def test_missing_fields_are_left_out() -> None:
    out = network(ViTMSNForImageClassification)(pictures())
    assert out.loss is None and "loss" not in out and "logits" in out and out.to_tuple() == (out.logits,)
    with pytest.raises(KeyError, match="loss"):
        out["loss"]
    with pytest.raises(IndexError):
        out[1]
    backbone = network(ViTMSNModel)(pictures(), keep_indices=KEPT, output_attentions=True)
    assert list(backbone) == ["last_hidden_state", "attentions"]  # grid and patches kept are not transformers'
    assert backbone.grid == (3, 3) and backbone.keep_indices is KEPT


@KINDS
def test_return_dict_false_gives_a_tuple(kind: Kind) -> None:
    model, pixels = network(kind), pictures()
    for more in ({}, {"output_attentions": True}, {"output_attentions": True, "output_hidden_states": True}):
        found = model(pixels, **more, return_dict=False)
        assert type(found) is tuple
        near(found, model(pixels, **more, return_dict=True).to_tuple())


def test_outputs_can_be_copied_pickled_and_mapped() -> None:
    out = network(ViTMSNModel)(pictures(), keep_indices=KEPT, output_hidden_states=True)
    with torch.no_grad():
        for again in (copy.copy(out), pickle.loads(pickle.dumps(pytree.tree_map(torch.Tensor.detach, out)))):
            assert type(again) is ViTMSNOutput and again.grid == (3, 3)
            near(again.to_tuple(), out.to_tuple())
    leaves, shape = pytree.tree_flatten(out)
    assert len(leaves) == 1 + 1 + 3  # tokens, patches kept, hidden states
    back = pytree.tree_unflatten(leaves, shape)
    assert type(back) is ViTMSNOutput and back.grid == (3, 3) and back.attentions is None
    assert all(one is other for one, other in zip(pytree.tree_leaves(back), leaves, strict=True))
    doubled = pytree.tree_map(lambda tensor: 2 * tensor, ClassifierOutput(torch.ones(1, 3)))
    assert type(doubled) is ClassifierOutput and doubled.loss is None and bool((doubled.logits == 2).all())


# --- Export -------------------------------------------------------------------------------------------------------


@KINDS
def test_exported_for_any_number_of_pictures(kind: Kind) -> None:
    model = network(kind)
    batch = {"pixel_values": {0: torch.export.Dim("batch")}}
    program = torch.export.export(model, (pictures(),), dynamic_shapes=batch)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for exported in (program.module(), torch.export.load(file).module()):
        for count in (1, 2, 80):  # 80 x 10 tokens: past where the plain forward works in pieces
            pixels = pictures(count)
            out = exported(pixels)
            assert type(out) is (ViTMSNOutput if kind is ViTMSNModel else ClassifierOutput)
            near(out[0], model(pixels)[0], 1e-5)


@KINDS
def test_exported_with_patches_dropped_and_attention(kind: Kind) -> None:
    model, pixels = network(kind), pictures()
    options = {"keep_indices": KEPT, "output_attentions": True, "output_hidden_states": True}
    out = torch.export.export(model, (pixels,), kwargs=options).module()(pixels, **options)
    near(out.to_tuple(), model(pixels, **options).to_tuple())


@KINDS
def test_compiled_in_one_graph(kind: Kind) -> None:
    model, pixels = network(kind), pictures()
    near(torch.compile(model, fullgraph=True, backend="eager")(pixels)[0], model(pixels)[0])


@KINDS
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # checks of shapes are done once, while tracing
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_traced(kind: Kind) -> None:
    model = network(kind)
    traced = torch.jit.trace(model, (pictures(),))
    for count in (1, 2, 5):
        pixels = pictures(count)
        found = traced(pixels)
        assert type(found) is tuple and len(found) == 1
        near(found[0], model(pixels)[0], 1e-5)


@KINDS
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the exporter, to itself
def test_onnx_at_two_batch_sizes(kind: Kind, tmp_path: Path) -> None:
    model, file = network(kind), tmp_path / "model.onnx"
    batch = {"pixel_values": {0: torch.export.Dim("batch")}}
    name = "last_hidden_state" if kind is ViTMSNModel else "logits"
    torch.onnx.export(
        model, (pictures(),), file, input_names=["pixel_values"], output_names=[name], dynamic_shapes=batch, dynamo=True
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [(put.name, put.shape[0]) for put in (*session.get_inputs(), *session.get_outputs())] == [
        ("pixel_values", "batch"),
        (name, "batch"),
    ]
    for count in (1, 5):
        pixels = pictures(count)
        (found,) = session.run(None, {"pixel_values": pixels.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, model(pixels)[0].numpy(), atol=1e-4)
