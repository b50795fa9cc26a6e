"""Galleries: names, folders and zips of every kind of malice, what is kept of a picture, and the bundle."""

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
import safetensors.numpy
from PIL import Image

from vitmsn import limits
from vitmsn.encoder import Encoder
from vitmsn.errors import ArchiveError, GalleryError, ViTMSNError
from vitmsn.fewshot import CentroidClassifier
from vitmsn.gallery import Entry, Gallery, clean_name, read_folder, read_zip
from vitmsn.image import Picture, decode


class Fake:
    """An encoder as far as a gallery knows one: sixteen numbers per picture, its brightness on a grid."""

    def __init__(self, name: str = "fake", factor: float = 1.0) -> None:
        self.name, self.fingerprint, self.factor = name, f"print-of-{name}", factor
        self.calls: list[int] = []

    def embed(self, images: list[Picture]) -> np.ndarray:
        self.calls.append(len(images))
        grids = [np.asarray(decode(image).rgb.convert("L").resize((4, 4)), np.float32) for image in images]
        return np.stack(grids).reshape(len(images), 16) * self.factor


def png(color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def pictures(*greys: int) -> list[Picture]:
    return [decode(png((grey, grey, grey)), name=f"{grey}.png") for grey in greys]


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


def gallery(*greys: int) -> Gallery:
    """A gallery of the fake encoder: even greys are class even, odd ones odd."""
    encoder = Fake()
    made = Gallery(encoder)
    for grey in greys:
        made.add("odd" if grey % 2 else "even", pictures(grey), encoder.embed(pictures(grey)))
    return made


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


# --- the gallery ---------------------------------------------------------------------------------------------------


def test_examples_keep_their_order_ids_and_labels() -> None:
    made = gallery(10, 11, 12)
    assert (
        len(made) == 3 and made.classes == ["even", "odd"] and made.counts == {"even": 2, "odd": 1} and made.shots == 1
    )
    assert [example.id for example in made.examples] == ["e1", "e2", "e3"]
    assert made.X.shape == (3, 16) and made.X.dtype == np.float32 and made.y.tolist() == ["even", "odd", "even"]
    made.enable(["e1"], False)
    assert made.y.tolist() == ["odd", "even"] and made["e1"].enabled is False and len(made) == 3
    made.remove(["e2"])
    added = made.add("odd", pictures(13), Fake().embed(pictures(13)))
    assert added.ids == ("e4",) and made.classes == ["even", "odd"]
    made.add_class("empty")
    assert made.counts == {"even": 1, "odd": 1, "empty": 0}
    assert Gallery(Fake()).X.shape == (0, 0) and Gallery(Fake()).y.shape == (0,) and Gallery(Fake()).shots == 0


def test_only_a_small_picture_encoded_here_is_kept() -> None:
    noise = np.random.default_rng(0).integers(256, size=(900, 1200, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = image.getexif()
    exif[0x010E] = "a secret place"
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    made = Gallery(Fake())
    picture = decode(out.getvalue(), name="a\u202eb.jpg")
    made.add("noise", [picture], Fake().embed([picture]))
    example = made.examples[0]
    assert example.picture().size == (256, 192) and example.thumbnail.startswith(b"\xff\xd8")
    assert b"secret" not in example.thumbnail and "\u202e" not in example.name
    assert made.nbytes == len(example.thumbnail) + 16 * 4 < 64 * 1024


def test_doubles_are_left_out_and_said() -> None:
    made = gallery(10)
    sent = pictures(10, 20, 20)
    added = made.add("dark", sent, Fake().embed(sent))
    assert added.ids == ("e2",)
    assert added.skipped == (
        ("10.png", "the same picture as 10.png in even"),
        ("20.png", "the same picture as 20.png in dark"),
    )


def test_classes_are_renamed_merged_moved_and_removed() -> None:
    made = gallery(10, 11, 12)
    assert made.rename("even", "  Even ") == "Even" and made.classes == ["Even", "odd"]
    assert made.rename("odd", "strange") == "strange" and made.y.tolist() == ["Even", "strange", "Even"]
    with pytest.raises(GalleryError, match="there is a class Even already: merge the two"):
        made.rename("strange", "EVEN")
    with pytest.raises(GalleryError, match="there is no class cat: the classes are Even, strange"):
        made.rename("cat", "dog")
    assert made.move(["e1"], "new") == "new" and made.classes == ["Even", "strange", "new"]
    assert made.merge("new", "STRANGE") == "strange" and made.y.tolist() == ["strange", "strange", "Even"]
    with pytest.raises(GalleryError, match="cannot be merged with itself"):
        made.merge("Even", "even")
    made.remove_class("strange")
    assert made.classes == ["Even"] and [example.id for example in made.examples] == ["e3"]
    for change in (lambda: made.remove(["e3", "e1"]), lambda: made.move(["e1"], "x"), lambda: made.enable(["e1"])):
        with pytest.raises(GalleryError, match="there is no example e1"):
            change()
    assert len(made) == 1 and made.classes == ["Even"]


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("MAX_EXAMPLES", 3, "at most 3 examples; this would make 4: remove some first"),
        ("MAX_CLASSES", 2, "at most 2 classes"),
        ("GALLERY_BYTES", 1500, "a gallery holds at most"),
    ],
)
def test_a_full_gallery_takes_nothing_of_what_is_too_much(
    bound: str, value: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = gallery(10, 11)
    monkeypatch.setattr(limits, bound, value)
    with pytest.raises(GalleryError, match=message):
        made.add("third", pictures(20, 30), Fake().embed(pictures(20, 30)))
    assert len(made) == 2 and made.classes == ["even", "odd"]


def test_embeddings_that_do_not_fit_are_refused() -> None:
    made = gallery(10)
    for wrong in (np.zeros((2, 16)), np.zeros(16), np.zeros((1, 8)), np.full((1, 16), np.nan)):
        with pytest.raises(GalleryError, match="give one finite row for each, of the length that fake makes"):
            made.add("even", pictures(20), wrong)
    assert len(made) == 1


def test_a_zip_becomes_a_gallery_and_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"dark/{grey}.png": png((grey, 0, 0)) for grey in range(70)} | {
        f"light/{grey}.png": png((grey, 0, 0)) for grey in range(150, 220)
    }
    source = zipped(
        files
        | {"light/notes.txt": b"hello", "loose.png": png((1, 2, 3)), "dark/again.png": png((5, 0, 0)), "none/": b""}
    )
    encoder, steps = Fake(), []
    made = Gallery(encoder)
    added = made.extend(read_zip(source), encoder, lambda done, total: steps.append((done, total)))
    assert made.counts == {"dark": 70, "light": 70} and len(added.ids) == 140
    assert [skipped.name for skipped in added.skipped] == ["none", "notes.txt", "loose.png", "again.png"]
    assert "outside all folders" in added.skipped[2].reason and "5.png in dark" in added.skipped[3].reason
    assert steps[-1] == (143, 143) and steps == sorted(steps) and max(encoder.calls) == 64
    assert (CentroidClassifier().fit(made.X, made.y).predict(made.X) == made.y).mean() > 0.95

    monkeypatch.setattr(limits, "MAX_EXAMPLES", 100)
    small = Gallery(encoder)
    added = small.extend(read_zip(source), encoder)
    assert len(small) == 100 and "the gallery is full (100 examples)" in added.skipped[-1].reason
    with pytest.raises(GalleryError, match="this gallery was made with fake and other came"):
        small.extend(read_zip(source), Fake("other"))


def test_large_pictures_are_embedded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitmsn.gallery.CHUNK_PIXELS", 2500)  # two of 40 x 30
    encoder = Fake()
    Gallery(encoder).extend([Entry("a", f"{grey}.png", png((grey, 0, 0))) for grey in range(7)], encoder)
    assert encoder.calls == [3, 3, 1]


def test_embedding_again_is_all_or_nothing() -> None:
    made = gallery(10, 11, 12)
    made.enable(["e2"], False)
    before = made.X

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.re_embed(Fake("other", 2.0), stop)
    assert made.model == "fake" and np.array_equal(made.X, before)
    steps: list[tuple[int, int]] = []
    made.re_embed(Fake("other", 2.0), lambda done, total: steps.append((done, total)))
    assert steps == [(3, 3)] and made.model == "other" and made.fingerprint == "print-of-other"
    np.testing.assert_allclose(made.X, 2 * before, atol=4)  # the thumbnail is a JPEG
    assert [example.id for example in made.examples] == ["e1", "e2", "e3"] and not made["e2"].enabled


# --- the bundle ----------------------------------------------------------------------------------------------------


def bundle(tmp_path: Path) -> Path:
    made = gallery(10, 11, 12)
    made.add_class("\u732b <empty>")
    made.enable(["e3"], False)
    made.settings = {"method": "knn", "k": 5, "caution": 0.05}
    return made.save(tmp_path / "pets.zip")


def test_a_bundle_brings_everything_back(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    made, back = gallery(10, 11, 12), Gallery.open(path, Fake())
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
    assert not back["e3"].enabled and back.y.tolist() == ["even", "odd"]
    assert back.add("odd", pictures(13), Fake().embed(pictures(13))).ids == ("e4",)
    assert Gallery.open(path.read_bytes(), Fake()).classes == back.classes
    assert Gallery.is_bundle(path) and not Gallery.is_bundle(TWO)
    again = Gallery.open(path, Fake()).save(tmp_path / "again.zip")
    assert Gallery.open(again, Fake()).examples[0].thumbnail[:2] == b"\xff\xd8"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.zip", "pets.zip"]


def test_equal_galleries_give_equal_files_and_empty_ones_can_be_saved(tmp_path: Path) -> None:
    assert gallery(1, 2).save(tmp_path / "a").read_bytes() == gallery(1, 2).save(tmp_path / "b").read_bytes()
    assert len(Gallery.open(Gallery(Fake()).save(tmp_path / "c"), Fake())) == 0


def test_another_model_is_refused_unless_embedding_again_is_asked_for(tmp_path: Path) -> None:
    path, other = bundle(tmp_path), Fake("other", 2.0)
    with pytest.raises(GalleryError, match="was made with fake and other came: choose that model, or embed"):
        Gallery.open(path, other)
    back = Gallery.open(path, other, re_embed=True)
    assert back.model == "other" and back.fingerprint == other.fingerprint
    np.testing.assert_allclose(back.X, 2 * gallery(10, 11).X, atol=4)


def test_saving_replaces_the_file_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(GalleryError, match=r"pets.zip cannot be written \(No space left on device\)"):
        gallery(1).save(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["pets.zip"]
    with pytest.raises(GalleryError, match="cannot be written"):
        gallery(1).save(tmp_path / "missing" / "x.zip")
    made = gallery(1)
    made.settings = {"k": object()}
    with pytest.raises(GalleryError, match="plain values"):
        made.save(path)


def forged(tmp_path: Path, **changes: object) -> bytes:
    """The bundle with values of its JSON replaced, or whole files by their name; None removes one."""
    with zipfile.ZipFile(bundle(tmp_path)) as archive:
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery.json": None}, "gallery.json is missing"),
        ({"gallery.json": b"{" * 100_000}, "gallery.json is damaged"),
        ({"gallery.json": b"[" * 100_000}, "gallery.json is damaged"),
        ({"gallery.json": b"\xff{}"}, "gallery.json is damaged"),
        ({"gallery.json": b"[]"}, "about something else"),
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
        ({"embeddings.safetensors": safetensors.numpy.save({"x": np.zeros((3, 16), np.float32)})}, "is damaged"),
        ({"embeddings.safetensors": safetensors.numpy.save({"embeddings": np.zeros((3, 16))})}, "is damaged"),
        (
            {"embeddings.safetensors": safetensors.numpy.save({"embeddings": np.zeros((2, 9), np.float32)})},
            "do not fit",
        ),
        (
            {"embeddings.safetensors": safetensors.numpy.save({"embeddings": np.full((3, 9), np.inf, np.float32)})},
            "do not fit",
        ),
        ({"../x.txt": b""}, "points outside"),
    ],
)
def test_forged_bundles_are_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ViTMSNError, match=message) as caught:
        Gallery.open(forged(tmp_path, **changes), Fake())
    assert isinstance(caught.value, (GalleryError, ArchiveError)) and "\n" not in str(caught.value)


def test_a_forged_bundle_brings_no_names_or_bytes_of_its_own(tmp_path: Path) -> None:
    polyglot = png() + b"<script>alert(1)</script>"
    source = forged(tmp_path, model="x\u202e\n", name="\u202eexe\x00", **{"pictures/e1.jpg": polyglot})
    back = Gallery.open(source, Fake())
    assert back.model == "x" and back["e1"].name == "exe"
    assert b"script" not in back["e1"].thumbnail


def test_with_a_real_encoder(tmp_path: Path) -> None:
    encoder = Encoder.random()
    made = Gallery(encoder)
    source = zipped({f"{name}/{k}.png": png((k * 20, 9, 9)) for k, name in enumerate(["cat", "dog", "cat"])})
    assert len(made.extend(read_zip(source), encoder).ids) == 3
    back = Gallery.open(made.save(tmp_path / "g.zip"), encoder)
    assert back.X.shape == (3, encoder.config.hidden_size) and np.array_equal(back.X, made.X)
    back.re_embed(encoder)
    similarity = (back.X * made.X).sum(axis=1) / np.linalg.norm(back.X, axis=1) / np.linalg.norm(made.X, axis=1)
    assert similarity.min() > 0.99
