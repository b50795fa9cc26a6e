"""Folders, parquet files and hub data sets: the same records, in the same order, with skipped files listed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from vitmsn import limits
from vitmsn.data import DataSet, open_data, to_uint8
from vitmsn.errors import DataError
from vitmsn.image import ViTMSNImageProcessor, decode


def png(seed: int, side: int = 10) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 2, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def table(rows: int = 12, names: tuple[str, ...] = ("ant", "bee", "cat"), **columns: Any) -> Any:
    """As `datasets` builds it: pictures with their bytes, and labels 0, 1, 2, 0, 1, ... with names."""
    values: dict[str, Any] = {
        "image": [{"bytes": png(row), "path": f"{row}.png"} for row in range(rows)],
        "label": [row % len(names) for row in range(rows)],
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    for name, (value, feature) in columns.items():
        values[name], features[name] = value, feature
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, and other files that are common in people's folders."""
    files = {f"cats/{number}.png": png(number) for number in range(3)}
    files |= {"dogs/a.JPG": png(10), "dogs/more/deep/b.jpeg": png(11)}
    files |= {".DS_Store": b"x", "cats/.hidden.png": png(0), "__MACOSX/cats/0.png": b"x", "notes.txt": b"x"}
    files |= {"dogs/raw.nef": b"x", "dogs/.git/c.png": png(1), "loose.png": png(12)}
    write(tmp_path / "pets", files)
    (tmp_path / "pets" / "birds").mkdir()
    return tmp_path / "pets"


# -- Folders ----------------------------------------------------------------------------------------------------------


def test_sub_folders_are_classes(pets: Path) -> None:
    data = open_data(pets)
    assert data.classes == ("cats", "dogs")
    assert len(data) == 5
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.labels.dtype == np.int64
    records = list(data)
    assert [record.id for record in records] == [
        *("cats/0.png", "cats/1.png", "cats/2.png"),
        *("dogs/a.JPG", "dogs/more/deep/b.jpeg"),
    ]
    assert [record.label for record in records] == [0, 0, 0, 1, 1]
    assert [record.data for record in records] == [png(0), png(1), png(2), png(10), png(11)]
    assert repr(data) == f"DataSet({str(pets)!r}, 5 pictures, 2 classes)"


def test_skipped_files_are_listed(pets: Path) -> None:
    assert sorted(open_data(str(pets)).skipped) == [
        ".DS_Store: hidden, or of a system",
        "__MACOSX/cats/0.png: hidden, or of a system",
        "birds: no pictures",
        "cats/.hidden.png: hidden, or of a system",
        "dogs/.git/c.png: hidden, or of a system",
        "dogs/raw.nef: not a picture",
        "loose.png: in no class folder",
        "notes.txt: not a picture",
    ]


def test_the_order_is_the_same_every_time(pets: Path) -> None:
    first = open_data(pets)
    assert list(first) == list(first) == list(open_data(pets))


def test_a_folder_without_sub_folders_is_unlabelled(tmp_path: Path) -> None:
    data = open_data(write(tmp_path, {"b.png": png(1), "a.png": png(0), "c.txt": b"x"}))
    assert data.classes == ()
    assert data.labels.tolist() == [-1, -1]
    assert [(record.id, record.label) for record in data] == [("a.png", None), ("b.png", None)]
    assert data.skipped == ("c.txt: not a picture",)


