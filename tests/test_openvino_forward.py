"""OpenVINO's forward gives what the plain one gives, says nothing to anyone, and steps aside where it cannot."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.app import ROOT
from tests.support.models import ARCHITECTURES, BFLOAT16, backbone, pixels
from tests.support.pictures import noise
from vitmsn import attention, backend, extras, openvino_forward
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError
from vitmsn.image import ViTMSNImageProcessor
from vitmsn.look import look
from vitmsn.model import ViTMSNModel
from vitmsn.openvino_forward import NotCompiled, OpenVINOModel, compiled

if not extras.installed("openvino"):
    pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    torch.manual_seed(1)
    with torch.inference_mode():
        yield


def ready(model: ViTMSNModel) -> OpenVINOModel:
    found = compiled(model)
    assert isinstance(found, OpenVINOModel), found
    return found


def encoder(asked: str = "openvino") -> Encoder:
    with torch.inference_mode(False):
        model = backbone()
        head = torch.nn.Linear(16, 3)
        return Encoder(model, ViTMSNImageProcessor(16), name="small", classifier=head, backend=asked)


def pictures(count: int = 3) -> list[Any]:
    return [noise(20, 20, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("case", ARCHITECTURES)
@pytest.mark.parametrize("kept", [None, 7])
def test_float32_is_the_plain_forward(case: str, kept: int | None) -> None:
    model = backbone(**ARCHITECTURES[case])
    grid = (5, 3)  # not the native one: positions are interpolated
    x = pixels(model, 3, grid)
    keep = None if kept is None else models.random_rows(3, 15, kept)
    found = ready(model)(x, keep, output_hidden_states=True)
    wanted = model(x, keep_indices=keep, interpolate_pos_encoding=True, output_hidden_states=True)
    assert found.grid == wanted.grid and found.keep_indices is keep
    torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-4, rtol=1e-5)
    assert len(found.hidden_states or ()) == len(wanted.hidden_states)
    for one, other in zip(found.hidden_states or (), wanted.hidden_states, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.skipif(not BFLOAT16, reason="the processor has no bfloat16 instructions")
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (17, 31)], ids=str)
@pytest.mark.parametrize("batch", [1, 5])
def test_bfloat16_is_close_to_float32(grid: tuple[int, int], batch: int) -> None:
    exact = backbone(hidden_size=64, num_attention_heads=4, intermediate_size=128)
    x = pixels(exact, batch, grid)
    found = ready(copy.deepcopy(exact).to(torch.bfloat16))(x).last_hidden_state
    wanted = exact(x, interpolate_pos_encoding=True).last_hidden_state
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, wanted, dim=-1).min() > 0.9995


def test_pictures_that_go_through_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready(backbone())
    x, keep = pixels(model.model, 7), models.random_rows(7, 16, 9)
    together = model(x, keep, output_hidden_states=True)
    for most in (20, 4):  # two pictures of ten tokens; less than a picture has
        monkeypatch.setattr(openvino_forward, "TOKENS", most)
        parts = model(x, keep, output_hidden_states=True)
        torch.testing.assert_close(parts.last_hidden_state, together.last_hidden_state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(parts.hidden_states, together.hidden_states, atol=1e-5, rtol=1e-5)


def test_an_answer_stays_when_the_next_one_comes() -> None:
    model = ready(backbone())
    first = model(pixels(model.model, 2), None, True)
    kept = [first.last_hidden_state.clone(), *(state.clone() for state in first.hidden_states or ())]
    model(pixels(model.model, 2), None, True)
    torch.testing.assert_close([first.last_hidden_state, *(first.hidden_states or ())], kept, rtol=0, atol=0)


def test_indices_are_checked() -> None:
    model = ready(backbone())
    with pytest.raises(InputError, match="runs from 0 to 16"):
        model(pixels(model.model, 1), torch.tensor([[0, 16]]))


def test_an_encoder_gives_the_same_in_all_that_it_does() -> None:
    ours, torchs = encoder(), encoder("torch")
    assert (ours.engine, torchs.engine) == ("openvino", "packed")
    assert (ours.backend, torchs.backend) == ("openvino", "torch")
    close = {"atol": 1e-4, "rtol": 1e-4}
    for options in ({}, {"keep_indices": [1, 5, 6]}, {"size": 24}, {"layernorm": False}):
        np.testing.assert_allclose(ours.embed(pictures(), **options), torchs.embed(pictures(), **options), **close)
    tokens = [one.tokens(pictures()[0], keep_indices=[0, 3, 8, 9]) for one in (ours, torchs)]
    maps = [attention.cls_attention(one.model, found) for one, found in zip((ours, torchs), tokens, strict=True)]
    torch.testing.assert_close(*maps, **close)
    with torch.inference_mode(False):  # relevance needs gradients: torch computes it of the same tokens
        why = [look(one, pictures()[0], "relevance").values for one in (ours, torchs)]
    np.testing.assert_allclose(*why, **close)


def test_threads_share_it() -> None:
    one, found = encoder(), dict[int, np.ndarray]()
    wanted = encoder("torch").embed(pictures(6))
    compute = one.runner.forward().compute
    views = one.processor(pictures(6))["pixel_values"]

    def work(number: int) -> None:
        with torch.inference_mode():
            found[number] = compute(views.roll(number, 0), None, False).last_hidden_state[:, 0].numpy()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, rows in found.items():
        np.testing.assert_allclose(np.roll(rows, -number, 0), wanted, atol=1e-4)
    assert len(found) == 8


def test_weights_that_change_are_compiled_again() -> None:
    one = encoder()
    before = one.embed(pictures())
    with torch.inference_mode(False), torch.no_grad():
        one.model.layers[0].mlp.fc1.weight.mul_(3)
    one._encodings.clear()
    after = one.embed(pictures())
    wanted = one.model(one.processor(pictures())["pixel_values"]).last_hidden_state[:, 0].numpy()
    assert after == pytest.approx(wanted, abs=1e-4)
    assert abs(after - before).max() > 1e-3


def test_it_has_as_many_threads_as_torch() -> None:
    one, usual = encoder(), torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            forward = one.runner.forward().compute
            assert isinstance(forward, OpenVINOModel)
            assert forward._networks[False]._compiled.get_property("INFERENCE_NUM_THREADS") == threads
    finally:
        torch.set_num_threads(usual)


def test_torch_computes_where_openvino_gives_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encoder("torch").embed(pictures())
    monkeypatch.setattr(openvino_forward._Graph, "activation", lambda self, x: self.ops.relu(x))
    wrong = encoder()
    with pytest.warns(UserWarning, match=r"OpenVINO gave numbers .* apart where 0.0001 is allowed; torch computes"):
        found = wrong.embed(pictures())
    assert wrong.engine.startswith("packed (OpenVINO gave numbers")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("error", [OSError("libtbb.so.12: cannot open"), RuntimeError("no such\nplugin")], ids=str)
def test_torch_computes_where_openvino_is_damaged(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr(openvino_forward, "library", fail)
    found = compiled(backbone())
    assert found == NotCompiled(f"OpenVINO refused the model: {' '.join(str(error).split())}")
    with pytest.warns(UserWarning, match="torch computes instead"):
        assert backend.prepare(backbone(), "openvino").engine == f"packed ({found.reason})"


def test_too_little_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoder()
    forward = one.runner.forward().compute

    class Full:
        def infer(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("Exception from src/inference/src/infer_request.cpp:223: std::bad_alloc")

    assert isinstance(forward, OpenVINOModel)
    monkeypatch.setattr(forward._networks[False], "_request", Full())
    with pytest.raises(InputError, match="not enough memory for small with an input of 16 x 16 pixels"):
        one.embed(pictures())


def test_a_copy_and_a_pickle_ask_for_it_again(tmp_path: Path) -> None:
    folder = models.write(tmp_path / "model", models.small())
    opened = Encoder.from_pretrained(folder, device="cpu", dtype="float32", backend="openvino")
    for one in (encoder(), opened):
        for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert twin.engine == "openvino"
            np.testing.assert_array_equal(twin.embed(pictures()), one.embed(pictures()))


def test_nothing_is_sent_and_nothing_is_written(tmp_path: Path) -> None:
    """OpenVINO's own import would make a folder with an identity, and send an event."""
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys, torch; torch.set_num_threads(1); from vitmsn.encoder import Encoder; "
        "from vitmsn.config import ViTMSNConfig; import numpy; "
        "one = Encoder.random(ViTMSNConfig(image_size=32, num_hidden_layers=1), device='cpu', backend='openvino'); "
        "one.embed(numpy.zeros((32, 32, 3), numpy.uint8)); "
        "print(one.engine, 'openvino_telemetry' in sys.modules)"
    )
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["openvino", "False"], done.stderr
    assert list(home.rglob("*")) == []


def test_only_the_graph_that_is_wanted_is_made() -> None:
    for hidden in (True, False):
        one = encoder()
        one.tokens(pictures()[0]) if hidden else one.embed(pictures())
        forward = one.runner.forward().compute
        assert isinstance(forward, OpenVINOModel) and list(forward._networks) == [hidden]


def test_the_plain_forward_gives_the_layers_where_their_graph_gives_other_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ready(backbone())
    x = pixels(model.model, 2)
    wanted = model.model(x, interpolate_pos_encoding=True, output_hidden_states=True)
    monkeypatch.setattr(openvino_forward._Graph, "activation", lambda self, x: self.ops.relu(x))
    with pytest.warns(UserWarning, match=r"OpenVINO gave numbers .* apart .*; the plain forward is used"):
        found = model(x, output_hidden_states=True)
    torch.testing.assert_close(found.hidden_states, wanted.hidden_states, rtol=0, atol=0)
    torch.testing.assert_close(model(x).last_hidden_state, wanted.last_hidden_state, atol=1e-4, rtol=1e-5)
