"""Folders and zips, hostile ones included."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from vitmsn import limits
from vitmsn.archive import Entry, read_folder, read_zip
from vitmsn.errors import ArchiveError, GalleryError


def zipped(files: dict[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def patched(data: bytes, signature: bytes, offset: int, value: bytes, which: int = 0) -> bytes:
    """``value`` written ``offset`` bytes into the ``which``-th record that begins with ``signature``."""
    at = -1
    for _ in range(which + 1):
        at = data.index(signature, at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def seen(source: bytes | Path) -> list[tuple[str | None, str]]:
    return [(entry.label, entry.name) for entry in read_zip(source)]


def in_code_page(names: list[str], encoding: str) -> bytes:
    """A zip as Windows packs it: names are bytes of a code page that is not stated."""
    stand_ins = {f"{number:03}{'x' * (len(name.encode(encoding)) - 3)}": name for number, name in enumerate(names)}
    data = zipped(dict.fromkeys(stand_ins, b"x"))
    for stand_in, name in stand_ins.items():
        data = data.replace(stand_in.encode(), name.encode(encoding))
    return data


# --- zips ----------------------------------------------------------------------------------------------------------


def test_folders_are_classes_and_system_files_are_ignored() -> None:
    source = zipped(
        {
            "cat/1.png": b"one",
            "cat/deep/2.png": b"two",
            "dog/1.png": b"three",
            "loose.png": b"four",
            "__MACOSX/cat/._1.png": b"",
            "cat/.DS_Store": b"",
            "dog/Thumbs.db": b"",
            "emu/": b"",
        }
    )
    entries = read_zip(source)
    assert entries.total == 4
    assert list(entries) == [
        Entry("cat", "1.png", b"one"),
        Entry("cat", "2.png", b"two"),
        Entry("dog", "1.png", b"three"),
        Entry(None, "loose.png", b"four"),
    ]
    assert entries.report.read == 4 and entries.report.skipped == [("emu", "the folder is empty")]
    said = "hidden files and those of systems are left out (__MACOSX, .DS_Store, Thumbs.db)"
    assert entries.report.notes == [said]


@pytest.mark.parametrize("wrapper", ["", "pets/", "a/b/c/"])
def test_folders_around_the_class_folders_are_ignored(wrapper: str) -> None:
    source = zipped({f"{wrapper}cat/1.png": b"1", f"{wrapper}dog/2.png": b"2", f"{wrapper}read me.txt": b"3"})
    assert seen(source) == [("cat", "1.png"), ("dog", "2.png"), (None, "read me.txt")]


def test_one_folder_of_pictures_is_one_class() -> None:
    assert seen(zipped({"cat/1.png": b"1", "cat/2.png": b"2"})) == [("cat", "1.png"), ("cat", "2.png")]


def test_folders_with_equivalent_names_are_joined_and_reported() -> None:
    source = zipped([("Caf\u00e9/1.png", b"1"), ("CAFE\u0301/1.png", b"2"), ("tea/1.png", b"3")])
    entries = read_zip(source)
    assert [(entry.label, entry.name) for entry in entries] == [
        ("Caf\u00e9", "1.png"),
        ("Caf\u00e9", "1 (2).png"),
        ("tea", "1.png"),
    ]
    assert entries.report.notes == ["the folder CAF\u00c9 was joined with Caf\u00e9"]


def test_two_entries_of_one_name_are_both_read() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        source = zipped([("cat/1.png", b"first"), ("cat/1.png", b"second")])
    assert list(read_zip(source)) == [Entry("cat", "1.png", b"first"), Entry("cat", "1 (2).png", b"second")]


def test_many_files_of_one_long_name_stay_apart() -> None:
    source = zipped(
        [(f"cat/{'n' * 70}{number}.png", b"x") for number in range(1500)]
        + [("cat/a.png", b""), ("cat/A (2).png", b""), ("cat/a.PNG", b"")]
    )
    names = [name for _, name in seen(source)]
    assert len({name.casefold() for name in names}) == 1503 and max(map(len, names)) == limits.MAX_NAME_LENGTH
    assert names[1] == "n" * 60 + " (2)" and names[-3:] == ["a.png", "A (2).png", "a (3).PNG"]


def test_markup_in_names_stays_text_and_invisible_folders_are_reported() -> None:
    entries = read_zip(zipped({"<img onerror=1>/\u202e.png": b"1", "\u200b/2.png": b"2"}))
    assert list(entries) == [Entry("<img onerror=1>", ".png", b"1")]
    assert entries.report.skipped == [("2.png", "the name of its folder has no visible character")]


def test_names_from_other_systems() -> None:
    utf8_without_saying_so = patched(
        patched(zipped({"k\u00e4fer/1.png": b"1", "x/2.png": b""}), CENTRAL, 8, b"\0\0"), LOCAL, 6, b"\0\0"
    )
    assert seen(utf8_without_saying_so)[0] == ("k\u00e4fer", "1.png")
    assert seen(zipped({"cat\\1.png": b"1", "dog\\2.png": b"2", "dog\\": b""})) == [("cat", "1.png"), ("dog", "2.png")]


@pytest.mark.parametrize(
    ("encoding", "said", "folders"),
    [
        ("cp932", "Shift-JIS", ["表紙の写真", "表札の写真", "ソファ", "能面"]),  # 5C is the second byte of 表, ソ, 能
        ("gbk", "GBK", ["誠實的人", "誠信公司", "猫咪照片"]),
        ("big5", "Big5", ["功夫電影", "功能圖示", "許願"]),
        ("cp949", "EUC-KR", ["고양이", "강아지"]),
        ("cp866", "CP866", ["кошки", "собаки"]),
        ("cp437", "CP437", ["Käfer", "crème brûlée"]),
    ],
)
def test_names_in_code_pages_are_decoded_and_reported(encoding: str, said: str, folders: list[str]) -> None:
    entries = read_zip(in_code_page([f"{folder}/1.png" for folder in folders], encoding))
    assert [entry.label for entry in entries] == folders
    assert entries.report.notes == [f"the names of its files were read as {said}: rename classes that look wrong"]


def test_names_in_unknown_code_pages_stay_distinct_and_are_reported() -> None:
    entries = read_zip(in_code_page(["\xa4\xff\xb1\\1/1.png", "\xa4\xff\xb1\\2/1.png"], "latin-1"))
    first, second = (entry.label for entry in entries)
    assert first != second
    assert entries.report.notes == [
        "the names of its files are in an unknown encoding and look wrong here: rename the classes"
    ]


def test_the_utf_8_name_of_an_entry_is_preferred() -> None:
    raw = b"\x90\x5c/1.png"
    extra = struct.pack("<BI", 1, zlib.crc32(raw)) + "申/1.png".encode()
    info = zipfile.ZipInfo("xx/1.png")
    info.extra = struct.pack("<HH", 0x7075, len(extra)) + extra
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, b"x")
    entries = read_zip(out.getvalue().replace(b"xx/1.png", raw))
    assert [entry.label for entry in entries] == ["申"] and entries.report.notes == []


def test_backslashes_are_kept_where_slashes_separate() -> None:
    assert seen(zipped({"AC\\DC/1.png": b"1", "AC\\BC/1.png": b"2"})) == [("AC\\DC", "1.png"), ("AC\\BC", "1.png")]


@pytest.mark.parametrize("wrapper", ["", "pets/"])
def test_the_classes_of_a_data_set_in_splits_are_those_of_train(wrapper: str) -> None:
    files = [f"{wrapper}{split}/{label}/1.png" for split in ("test", "Train", "val") for label in ("cat", "dog")]
    entries = read_zip(zipped(dict.fromkeys([*files, f"{wrapper}README.txt"], b"x")))
    assert entries.total == 3
    assert [entry.label for entry in entries] == ["cat", "dog", None]
    assert entries.report.notes == ["the classes are the folders in Train; 4 files in test and val left out"]
    assert [entry.label for entry in read_zip(zipped(dict.fromkeys(files, b"x")), split="val")] == ["cat", "dog"]
    with pytest.raises(GalleryError, match="no folder other of classes: choose one of test, train, validation"):
        read_zip(zipped(dict.fromkeys(files, b"x")), split="other")


def test_folders_called_like_splits_are_classes_when_pictures_lie_in_them() -> None:
    assert seen(zipped({"test/1.png": b"1", "train/1.png": b"2"})) == [("test", "1.png"), ("train", "1.png")]
    mixed = {"train/cat/1.png": b"1", "train/dog/1.png": b"2", "owl/1.png": b"3"}
    assert [label for label, _ in seen(zipped(mixed))] == ["train", "train", "owl"]


def test_system_folders_are_no_classes_but_a_folder_with_a_dot_may_be() -> None:
    litter = ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", ".thumbnails", ".git"]
    files = [*(f"{name}/cat/1.png" for name in litter), "cat/@eaDir/1.png/THUMB_M.jpg", "cat/._1.png"]
    entries = read_zip(zipped(dict.fromkeys([*files, ".net/1.png", "cat/1.png"], b"x")))
    assert [entry.label for entry in entries] == [".net", "cat"]
    assert entries.report.notes == [
        "hidden files and those of systems are left out (@eaDir, #recycle, $RECYCLE.BIN and 5 more)"
    ]


def test_nested_archives_are_skipped_and_reported() -> None:
    entries = read_zip(zipped({"cat/1.png": b"1", "cat/more.zip": TWO}))
    assert [entry.name for entry in entries] == ["1.png"]
    assert entries.report.skipped == [("more.zip", "another archive: unpack it first")]


def test_zip64_and_stored_entries_are_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("cat/1.png", "w", force_zip64=True) as entry:
        entry.write(b"one")
    assert list(read_zip(out.getvalue())) == [Entry("cat", "1.png", b"one")]
    assert list(read_zip(zipped({"cat/1.png": b"one"}, zipfile.ZIP_STORED))) == [Entry("cat", "1.png", b"one")]


def test_a_path_is_streamed_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zipped({"cat/1.png": b"1", "dog/2.png": b"2"}))
    assert len(list(read_zip(path))) == 2
    with read_zip(path) as entries:
        next(entries)
    read_zip(path).close()  # an open file would warn, and warnings are errors


TWO = zipped({"cat/1.png": b"1" * 500, "dog/2.png": b"2" * 500})


def overlapping() -> bytes:
    first = struct.unpack("<I", TWO[TWO.index(CENTRAL) + 42 :][:4])[0]
    data = patched(TWO, CENTRAL, 42, struct.pack("<I", first), which=1)
    return data.replace(b"dog/2", b"cat/1")


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "not a zip": (lambda: b"hello" * 100, "damaged or not a zip, in its table of contents"),
    "empty": (lambda: b"", "damaged or not a zip"),
    "truncated": (lambda: TWO[: len(TWO) // 2], "damaged or not a zip"),
    "without its beginning": (lambda: TWO[60:], "damaged|overlap"),
    "damaged data": (lambda: TWO.replace(TWO[40:44], b"\xff\xff\xff\xff", 1), r"in cat/1.png \("),
    "locked": (lambda: patched(TWO, CENTRAL, 8, b"\x01\x00"), r"locked with a password \(cat/1.png\): make it again"),
    "locked strongly": (lambda: patched(TWO, CENTRAL, 8, b"\x41\x00"), "locked with a password"),
    "points up": (lambda: zipped({"cat/../../1.png": b""}), r"points outside of it \(cat/../../1.png\)"),
    "points up, Windows": (lambda: zipped({"..\\..\\evil.txt": b""}), "points outside"),
    "points up, hidden": (lambda: zipped({"__MACOSX/../../x": b""}), "points outside"),
    "absolute": (lambda: zipped({"/etc/passwd": b""}), "points outside"),
    "drive": (lambda: zipped({"C:\\boot.ini": b""}), "points outside"),
    "nested": (lambda: zipped({"cat/more.ZIP": TWO}), r"holds another archive \(cat/more.ZIP\): unpack that one first"),
    "nested, long name": (lambda: zipped({"cat/" + "n" * 100 + ".zip": TWO}), "holds another archive"),
    "bzip2": (lambda: zipped({"cat/1.png": b"1" * 999}, zipfile.ZIP_BZIP2), "packed in an unusual way"),
    "lzma": (lambda: zipped({"cat/1.png": b"1" * 999}, zipfile.ZIP_LZMA), "packed in an unusual way"),
    "deflate64": (lambda: patched(TWO, CENTRAL, 10, b"\x09\x00"), "packed in an unusual way"),
    "overlapping": (overlapping, "overlap"),
    "larger than it says": (lambda: patched(TWO, CENTRAL, 24, struct.pack("<I", 100)), r"in cat/1.png \(Bad CRC"),
    "smaller than it says": (
        lambda: patched(TWO, CENTRAL, 24, struct.pack("<I", 9999)),
        r"in cat/1.png \(shorter than",
    ),
    "packed size lies": (lambda: patched(TWO, CENTRAL, 20, struct.pack("<I", 0x7FFFFFF)), "overlap|incomplete"),
    "names disagree": (lambda: patched(TWO, LOCAL, 30, b"bat"), "in cat/1.png"),
    "not UTF-8": (lambda: patched(patched(TWO, CENTRAL, 8, b"\0\x08"), CENTRAL, 46, b"\xff"), "not valid text"),
    "huge zip64 sizes": (
        lambda: patched(TWO, END, 10, b"\xff\xff\xff\xff\xff\xff"),
        "damaged or not a zip",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_and_damaged_zips_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    source = make()
    with pytest.raises(ArchiveError, match=message) as caught:
        list(read_zip(source))
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")
    path = tmp_path / "pets.zip"
    path.write_bytes(source)
    with pytest.raises(ArchiveError, match=r"^pets\.zip "):
        list(read_zip(path))


def test_a_zip_bomb_is_skipped_without_being_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = read_zip(zipped({"cat/bomb.bmp": bytes(5 * limits.MIB), "dog/2.png": b"2", "dog/flat.bmp": bytes(2**19)}))
    assert [entry.name for entry in entries] == ["2.png", "flat.bmp"]
    assert entries.report.skipped == [("bomb.bmp", "it unpacks to more than 200 times its size")]
    monkeypatch.setattr(limits, "MAX_IMAGE_BYTES", limits.MIB)
    entries = read_zip(zipped({"cat/film.mov": os.urandom(limits.MIB + 1)}, zipfile.ZIP_STORED))
    assert list(entries) == [] and entries.report.skipped == [("film.mov", "larger than 1 MiB")]


def test_links_are_ignored() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("cat/secret.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    entries = read_zip(out.getvalue())
    assert list(entries) == [] and entries.report.skipped == [("secret.png", "a link or a device, not a file")]


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("MAX_ARCHIVE_BYTES", 100, "larger than"),
        ("MAX_ARCHIVE_ENTRIES", 1, "holds 2 files; at most 1 are taken: split it"),
        ("MAX_UNPACKED_BYTES", 700, "unpacks to more than"),
        ("ARCHIVE_SECONDS", 0, "takes more than 0 s to unpack"),
    ],
)
def test_every_limit_of_an_archive_is_enforced(
    bound: str, value: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, bound, value)
    with pytest.raises(ArchiveError, match=message):
        list(read_zip(TWO))


def test_an_enormous_table_of_contents_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = zipped({f"{'n' * 60}{number}": b"" for number in range(2000)})
    monkeypatch.setattr(limits, "MAX_ARCHIVE_ENTRIES", 10)
    with pytest.raises(ArchiveError, match="enormous table of contents"):
        read_zip(source)


def test_an_unreadable_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"^gone.zip cannot be read \(No such file or directory\): give the path"):
        read_zip(tmp_path / "gone.zip")
    with pytest.raises(ArchiveError, match="cannot be read"):
        read_zip(tmp_path)


def test_a_corpus_of_bad_archives_is_read_or_refused(shared_data: Path) -> None:
    read, refused = 0, []
    for path in sorted((shared_data / "bad-archives").iterdir()):
        try:
            list(read_zip(path))
            read += 1
        except ArchiveError as error:
            refused.append(str(error))
    assert read + len(refused) > 400 and len(refused) > 350 and all(message.isprintable() for message in refused)


def test_any_single_damaged_byte_gives_an_answer_or_a_refusal() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1500):
        data = bytearray(TWO)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] = rng.integers(256)
        with suppress(ArchiveError):
            assert sum(len(entry.data) for entry in read_zip(bytes(data))) < 2000


# --- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_reads_like_a_zip_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat/2.png", "cat/1.png", "dog/deep/3.png", ".git/config", "dog/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "emu").mkdir()
    (tmp_path / "cat" / "link.png").symlink_to("/etc/passwd")
    entries = read_folder(tmp_path)
    assert list(entries) == [
        Entry("cat", "1.png", b"cat/1.png"),
        Entry("cat", "2.png", b"cat/2.png"),
        Entry("dog", "3.png", b"dog/deep/3.png"),
    ]
    assert entries.report.skipped == [("emu", "the folder is empty"), ("link.png", "a link or a device, not a file")]
    assert entries.report.notes == ["hidden files and those of systems are left out (.git, .hidden)"]
    with pytest.raises(GalleryError, match="cannot be read"):
        read_folder(tmp_path / "gone")
    monkeypatch.setattr(limits, "MAX_ARCHIVE_ENTRIES", 2)
    with pytest.raises(GalleryError, match="holds more than 2 files"):
        read_folder(tmp_path)