def test_folders_of_splits(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/a/0.png": png(0), "train/b/1.png": png(1), "val/a/2.png": png(2)})
    assert [record.id for record in open_data(root)] == ["a/0.png", "b/1.png"]
    for name in ("validation", "val", "Val"):
        assert [record.data for record in open_data(root, split=name)] == [png(2)]
    with pytest.raises(DataError, match="no split 'test': choose one of train, validation"):
        open_data(root, split="test")
    assert open_data(root / "train").classes == ("a", "b")


def test_a_picture_is_cached_by_its_content(tmp_path: Path) -> None:
    files = {"cat/photo.jpg_large": png(1), "cat/IMG_1234": png(2), "cat/notes.txt": b"x", "cat/fake.jpg": b"no"}
    data = open_data(write(tmp_path, files))
    assert [record.id for record in data] == ["cat/IMG_1234", "cat/fake.jpg", "cat/photo.jpg_large"]
    assert data.skipped == ("cat/notes.txt: not a picture",)
    with pytest.warns(UserWarning, match=r"1 of 3 pictures .* are left out: cat/fake.jpg"):
        assert len(to_uint8(data, 8)[0]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.png", "wb") as file:
        file.write(png(1))
    data = open_data(tmp_path)
    assert data.classes == ("caf\\xe9",) and [record.id for record in data] == ["caf\\xe9/\\xff.png"]


def test_the_chosen_split_is_reported_and_empty_splits_do_not_count(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/a/0.png": png(0), "val/a/2.png": png(2)})
    (root / "test").mkdir()
    (root / "@eaDir").mkdir()
    assert open_data(root).skipped == ("val: the split train was chosen",)


def test_a_folder_with_a_dot_is_a_class_and_a_system_folder_is_not(tmp_path: Path) -> None:
    root = write(tmp_path, {".net/0.png": png(0), "java/1.png": png(1), "java/@eaDir/1.png/THUMB.png": png(2)})
    data = open_data(root)
    assert data.classes == (".net", "java") and len(data) == 2
    assert data.skipped == ("java/@eaDir/1.png/THUMB.png: hidden, or of a system",)


def test_classes_can_have_names_of_splits(tmp_path: Path) -> None:
    root = write(tmp_path, {"test/0.png": png(0), "train/1.png": png(1)})
    assert open_data(root).classes == ("test", "train")
    with pytest.raises(DataError, match="has no splits"):
        open_data(root, split="train")


def test_names_of_all_kinds(tmp_path: Path) -> None:
    names = ["日本語", "Ä b", "<img onerror=1>", "$x$", "=1+1"]
    data = open_data(write(tmp_path, {f"{name}/0.png": png(place) for place, name in enumerate(names)}))
    assert data.classes == tuple(sorted(names))
    assert {data.classes[record.label or 0]: record.data for record in data} == {
        name: png(place) for place, name in enumerate(names)
    }


def test_circular_links_are_not_followed(tmp_path: Path) -> None:
    root = write(tmp_path, {"a/0.png": png(0)})
    (root / "a" / "again").symlink_to(root, target_is_directory=True)
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    data = open_data(root)
    assert data.labels.tolist() == [0, 0]
    with pytest.raises(DataError, match=r"gone\.png cannot be read \(No such file"):
        list(data)


def test_huge_files_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_IMAGE_BYTES", 1000)
    (record,) = open_data(write(tmp_path, {"a/0.png": bytes(5000)}))
    assert len(record.data) == 1001


@pytest.mark.parametrize("name", ["missing", "./missing/folder", "/missing", "a b/c", "one/two/three"])
def test_missing_sources_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is not there: give a folder, parquet files or the owner/name"):
        open_data(name)


def test_sources_without_a_data_set_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a/notes.txt": b"x", "pets.zip": b"PK"})
    with pytest.raises(DataError, match="holds no pictures: put them in one folder per class"):
        open_data(tmp_path / "a")
    with pytest.raises(DataError, match=r"pets\.zip is a file"):
        open_data(tmp_path / "pets.zip")
    with pytest.raises(DataError, match="holds no pictures"):
        open_data(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_folder_is_refused(pets: Path) -> None:
    (pets / "cats").chmod(0)
    try:
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
            open_data(pets)
    finally:
        (pets / "cats").chmod(0o755)


# -- Parquet ----------------------------------------------------------------------------------------------------------


def test_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    table().to_parquet(path)
    data = open_data(path)
    assert data.classes == ("ant", "bee", "cat")
    assert len(data) == 12
    assert data.labels.tolist() == [0, 1, 2] * 4
    records = list(data)
    assert [record.data for record in records] == [png(row) for row in range(12)]
    assert [record.label for record in records] == [0, 1, 2] * 4
    assert records[7].id == "7 7.png"
    assert list(data) == records


def test_a_folder_of_shards_and_splits(tmp_path: Path) -> None:
    rows = table()
    for shard in range(3):
        rows.shard(3, shard, contiguous=True).to_parquet(tmp_path / "data" / f"train-{shard:05d}-of-00003.parquet")
    rows.select(range(5)).to_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet")
    for source in (tmp_path, tmp_path / "data", tmp_path / "data" / "train-*.parquet"):
        assert [record.data for record in open_data(source)] == [png(row) for row in range(12)]
    assert len(open_data(tmp_path, split="val")) == 5
    with pytest.raises(DataError, match="no split 'test': choose one of train, validation"):
        open_data(tmp_path, split="test")
    with pytest.raises(DataError, match="matches no file"):
        open_data(tmp_path / "test-*.parquet")


def test_an_ambiguous_split_must_be_named(tmp_path: Path) -> None:
    for name in ("validation", "test"):
        table(3).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="has the splits test, validation: say which"):
        open_data(tmp_path)
    (tmp_path / "test.parquet").unlink()
    assert len(open_data(tmp_path)) == 3


def test_many_rows_in_many_groups(tmp_path: Path) -> None:
    table(600).to_parquet(tmp_path / "x.parquet", batch_size=50)
    data = open_data(tmp_path / "x.parquet")
    chosen = [0, 1, 49, 50, 255, 256, 257, 511, 512, 599]
    assert [record.data for record in data.subset(chosen)] == [png(row) for row in chosen]
    assert len(list(data)) == 600


@pytest.mark.parametrize(
    ("values", "kind", "classes", "labels"),
    [
        (["dog", "cat", "dog", None], "string", ("cat", "dog"), [1, 0, 1, -1]),
        ([30, 7, 30, 7], "int32", ("7", "30"), [1, 0, 1, 0]),
    ],
)
def test_labels_without_names(tmp_path: Path, values: list[Any], kind: str, classes: Any, labels: list[int]) -> None:
    rows = table(4).remove_columns("label").add_column("label", values, feature=datasets.Value(kind))
    rows.to_parquet(tmp_path / "x.parquet")
    data = open_data(tmp_path / "x.parquet")
    assert data.classes == classes
    assert data.labels.tolist() == labels
    assert [record.label for record in data] == [None if label < 0 else label for label in labels]


def test_other_names_and_columns(tmp_path: Path) -> None:
    fine = datasets.ClassLabel(names=["x", "y"])
    rows = table(4, coarse=([0] * 4, fine), fine_label=([1, 0, 1, 0], fine), width=([9] * 4, datasets.Value("int64")))
    rows.remove_columns("label").rename_column("image", "img").to_parquet(tmp_path / "x.parquet")
    data = open_data(tmp_path / "x.parquet")
    assert data.classes == ("x", "y")
    assert data.labels.tolist() == [1, 0, 1, 0]
    assert next(iter(data)).data == png(0)


@pytest.mark.parametrize("extra", [{}, {"width": ([9] * 12, "int64")}])
def test_no_labels(tmp_path: Path, extra: dict[str, Any]) -> None:
    columns: dict[str, Any] = {name: (values, datasets.Value(kind)) for name, (values, kind) in extra.items()}
    rows = table(**columns)
    rows.remove_columns("label").to_parquet(tmp_path / "x.parquet")
    data = open_data(tmp_path / "x.parquet")
    assert (len(data), data.classes, set(data.labels.tolist())) == (12, (), {-1})
    assert next(iter(data)).label is None


def test_hidden_labels_of_test_splits(tmp_path: Path) -> None:
    rows = table(4).remove_columns("label")
    rows = rows.add_column("label", [0, -1, None, 1], feature=datasets.ClassLabel(names=["a", "b"]))
    rows.to_parquet(tmp_path / "test.parquet")
    assert open_data(tmp_path / "test.parquet").labels.tolist() == [0, -1, -1, 1]


def test_unusable_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"broken\.parquet cannot be read \(.+\): check"):
        open_data(tmp_path / "broken.parquet")
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="has the columns text, label: one of pictures"):
        open_data(tmp_path / "text.parquet")
    table(12).select([]).to_parquet(tmp_path / "empty.parquet", batch_size=1)
    with pytest.raises(DataError, match="holds no pictures"):
        open_data(tmp_path / "empty.parquet")


def test_paths_in_a_table_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(0))
    features = datasets.Features({"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    rows = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": str(secret)}]}, features=features)
    rows.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no picture in row 0, but at most a path"):
        list(open_data(tmp_path / "x.parquet"))


