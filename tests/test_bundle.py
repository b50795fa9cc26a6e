"""Galleries as one file: everything is restored, and forged bundles are refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.support.galleries import Fake, gallery, pictures, png
from tests.support.zips import zipped
from vitmsn import bundle
from vitmsn.archive import read_zip
from vitmsn.encoder import Encoder
from vitmsn.errors import ArchiveError, GalleryError, ViTMSNError
from vitmsn.gallery import Gallery


def saved(tmp_path: Path) -> Path:
    made = gallery(10, 11, 12)
    made.add_class("\u732b <empty>")
    made.enable(["e3"], False)
    made.settings = {"method": "knn", "k": 5, "caution": 0.05}
    return bundle.save(made, tmp_path / "pets.zip")


def test_a_bundle_restores_everything(tmp_path: Path) -> None:
    path = saved(tmp_path)
    made, back = gallery(10, 11, 12), bundle.load(path, Fake())
    assert back.classes == ["even", "odd", "\u732b <empty>"] and back.settings == {
        "method": "knn",
        "k": 5,
        "caution": 0.05,
    }
    for before, after in zip(made.examples, back.examples, strict=True):
        assert (before.id, before.label, before.name, before.digest) == (
            after.id,
            after.label,
            after.name,
            after.digest,
        )
        assert np.array_equal(before.embedding, after.embedding) and after.picture().size == (40, 30)
        assert np.array_equal(before.pixels, after.pixels)
    assert not back["e3"].enabled and back.y.tolist() == ["even", "odd"]
    assert back.add("odd", pictures(13), Fake().embed(pictures(13))).ids == ("e4",)
    assert bundle.load(path.read_bytes(), Fake()).classes == back.classes
    assert bundle.is_bundle(path) and not bundle.is_bundle(zipped({"cat/1.png": b"1"}))
    again = bundle.save(bundle.load(path, Fake()), tmp_path / "again.zip")
    assert bundle.load(again, Fake()).examples[0].thumbnail[:2] == b"\xff\xd8"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.zip", "pets.zip"]


def test_equal_galleries_give_equal_files_and_empty_ones_can_be_saved(tmp_path: Path) -> None:
    one, other = (bundle.save(gallery(1, 2), tmp_path / name) for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    assert len(bundle.load(bundle.save(Gallery(Fake()), tmp_path / "c"), Fake())) == 0


def test_another_model_is_refused_unless_embedding_again_is_asked_for(tmp_path: Path) -> None:
    path, other = saved(tmp_path), Fake("other", 2.0)
    with pytest.raises(GalleryError, match="was made with fake and other came: choose that model, or embed"):
        bundle.load(path, other)
    back = bundle.load(path, other, re_embed=True)
    assert back.model == "other" and back.fingerprint == other.fingerprint
    np.testing.assert_allclose(back.X, 2 * gallery(10, 11).X, atol=4)


def test_saving_replaces_the_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(GalleryError, match=r"pets.zip cannot be written \(No space left on device\)"):
        bundle.save(gallery(1), path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["pets.zip"]
    with pytest.raises(GalleryError, match="cannot be written"):
        bundle.save(gallery(1), tmp_path / "missing" / "x.zip")
    made = gallery(1)
    made.settings = {"k": object()}
    with pytest.raises(GalleryError, match="plain values"):
        bundle.save(made, path)


def forged(tmp_path: Path, **changes: object) -> bytes:
    """The bundle with values of its JSON replaced, or whole files by their name; None removes one."""
    with zipfile.ZipFile(saved(tmp_path)) as archive:
        files: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(files["gallery.json"] or b"")
    for key, value in changes.items():
        if "." in key:
            assert value is None or isinstance(value, bytes)
            files[key] = value
        elif key in about:
            about[key] = value
        else:
            about["examples"][0][key] = value
    if "gallery.json" not in changes:
        files["gallery.json"] = json.dumps(about).encode()
    return zipped({name: data for name, data in files.items() if data is not None})


def tensors(**arrays: np.ndarray) -> dict[str, object]:
    return {"embeddings.safetensors": safetensors.numpy.save(arrays)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery.json": None}, "gallery.json is missing"),
        ({"gallery.json": b"{" * 100_000}, "gallery.json is damaged"),
        ({"gallery.json": b"[" * 100_000}, "gallery.json is damaged"),
        ({"gallery.json": b"\xff{}"}, "gallery.json is damaged"),
        ({"gallery.json": b"[]"}, "about something else"),
        ({"gallery.json": b'{"version": ' + b"9" * 5000 + b"}"}, "gallery.json is damaged"),
        ({"classes": [None]}, "a class has no name"),
        ({"format": "another"}, "about something else"),
        ({"version": 2}, "a newer version wrote it"),
        ({"classes": "even"}, "its classes are missing or wrong"),
        ({"classes": [1]}, "a class has no name"),
        ({"classes": ["odd"]}, "an example's class is missing"),
        ({"classes": ["\u200b"]}, "visible character"),
        ({"classes": [f"c{n}" for n in range(51)]}, "at most 50 classes"),
        ({"settings": {"x": {"deep": 1}}}, "its settings are not plain values"),
        ({"settings": {"x": float("nan")}}, "its settings are not plain values"),
        ({"examples": [{}] * 2001}, "at most 2000 examples"),
        ({"examples": []}, "its embeddings do not fit"),
        ({"examples": [1, 2, 3]}, "an example is incomplete"),
        ({"extra": 1}, "an example is incomplete"),
        ({"enabled": 1}, "an example is wrong"),
        ({"id": "e2"}, "an example's id is wrong"),
        ({"id": "../../x"}, "an example's id is wrong"),
        ({"id": "e9"}, "pictures/e9.jpg is missing"),
        ({"digest": "zz"}, "an example's digest is wrong"),
        ({"pictures/e1.jpg": b"<svg>"}, "is damaged: 10.png is"),
        ({"embeddings.safetensors": None}, "embeddings.safetensors is missing"),
        ({"embeddings.safetensors": b"junk"}, "embeddings.safetensors is damaged"),
        ({"embeddings.safetensors": b"\xff" * 100}, "embeddings.safetensors is damaged"),
        (tensors(x=np.zeros((3, 16), np.float32)), "is damaged"),
        (tensors(embeddings=np.zeros((3, 16))), "is damaged"),
        (tensors(embeddings=np.zeros((3, 9), np.float32), pixels=np.zeros((2, 768), np.uint8)), "do not fit"),
        (tensors(embeddings=np.zeros((3, 9), np.float32), pixels=np.zeros((3, 768), np.float32)), "is damaged"),
        (tensors(embeddings=np.zeros((2, 9), np.float32), pixels=np.zeros((3, 768), np.uint8)), "do not fit"),
        (tensors(embeddings=np.full((3, 9), np.inf, np.float32), pixels=np.zeros((3, 768), np.uint8)), "do not fit"),
        (tensors(embeddings=np.full((3, 16), 3e38, np.float32), pixels=np.zeros((3, 768), np.uint8)), "do not fit"),
        (tensors(embeddings=np.zeros((3, 9), np.float32), pixels=np.zeros((3, 768), np.uint8)), "9 numbers.*16"),
        ({"../x.txt": b""}, "points outside"),
    ],
)
def test_forged_bundles_are_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ViTMSNError, match=message) as caught:
        bundle.load(forged(tmp_path, **changes), Fake())
    assert isinstance(caught.value, (GalleryError, ArchiveError)) and "\n" not in str(caught.value)


def test_names_and_pictures_of_a_bundle_are_cleaned(tmp_path: Path) -> None:
    polyglot = png() + b"<script>alert(1)</script>"
    source = forged(tmp_path, model="x\u202e\n", name="\u202eexe\x00", **{"pictures/e1.jpg": polyglot})
    back = bundle.load(source, Fake())
    assert back.model == "x" and back["e1"].name == "exe"
    assert b"script" not in back["e1"].thumbnail


def test_with_a_real_encoder(tmp_path: Path) -> None:
    encoder = Encoder.random()
    made = Gallery(encoder)
    source = zipped({f"{name}/{k}.png": png((k * 20, 9, 9)) for k, name in enumerate(["cat", "dog", "cat"])})
    assert len(made.extend(read_zip(source), encoder).ids) == 3
    back = bundle.load(bundle.save(made, tmp_path / "g.zip"), encoder)
    assert back.X.shape == (3, encoder.config.hidden_size) and np.array_equal(back.X, made.X)
    back.re_embed(encoder)
    similarity = (back.X * made.X).sum(axis=1) / np.linalg.norm(back.X, axis=1) / np.linalg.norm(made.X, axis=1)
    assert similarity.min() > 0.99


def test_reading_reports_progress_and_can_be_stopped(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    bundle.load(forged(tmp_path), Fake(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(done: int, total: int) -> None:
        raise GalleryError("Stopped.")

    with pytest.raises(GalleryError, match="Stopped"):
        bundle.read(forged(tmp_path), stop)
