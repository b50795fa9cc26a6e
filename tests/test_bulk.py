"""Rows of pictures on an engine: the same answers from any number of workers, and rows from everywhere."""

from __future__ import annotations

import functools
import http.server
import io
import pickle
import tarfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tests.support import models
from vitmsn import bulk
from vitmsn.bulk import Classify, Embed
from vitmsn.encoder import Encoder
from vitmsn.errors import DataError, ImageError, MissingHeadError


def encoded(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


PICTURES = [encoded(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(models.write(tmp_path_factory.mktemp("models") / "small", models.small()))


@pytest.fixture(scope="module")
def expected(model: str) -> np.ndarray:
    return Encoder.from_pretrained(model, device="cpu").embed(PICTURES)


def embed(model: str, **options: Any) -> Embed:
    return Embed(model, device="cpu", **options)


def test_every_form_of_pictures(model: str, expected: np.ndarray, tmp_path: Path) -> None:
    for number, data in enumerate(PICTURES):
        (tmp_path / f"{number}.png").write_bytes(data)
    forms: dict[str, list[Any]] = {
        "bytes": PICTURES,
        "paths": [str(tmp_path / f"{number}.png") for number in range(12)],
        "of datasets": [{"bytes": data, "path": None} for data in PICTURES],
        "addresses": [f"file://{tmp_path}/{number}.png" for number in range(12)],
        "arrays": [np.asarray(Image.open(io.BytesIO(data))) for data in PICTURES],
    }
    call = embed(model)
    for form, values in forms.items():
        found = call({"image": values, "id": list(range(12))})
        assert list(found) == ["id", "embedding", "error"], form
        np.testing.assert_allclose(found["embedding"], expected, atol=1e-6)
        assert not any(found["error"])


def test_what_is_no_picture_keeps_its_row(model: str, expected: np.ndarray) -> None:
    batch = {"image": [PICTURES[0], b"no picture", "memory://nowhere/1.png", PICTURES[3]], "id": [0, 1, 2, 3]}
    [row] = embed(model)({"image": ["nosuch://a.png"]})["error"]
    assert "Protocol not known: nosuch" in row
    found = embed(model, keep=True)(batch)
    assert found["image"] == batch["image"] and found["id"] == [0, 1, 2, 3]
    np.testing.assert_allclose(found["embedding"][[0, 3]], expected[[0, 3]], atol=1e-6)
    assert not found["embedding"][[1, 2]].any()
    assert found["error"][0] == found["error"][3] == ""
    assert "picture" in found["error"][1] and "1.png cannot be read" in found["error"][2]


def test_classify_answers_as_the_encoder(model: str) -> None:
    found = Classify(model, device="cpu")({"image": [PICTURES[0], b"", PICTURES[1]]})
    said = Encoder.from_pretrained(model, device="cpu").classify(PICTURES[:2], top_k=1)
    assert found["label"].tolist() == [said[0].label, None, said[1].label]
    assert found["closest"].tolist() == [said[0].labels[0], None, said[1].labels[0]]
    np.testing.assert_allclose(found["probability"][[0, 2]], [one.probabilities[0] for one in said], atol=1e-6)
    assert np.isnan(found["probability"][1]) and found["error"][1]


def test_a_pickle_is_the_names_alone(model: str) -> None:
    call = embed(model)
    call({"image": PICTURES[:1]})
    data = pickle.dumps(call)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again._encoder is None
    np.testing.assert_array_equal(again({"image": PICTURES})["embedding"], call({"image": PICTURES})["embedding"])


def test_two_processes_and_other_batches_give_the_same_rows(model: str, expected: np.ndarray) -> None:
    parts = [{"image": PICTURES[start : start + 5]} for start in range(0, 12, 5)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = [answer["embedding"] for answer in pool.map(embed(model), parts)]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


def test_datasets_map(model: str, expected: np.ndarray) -> None:
    rows = datasets.Dataset.from_dict({"image": PICTURES, "id": list(range(12))})
    found = rows.map(embed(model), batched=True, batch_size=5, remove_columns=["image"])
    assert found["id"] == list(range(12))
    np.testing.assert_allclose(np.array(found["embedding"]), expected, atol=1e-6)


def test_pictures_of_a_web_server_and_of_memory(model: str, expected: np.ndarray, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for number, data in enumerate(PICTURES[:3]):
        (tmp_path / f"{number}.png").write_bytes(data)
        memory.pipe(f"/pictures/deep/{number}.png", data)
    listed = bulk.listing("memory://pictures")
    assert [address.rpartition("/")[2] for address in listed] == ["0.png", "1.png", "2.png"]
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        served = [f"http://127.0.0.1:{server.server_port}/{number}.png" for number in range(3)]
        found = embed(model)({"image": [*served, *listed, served[0].replace("0.png", "9.png")]})
        server.shutdown()
    np.testing.assert_allclose(found["embedding"][:6], np.tile(expected[:3], (2, 1)), atol=1e-6)
    assert [bool(error) for error in found["error"]] == [False] * 6 + [True]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_a_webdataset_tar(model: str, expected: np.ndarray) -> None:
    endings = ("png", "jfif", "heif", "JPE", "img")
    files = {f"shard/{seed:04}.{ending}": PICTURES[seed] for seed, ending in enumerate(endings)}
    noise = {"shard/0000.json": b"{}", "shard/0001.cls": b"3", "notes.txt": b"x"}
    fsspec.filesystem("memory").pipe("/shards/0.tar", tar(files | noise))
    rows = list(bulk.webdataset("memory://shards/0.tar"))
    assert [row["__key__"] for row in rows] == [f"shard/{seed:04}" for seed in range(5)]
    found = [embed(model)(batch) for batch in bulk.columns(rows, 2)]
    assert [len(part["error"]) for part in found] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate([part["embedding"] for part in found]), expected[:5], atol=1e-6)
    fsspec.filesystem("memory").pipe("/shards/cut.tar", tar(files)[:700])
    with pytest.raises(DataError, match=r"cut\.tar is no tar that can be read to its end"):
        list(bulk.webdataset("memory://shards/cut.tar"))


def test_parquet_of_a_stranger(model: str, expected: np.ndarray, tmp_path: Path) -> None:
    table = pyarrow.table({"jpg": [{"bytes": data, "path": "a.png"} for data in PICTURES], "caption": ["x"] * 12})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=5)
    call, batches = embed(model, column="jpg"), pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").iter_batches(5)
    found = [call(batch.to_pydict()) for batch in batches]
    np.testing.assert_allclose(np.concatenate([part["embedding"] for part in found]), expected, atol=1e-6)
    assert found[0]["caption"] == ["x"] * 5


def test_what_cannot_be_used_is_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no column 'image', only picture; name it with column="):
        embed(model)({"picture": PICTURES})
    with pytest.raises(DataError, match="Protocol not known: nowhere"):
        bulk.read("nowhere://a.png")
    with pytest.raises(DataError, match="holds no files"):
        bulk.listing("memory://nothing-here")
    with pytest.raises(ImageError, match=r"0\.png cannot be read"):
        bulk.read("memory://nothing-here/0.png")
    backbone = models.write(tmp_path / "backbone", models.small(), classifier=False)
    with pytest.raises(MissingHeadError):
        Classify(str(backbone), device="cpu")({"image": PICTURES[:1]})