def test_truncated_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table(200).to_parquet(path, batch_size=20)
    data = open_data(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x\.parquet cannot be read"):
        list(data)


def test_stopping_early_leaves_nothing_open(tmp_path: Path) -> None:
    table(20).to_parquet(tmp_path / "x.parquet")
    threads = threading.active_count()
    for _ in range(3):
        assert next(iter(open_data(tmp_path / "x.parquet"))).label == 0
    assert threading.active_count() <= threads + 2  # pyarrow's own pool


# -- The hub ----------------------------------------------------------------------------------------------------------


def test_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str) -> Any:
        asked.append((name, split))
        return table()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = open_data("someone/pets")
    assert open_data("someone/pets", split="test[:10%]").name == "someone/pets"
    assert asked == [("someone/pets", "train"), ("someone/pets", "test[:10%]")]
    assert data.classes == ("ant", "bee", "cat")
    assert [record.data for record in data] == [png(row) for row in range(12)]
    assert [record.data for record in data.subset([3, 9])] == [png(3), png(9)]


def test_a_hub_data_set_that_cannot_be_reached() -> None:
    with pytest.raises(DataError, match=r"^nobody/nothing is no file or folder here, and as a data set of the hub it"):
        open_data("nobody/nothing")


def test_datasets_is_imported_only_when_needed(pets: Path) -> None:
    code = f"import sys\nfrom vitmsn.data import open_data\nopen_data({str(pets)!r})\nprint('datasets' in sys.modules)"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"


