"""Which backend computes: by name, by the environment, by what is installed, on what device and in what precision."""

from __future__ import annotations

import pytest
import torch

from tests.support import models
from tests.support.pictures import noise
from vitmsn import backend, cli, extras
from vitmsn.backend import choose_backend
from vitmsn.encoder import Encoder
from vitmsn.errors import InputError, MissingPackageError

CPU = torch.device("cpu")


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without what the tests choose (conftest.py), on the processors that were measured."""
    monkeypatch.delenv("VITMSN_BACKEND")
    monkeypatch.setattr(backend.platform, "machine", lambda: "x86_64")
    return monkeypatch


def there(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(extras, "installed", lambda package: installed)


def test_auto_takes_openvino_where_it_is_installed(auto: pytest.MonkeyPatch) -> None:
    for installed, chosen in ((True, "openvino"), (False, "torch")):
        there(auto, installed)
        assert choose_backend("auto", CPU, torch.float32) == choose_backend("auto", CPU, torch.bfloat16) == chosen
        assert choose_backend("torch", CPU, torch.float32) == "torch"


def test_auto_takes_torch_where_openvino_cannot_compute(auto: pytest.MonkeyPatch) -> None:
    there(auto, True)
    assert choose_backend("auto", torch.device("cuda"), torch.float32) == "torch"
    assert choose_backend("auto", CPU, torch.float16) == choose_backend("auto", CPU, torch.float64) == "torch"


def test_auto_takes_torch_on_processors_that_were_not_measured(auto: pytest.MonkeyPatch) -> None:
    there(auto, True)
    auto.setattr(backend.platform, "machine", lambda: "arm64")
    assert choose_backend("auto", CPU, torch.float32) == "torch"
    assert choose_backend("openvino", CPU, torch.float32) == "openvino"


def test_the_environment_says_what_auto_is(auto: pytest.MonkeyPatch) -> None:
    there(auto, True)
    auto.setenv("VITMSN_BACKEND", "torch")
    assert choose_backend("auto", CPU, torch.float32) == "torch"
    assert choose_backend("openvino", CPU, torch.float32) == "openvino"  # what was asked for by name stays
    auto.setenv("VITMSN_BACKEND", "openvino")
    assert choose_backend("auto", CPU, torch.float32) == "openvino"
    assert choose_backend("auto", torch.device("cuda"), torch.float32) == "torch"  # of a choice that there is
    auto.setenv("VITMSN_BACKEND", "onnx")
    with pytest.raises(InputError, match="VITMSN_BACKEND is 'onnx'; choose auto, torch, compile, openvino"):
        choose_backend("auto", CPU, torch.float32)


def test_a_backend_that_is_not_there_is_one_sentence(
    auto: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there(auto, False)
    said = r"This needs openvino, which is not installed; install it with: pip install 'vitmsn\[openvino\]'"
    for ask in ("name", "environment"):
        if ask == "environment":
            auto.setenv("VITMSN_BACKEND", "openvino")
        with pytest.raises(MissingPackageError, match=said):
            choose_backend("openvino" if ask == "name" else "auto", CPU, torch.float32)
    with pytest.raises(MissingPackageError, match=said):  # before the first picture
        Encoder.random(models.small(), device="cpu", backend="openvino")
    assert cli.main(["classify", "cat.jpg", "--backend", "openvino", "--device", "cpu"]) == 2
    assert "pip install 'vitmsn[openvino]'" in capsys.readouterr().err


def test_other_names_and_places_are_refused() -> None:
    with pytest.raises(InputError, match="backend is 'onnx'; choose auto, torch, compile, openvino"):
        choose_backend("onnx", CPU, torch.float32)
    with pytest.raises(InputError, match=r"would compute in float32 on cuda; it takes float32 and bfloat16 on a CPU"):
        choose_backend("openvino", torch.device("cuda"), torch.float32)
    with pytest.raises(InputError, match=r"would compute in float16 on cpu"):
        Encoder(models.backbone(), Encoder.random(models.small(), device="cpu").processor, name="half",
                dtype=torch.float16, backend="openvino")  # fmt: skip


def test_nothing_is_imported_to_see_what_is_installed() -> None:
    assert extras.installed("torch") and not extras.installed("no_such_package")
    assert not extras.installed("no_such_package.part")


def test_a_hidden_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not extras.installed("openvino")


def test_a_forward_fits_the_model_that_it_was_made_of() -> None:
    model, usual = models.backbone(), torch.get_num_threads()
    made = backend.prepare(model, "torch")
    assert backend.fits(made, model) and not backend.fits(made, models.backbone())
    assert {id(weight) for weight in backend._weights(model)} == {id(weight) for weight in model.parameters()}
    with torch.no_grad():
        model.layernorm.bias.add_(1)
    assert not backend.fits(made, model)
    made = backend.prepare(model, "torch")
    model.layers[0].mlp.fc1 = torch.nn.Linear(16, 32)
    assert not backend.fits(made, model)
    made = backend.prepare(model, "torch")
    try:
        torch.set_num_threads(usual + 1)
        assert not backend.fits(made, model)
    finally:
        torch.set_num_threads(usual)


def test_an_encoder_says_what_computes() -> None:
    encoder = Encoder.random(models.small(), device="cpu")  # "auto" is torch in the tests
    assert encoder.backend == "torch" and encoder.engine == "packed"
    assert encoder.embed([noise(20, 20)]).shape == (1, 16)
