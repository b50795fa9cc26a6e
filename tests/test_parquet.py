"""Large folders: what is written equals what the encoder says, and goes on after an interruption."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from tests.support import models
from vitmsn import limits, parquet
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, MissingHeadError

CONFIG = models.small()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return models.read(models.write(tmp_path_factory.mktemp("models") / "small", CONFIG))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Eleven pictures and a broken one, in parts of four."""
    monkeypatch.setattr(parquet, "PART", 4)
    monkeypatch.setattr(limits, "MAX_BATCH", 3)
    rng = np.random.default_rng(0)
    for number in range(11):
        Image.fromarray(rng.integers(256, size=(20, 20, 3), dtype=np.uint8)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "05b.png").write_bytes(b"no picture")
    return sorted(str(path) for path in tmp_path.glob("*.png"))


def test_embeddings_are_those_of_the_encoder_and_bad_files_are_listed(
    files: list[str], encoder: Encoder, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    parquet.embed(files, encoder, tmp_path / "out.parquet", progress=lambda done, total: seen.append((done, total)))
    names, rows = parquet.load(tmp_path / "out.parquet")
    good = [file for file in files if "b" not in Path(file).name]
    assert names == good and seen[-1] == (12, 12) and seen == sorted(seen)
    np.testing.assert_allclose(rows, encoder.embed(good), atol=1e-5)
    found = parquet.summary(tmp_path / "out.parquet")
    assert (found.pictures, found.parts) == (11, 3)
    [(file, why)] = found.skipped
    assert file.endswith("05b.png") and "05b.png" in why
    whole = pyarrow.parquet.read_table(tmp_path / "out.parquet")  # the folder as one table, as others read it
    assert whole.column_names == ["file", "embedding"] and whole["file"].to_pylist() == good


def test_an_interrupted_run_resumes(files: list[str], encoder: Encoder, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"

    def interrupt(done: int, total: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.embed(files, encoder, out, progress=interrupt)
    assert sorted(path.name for path in out.iterdir()) == ["part-00000.parquet"]  # nothing half-written stays
    before = (out / "part-00000.parquet").stat().st_mtime_ns
    parquet.embed(files, encoder, out)
    assert (out / "part-00000.parquet").stat().st_mtime_ns == before
    names, rows = parquet.load(out)
    np.testing.assert_allclose(rows, encoder.embed(names), atol=1e-5)


def test_processes_share_the_parts(files: list[str], encoder: Encoder, tmp_path: Path) -> None:
    for index in (0, 1):
        parquet.embed(files, encoder, tmp_path / "two.parquet", index=index, count=2)
        assert parquet.summary(tmp_path / "two.parquet").parts == (2, 3)[index]
    parquet.embed(files, encoder, tmp_path / "one.parquet")
    for one, two in zip(parquet.load(tmp_path / "one.parquet"), parquet.load(tmp_path / "two.parquet"), strict=True):
        assert np.array_equal(one, two)


def test_classes_are_those_of_the_encoder(files: list[str], encoder: Encoder, tmp_path: Path) -> None:
    parquet.classify(files, encoder, tmp_path / "c.parquet", top_k=2)
    rows = pyarrow.parquet.read_table(tmp_path / "c.parquet").to_pylist()
    for row, said in zip(rows, encoder.classify([row["file"] for row in rows], top_k=2), strict=True):
        assert (row["label"], row["reason"], row["closest"]) == (said.label, said.reason, said.labels[0])
        assert row["labels"] == said.labels
        assert row["probability"] == pytest.approx(said.probabilities[0], abs=1e-5) and len(row["probabilities"]) == 2
    with pytest.raises(DataError, match="holds no embeddings"):
        parquet.load(tmp_path / "c.parquet")
    with pytest.raises(MissingHeadError):
        parquet.classify(files, Encoder.random(CONFIG, device="cpu"), tmp_path / "d.parquet")
    assert not (tmp_path / "d.parquet").exists()


def test_other_files_in_the_folder_are_not_overwritten(files: list[str], encoder: Encoder, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    parquet.embed(files, encoder, out)
    for changed in (files[1:], files[:4]):
        with pytest.raises(DataError, match="was made of other files, with another model or other options"):
            parquet.embed(changed, encoder, out)
    with pytest.raises(DataError, match="with another model or other options"):
        parquet.embed(files, encoder, out, layernorm=False)
    with pytest.raises(DataError, match="with another model or other options"):
        parquet.embed(files, Encoder.random(CONFIG, seed=3, device="cpu"), out)
    (out / "part-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="is no part that was written here"):
        parquet.embed(files, encoder, out)
    with pytest.raises(DataError, match=r"holds .*\.png, which is no part"):
        parquet.embed(files, encoder, tmp_path)
    with pytest.raises(DataError, match="is a file"):
        parquet.embed(files, encoder, files[0])
    with pytest.raises(DataError, match=r"below cannot be made \(.+\): choose another place"):
        parquet.embed(files, encoder, f"{files[0]}/below")
    (out / "part-00001.parquet").rename(out / "part-notes.parquet")
    with pytest.raises(DataError, match=r"holds part-notes\.parquet, which is no part of it"):
        parquet.embed(files, encoder, out)


def test_a_replaced_or_repaired_picture_is_embedded_again(files: list[str], encoder: Encoder, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    parquet.embed(files, encoder, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    Image.new("RGB", (20, 20), "red").save(files[0])
    parquet.embed(files, encoder, out)
    names, rows = parquet.load(out)
    np.testing.assert_allclose(rows, encoder.embed(names), atol=1e-5)
    again = {path.name for path in out.iterdir() if path.stat().st_mtime_ns != before[path.name]}
    assert again == {"part-00000.parquet"}

    Image.new("RGB", (20, 20), "blue").save(tmp_path / "05b.png")
    parquet.embed(files, encoder, out)
    assert parquet.summary(out).skipped == () and parquet.load(out)[0] == files


def test_skipped_files_are_tried_again(
    files: list[str], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MAX_PIXELS", 100)
        parquet.embed(files, encoder, out)
    assert len(parquet.summary(out).skipped) == 12
    parquet.embed(files, encoder, out)  # the files are as they were
    assert len(parquet.summary(out).skipped) == 1 and parquet.summary(out).pictures == 11


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_not_utf_8_are_escaped(files: list[str], encoder: Encoder, tmp_path: Path) -> None:
    odd = [os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/caf\xe9.png", b"/no\xff.png")]
    os.rename(files[0], odd[0])
    Path(odd[1]).write_bytes(b"no picture")
    parquet.embed(odd, encoder, tmp_path / "odd.parquet")
    assert parquet.load(tmp_path / "odd.parquet")[0] == [f"{tmp_path}/caf\\xe9.png"]
    assert parquet.summary(tmp_path / "odd.parquet").skipped[0][0] == f"{tmp_path}/no\\xff.png"
    parquet.embed(odd, encoder, tmp_path / "odd.parquet")
