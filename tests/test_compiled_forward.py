"""Kernels that torch.compile writes give what the plain forward gives, and step aside where there is no compiler."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support import models
from tests.support.models import backbone, pixels
from tests.support.pictures import noise
from vitmsn import backend, cli, compiled_forward, devices
from vitmsn.compiled_forward import CannotCompile, CompiledModel, compile_model
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError

# of torch's own code, which it warns of itself
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels are written to a folder of this run, and nothing that another test compiled is reused."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "kernels"))
    torch.compiler.reset()
    with torch.inference_mode():
        yield


@needs_compiler
def test_compiled_kernels_give_the_plain_numbers() -> None:
    torch.manual_seed(0)
    model = backbone()
    made = compile_model(model)
    assert isinstance(made, CompiledModel), made
    x, keep = pixels(model, 2, (5, 3)), models.random_rows(2, 15, 7)
    for chosen, every_layer in ((None, True), (keep, False)):
        found = made(x, chosen, output_hidden_states=every_layer)
        wanted = model(x, keep_indices=chosen, interpolate_pos_encoding=True, output_hidden_states=every_layer)
        assert found.grid == wanted.grid and (found.hidden_states is None) == (wanted.hidden_states is None)
        torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-4, rtol=1e-5)
        for one, other in zip(found.hidden_states or (), wanted.hidden_states or (), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@needs_compiler
def test_an_encoder_takes_it_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    config = models.small()
    made = {name: Encoder.random(config, device="cpu", backend=name) for name in ("torch", "compile")}
    assert (made["compile"].backend, made["compile"].engine) == ("compile", "compiled")
    found = {name: encoder.embed([noise(40, 30, seed=seed) for seed in range(3)]) for name, encoder in made.items()}
    torch.testing.assert_close(*map(torch.from_numpy, found.values()), atol=1e-4, rtol=1e-5)
    monkeypatch.setenv("VITMSN_BACKEND", "compile")
    assert Encoder.random(config, device="cpu").backend == "compile"


def test_one_layer_is_compiled_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's part left out, which takes the time."""
    graphs = []

    def counted(graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> object:
        graphs.append(len(given))
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda fn, **kw: real(fn, **kw, backend=counted))
    model = backbone(num_hidden_layers=4)
    made = compile_model(model)
    assert isinstance(made, CompiledModel), made
    assert len(graphs) == 1, "four layers, one shape"
    made(pixels(model, 3, (4, 4)))
    made(pixels(model, 3, (4, 4)))
    assert len(graphs) == 2, "a shape that is known costs nothing more"


def test_without_a_compiler_torch_computes_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fn: object, **_: object) -> object:
        def call(*_: object) -> object:
            raise RuntimeError("No working C++ compiler found\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    encoder = Encoder.random(models.small(), device="cpu", backend="compile")
    with pytest.warns(UserWarning, match=r"No working C\+\+ compiler found; torch computes instead"):
        assert encoder.engine == "packed (torch.compile failed: No working C++ compiler found)"
    plain = Encoder.random(models.small(), device="cpu", backend="torch")
    torch.testing.assert_close(*(torch.from_numpy(one.embed([noise(40, 30)])) for one in (encoder, plain)))


def test_kernels_with_other_numbers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda fn, **_: fn)
    monkeypatch.setattr(compiled_forward, "_layer", lambda layer, x: x + 1)
    found = compile_model(backbone())
    assert isinstance(found, CannotCompile) and "apart where 0.0001 is allowed" in found.reason
    wide = compile_model(backbone().double())
    assert isinstance(wide, CannotCompile) and "not in torch.float64" in wide.reason


def test_wrong_input_is_named_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda fn, **_: fn)
    model = backbone()
    made = backend.prepare(model, "compile")
    assert made.engine == "compiled"
    with pytest.raises(InputError, match="keep_indices runs from 0 to 99"):
        made.compute(pixels(model, 1, (4, 4)), torch.tensor([[0, 99]]), False)


def test_the_command_line_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda fn, **_: fn)
    for seed in range(2):
        noise(40, 30, seed=seed).save(tmp_path / f"{seed}.png")
    out = tmp_path / "found.npz"
    assert cli.main(["embed", str(tmp_path), "--backend", "compile", "--device", "cpu", "-o", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_to_a_gpu_from_pinned_memory(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    did = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: did.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: did.append((device.type, non_blocking)))
    devices.to_device(torch.zeros(2), torch.device(kind))
    assert did == (["pinned"] if kind == "cuda" else []) + [(kind, True)]