# -- Parts and tensors ------------------------------------------------------------------------------------------------


@pytest.fixture
def uneven(tmp_path: Path) -> DataSet:
    counts = {"a": 20, "b": 10, "c": 2, "d": 1}
    files = {f"{name}/{number:02d}.png": png(number) for name, count in counts.items() for number in range(count)}
    return open_data(write(tmp_path / "uneven", files))


def of_classes(root: Path, sizes: list[int]) -> DataSet:
    return open_data(write(root, {f"c{c:02}/{n}.png": b"x" for c, size in enumerate(sizes) for n in range(size)}))


@pytest.mark.parametrize("per", [1, 2, 3, 5, 10, 50])
@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3])
def test_the_share_asked_for_is_held_out(per: int, fraction: float, tmp_path: Path) -> None:
    data = of_classes(tmp_path, [per] * 20)
    wanted = max(1, round(fraction * 20 * per))
    rest, held = data.split(fraction, by_class=False)
    assert (len(rest), len(held)) == (20 * per - wanted, wanted)
    if per == 1:
        with pytest.raises(DataError, match="has one picture in each class, so that none can be held out"):
            data.split(fraction)
        return
    rest, held = data.split(fraction)
    assert len(held) == wanted and len(rest) + len(held) == len(data)
    counts = np.bincount(held.labels, minlength=20)
    assert counts.max() - counts.min() <= 1 and counts.max() < per


def test_a_class_of_one_keeps_its_picture_and_a_shortfall_warns(tmp_path: Path) -> None:
    data = of_classes(tmp_path, [1, 1, 1, 1, 8])
    assert np.bincount(data.split(0.25)[1].labels, minlength=5).tolist() == [0, 0, 0, 0, 3]
    with pytest.warns(UserWarning, match="7 of 12 pictures .* are held out, not 11: each class keeps at least one"):
        data.split(0.9)
    with pytest.raises(DataError, match="has 1 picture: at least two are needed"):
        data.subset([0]).split(0.5)


