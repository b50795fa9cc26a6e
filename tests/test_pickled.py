"""Encoders as pickles: small where they have a source, whole where they have none, refused where it changed."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.app import ROOT
from vitmsn import checkpoint, pickled
from vitmsn.encoder import Encoder
from vitmsn.errors import ChangedModelError

CONFIG = models.small()
CARD = {"not_sure_below": 0.25}
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models.write(tmp_path / "model", CONFIG, feature_mean=torch.arange(16.0), card=CARD, temperature=0.2)


@pytest.fixture(autouse=True)
def nothing_opened() -> None:
    pickled._opened.clear()


def assert_equal(found: Encoder, encoder: Encoder) -> None:
    np.testing.assert_array_equal(found.embed(PICTURES), encoder.embed(PICTURES))
    assert found.fingerprint == encoder.fingerprint and found.name == encoder.name
    assert found.labels == encoder.labels and found.card == encoder.card
    for head in ("classifier", "msn_head"):
        one, other = getattr(found, head), getattr(encoder, head)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    if encoder.has_msn_head:
        np.testing.assert_array_equal(found.assign(PICTURES, sharpen=True), encoder.assign(PICTURES, sharpen=True))


def test_an_opened_model_is_pickled_by_reference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    encoder = Encoder.from_pretrained("model", device="cpu", dtype="float32").set_params(layernorm=False)
    data = pickle.dumps(encoder)
    assert len(data) < 1000 and str(folder).encode() in data
    monkeypatch.chdir("/")
    found = pickle.loads(data)
    assert_equal(found, encoder)
    assert found.get_params()["layernorm"] is False
    assert pickle.loads(data).model is found.model  # read once in a process
    assert found.set_params(size=32) and pickle.loads(data).get_params()["size"] is None


class Own(Encoder):
    """An encoder of somebody else."""


def test_a_pickle_is_opened_as_what_it_was(folder: Path) -> None:
    first, second = (pickle.dumps(kind.from_pretrained(folder, device="cpu")) for kind in (Encoder, Own))
    assert type(pickle.loads(first)) is Encoder and type(pickle.loads(second)) is Own


def test_another_process_opens_it(folder: Path, tmp_path: Path) -> None:
    encoder = models.read(folder)
    (tmp_path / "encoder.pickle").write_bytes(pickle.dumps(encoder))
    np.save(tmp_path / "pictures.npy", PICTURES)
    code = (
        "import sys, pickle, numpy, torch; torch.set_num_threads(1); folder = sys.argv[1]; "
        "encoder = pickle.load(open(folder + '/encoder.pickle', 'rb')); "
        "numpy.save(folder + '/rows.npy', encoder.embed(numpy.load(folder + '/pictures.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), encoder.embed(PICTURES), atol=1e-5)


def test_an_embedded_model_is_referred_to_by_name() -> None:
    encoder = Encoder.from_pretrained(None, device="cpu")
    assert encoder.reference is not None and encoder.reference.place == checkpoint.EMBEDDED
    assert pickle.loads(pickle.dumps(encoder)).name == checkpoint.EMBEDDED


@pytest.mark.parametrize("change", ["weights", "head", "card", "gone"])
def test_a_model_that_changed_is_refused(folder: Path, change: str) -> None:
    data = pickle.dumps(models.read(folder))
    shutil.rmtree(folder)
    more = {"feature_mean": torch.arange(16.0), "card": CARD, "temperature": 0.2}
    if change == "weights":
        models.write(folder, CONFIG, seed=1, **more)
    elif change == "head":
        models.write(folder, CONFIG, **(more | {"temperature": 0.3}))
    elif change == "card":
        models.write(folder, CONFIG, **(more | {"card": {"not_sure_below": 0.5}}))
    said = "cannot be opened here" if change == "gone" else "has changed since this encoder was pickled"
    with pytest.raises(ChangedModelError, match=said):
        pickle.loads(data)
    if change == "gone":
        models.write(folder, CONFIG, **more)
        assert pickle.loads(data).labels == ["ant", "bee", "cat"]


def test_an_encoder_without_a_source_is_pickled_with_its_weights() -> None:
    encoder = Encoder.random(CONFIG, seed=3, device="cpu").set_params(size=32)
    found = pickle.loads(pickle.dumps(encoder))
    assert_equal(found, encoder)
    assert found.get_params() == encoder.get_params() and found.model is not encoder.model
    assert not any(weight.requires_grad for weight in found.model.parameters())


def test_half_precision_keeps_its_fingerprint() -> None:
    whole = Encoder.random(CONFIG, device="cpu")
    half = Encoder(whole.model, whole.processor, name="half", dtype=torch.bfloat16)
    for found in (pickle.loads(pickle.dumps(half)), copy.deepcopy(half)):
        assert_equal(found, half)
        assert found.dtype == torch.bfloat16


def test_a_deep_copy_has_weights_lock_and_cache_of_its_own(folder: Path) -> None:
    encoder = models.read(folder)
    shutil.rmtree(folder)  # nothing is read again
    twin = copy.deepcopy(encoder)
    assert_equal(twin, encoder)
    assert twin.reference == encoder.reference
    with torch.no_grad():
        next(twin.model.parameters()).add_(1)
    twin._encodings.clear()
    assert not np.array_equal(twin.embed(PICTURES), encoder.embed(PICTURES))
    assert copy.copy(encoder).model is encoder.model
