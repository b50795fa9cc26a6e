"""Names, folders and zips of every kind of malice."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from vitmsn import limits
from vitmsn.archive import Entry, clean_name, read_folder, read_zip
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


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  two \t\n words ", "two words"),
        ("cafe\u0301", "caf\u00e9"),
        ("abc\u202etxt.exe", "abctxt.exe"),  # right-to-left override
        ("a\u200bb\ufeffc\u2060d", "abcd"),
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("line\u2028break", "line break"),
        ("sur\ud800rogate", "surrogate"),
        ("<img onerror=x>", "<img onerror=x>"),  # whoever shows it as HTML escapes it
        ("\u732b \U0001f408", "\u732b \U0001f408"),
        ("a" + "\u0301" * 50, "\u00e1" + "\u0301" * 4),
        ("\u0301\u0302x", "x"),
        ("x \u0301 y", "x y"),
    ],
)
def test_names_become_fit_to_be_shown(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


def test_long_names_are_cut_by_letters_not_by_accents() -> None:
    assert clean_name("n" * 500) == "n" * limits.MAX_NAME_LENGTH
    assert clean_name("x\u0323\u0307" * 500).count("x") + clean_name("x\u0323\u0307" * 500).count("\u1e8b") == 64


@pytest.mark.parametrize("raw", ["", " \n ", "\u200b\u202e", "\u3164\u2800", "\u0301"])
def test_names_without_anything_visible_are_refused(raw: str) -> None:
    with pytest.raises(GalleryError, match="at least one visible character"):
        clean_name(raw)


def test_naughty_strings_become_harmless_or_are_refused(shared_data: Path) -> None:
    strings = json.loads((shared_data / "names" / "naughty-strings.json").read_text())
    refused = 0
    for text in strings:
        try:
            name = clean_name(text)
        except GalleryError:
            refused += 1
            continue
        assert name == name.strip() == clean_name(name) and "\n" not in name
        assert not {unicodedata.category(character) for character in name} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert len(name) <= limits.MAX_NAME_LENGTH * 5
        name.encode()
    assert refused < 20 < len(strings)


# --- zips ----------------------------------------------------------------------------------------------------------


def test_folders_are_classes_and_what_systems_add_is_passed_over() -> None:
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


@pytest.mark.parametrize("wrapper", ["", "pets/", "a/b/c/"])
def test_folders_around_the_classes_are_looked_through(wrapper: str) -> None:
    source = zipped({f"{wrapper}cat/1.png": b"1", f"{wrapper}dog/2.png": b"2", f"{wrapper}read me.txt": b"3"})
    assert seen(source) == [("cat", "1.png"), ("dog", "2.png"), (None, "read me.txt")]


def test_one_folder_of_pictures_is_one_class() -> None:
    assert seen(zipped({"cat/1.png": b"1", "cat/2.png": b"2"})) == [("cat", "1.png"), ("cat", "2.png")]


def test_folders_that_people_would_take_for_the_same_are_joined_and_it_is_said() -> None:
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


def test_names_of_other_systems() -> None:
    utf8_without_saying_so = patched(
        patched(zipped({"k\u00e4fer/1.png": b"1", "x/2.png": b""}), CENTRAL, 8, b"\0\0"), LOCAL, 6, b"\0\0"
    )
    assert seen(utf8_without_saying_so)[0] == ("k\u00e4fer", "1.png")
    assert seen(zipped({"cat\\1.png": b"1", "dog\\2.png": b"2", "dog\\": b""})) == [("cat", "1.png"), ("dog", "2.png")]


def test_zip64_and_stored_entries_are_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("cat/1.png", "w", force_zip64=True) as entry:
        entry.write(b"one")
    assert list(read_zip(out.getvalue())) == [Entry("cat", "1.png", b"one")]
    assert list(read_zip(zipped({"cat/1.png": b"one"}, zipfile.ZIP_STORED))) == [Entry("cat", "1.png", b"one")]


def test_a_path_is_streamed_and_let_go_of(tmp_path: Path) -> None:
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


def test_a_bomb_is_passed_over_without_being_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = read_zip(zipped({"cat/bomb.bmp": bytes(5 * limits.MIB), "dog/2.png": b"2", "dog/flat.bmp": bytes(2**19)}))
    assert [entry.name for entry in entries] == ["2.png", "flat.bmp"]
    assert entries.report.skipped == [("bomb.bmp", "it unpacks to more than 200 times its size")]
    monkeypatch.setattr(limits, "MAX_IMAGE_BYTES", limits.MIB)
    entries = read_zip(zipped({"cat/film.mov": os.urandom(limits.MIB + 1)}, zipfile.ZIP_STORED))
    assert list(entries) == [] and entries.report.skipped == [("film.mov", "larger than 1 MiB")]


def test_links_are_passed_over() -> None:
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
def test_every_bound_of_an_archive_holds(bound: str, value: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, bound, value)
    with pytest.raises(ArchiveError, match=message):
        list(read_zip(TWO))


def test_a_table_of_contents_is_not_read_when_it_is_enormous(monkeypatch: pytest.MonkeyPatch) -> None:
    source = zipped({f"{'n' * 60}{number}": b"" for number in range(2000)})
    monkeypatch.setattr(limits, "MAX_ARCHIVE_ENTRIES", 10)
    with pytest.raises(ArchiveError, match="enormous table of contents"):
        read_zip(source)


def test_a_path_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"^gone.zip cannot be read \(No such file or directory\): give the path"):
        read_zip(tmp_path / "gone.zip")
    with pytest.raises(ArchiveError, match="cannot be read"):
        read_zip(tmp_path)


def test_a_corpus_of_bad_archives_never_gets_past_the_refusals(shared_data: Path) -> None:
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


def test_a_folder_reads_as_a_zip_of_it_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(GalleryError, match="cannot be read"):
        read_folder(tmp_path / "gone")
    monkeypatch.setattr(limits, "MAX_ARCHIVE_ENTRIES", 2)
    with pytest.raises(GalleryError, match="holds more than 2 files"):
        read_folder(tmp_path)