def test_split_is_stratified_seeded_and_complete(uneven: DataSet) -> None:
    rest, held = uneven.split(0.2, seed=3)
    assert np.bincount(held.labels, minlength=4).tolist() == [4, 2, 1, 0]
    assert np.bincount(rest.labels, minlength=4).tolist() == [16, 8, 1, 1]
    ids = [record.id for record in rest] + [record.id for record in held]
    assert sorted(ids) == sorted(record.id for record in uneven)
    assert [record.label for record in held] == held.labels.tolist()
    assert (np.diff(held.rows) > 0).all() and (np.diff(rest.rows) > 0).all()
    assert rest.classes == held.classes == uneven.classes
    again = uneven.split(0.2, seed=3)[1]
    assert again.rows.tolist() == held.rows.tolist()
    assert uneven.split(0.2, seed=4)[1].rows.tolist() != held.rows.tolist()


def test_parts_of_parts(uneven: DataSet) -> None:
    rest, _ = uneven.split(0.5, seed=0)
    inner, held = rest.split(0.5, seed=0)
    assert set(inner.rows) | set(held.rows) == set(rest.rows)
    assert [record.label for record in held] == held.labels.tolist()
    few = uneven.subset([5, 2, 2, 21])
    assert [record.id for record in few] == ["a/02.png", "a/05.png", "b/01.png"]
    assert list(uneven.subset([])) == []


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_invalid_fractions_are_refused(uneven: DataSet, fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        uneven.split(fraction)


@pytest.mark.parametrize("indices", [[-1], [33]])
def test_indices_out_of_range_are_refused(uneven: DataSet, indices: list[int]) -> None:
    with pytest.raises(DataError, match="indices from 0 to 32"):
        uneven.subset(indices)


def test_to_uint8(pets: Path) -> None:
    data = open_data(pets)
    steps: list[tuple[int, int]] = []
    pixels, labels = to_uint8(data, 8, progress=lambda done, total: steps.append((done, total)))
    assert pixels.shape == (5, 3, 8, 8) and pixels.dtype == torch.uint8
    assert labels.tolist() == [0, 0, 0, 1, 1] and labels.dtype == torch.int64
    assert steps == [(done, 5) for done in range(1, 6)]
    processor = ViTMSNImageProcessor(8)
    for row, record in zip(pixels, data, strict=True):
        assert torch.equal(row, torch.from_numpy(np.array(processor.view(decode(record.data)))).permute(2, 0, 1))


def test_to_uint8_skips_undecodable_pictures_with_a_warning(tmp_path: Path) -> None:
    root = write(tmp_path, {"a/0.png": png(0), "a/1.png": png(1)[:40], "b/2.png": b"%PDF-1.7", "b/3.png": png(3)})
    with pytest.warns(
        UserWarning, match=r"2 of 4 pictures of .* are left out: a/1\.png is damaged .* b/2\.png is a PDF"
    ):
        pixels, labels = to_uint8(open_data(root), 4)
    assert pixels.shape == (2, 3, 4, 4)
    assert labels.tolist() == [0, 1]


def test_to_uint8_needs_one_good_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no picture that can be decoded: a/0\.png is empty"):
        to_uint8(open_data(write(tmp_path, {"a/0.png": b""})), 4)


def test_unlabelled_in_memory(tmp_path: Path) -> None:
    _, labels = to_uint8(open_data(write(tmp_path, {"0.png": png(0)})), 4)
    assert labels.tolist() == [-1]


def test_tiny_imagenet(shared_data: Path) -> None:
    """The parquet that the embedded model is trained on."""
    data = open_data(shared_data / "tiny-imagenet", split="validation")
    assert (len(data), len(data.classes)) == (5000, 200)
    assert set(np.bincount(data.labels)) == {25}
    rest, held = data.split(0.04, seed=0)
    assert set(np.bincount(held.labels)) == {1}
    assert len(rest) == 4800
    pixels, labels = to_uint8(held, 64)
    assert pixels.shape == (200, 3, 64, 64)
    assert labels.tolist() == held.labels.tolist()
