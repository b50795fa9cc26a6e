"""Names: cleaned for display, compared, checked for system files, and decoded from bytes."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from vitmsn import limits
from vitmsn.errors import GalleryError
from vitmsn.names import JOINER, NON_JOINER, SPELLED, UNKNOWN, clean_name, decode_names, litter, name_key, split_folders


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
def test_names_are_cleaned_for_display(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


def test_long_names_are_cut_by_letters_not_by_accents() -> None:
    assert clean_name("n" * 500) == "n" * limits.MAX_NAME_LENGTH
    assert clean_name("x\u0323\u0307" * 500).count("x") + clean_name("x\u0323\u0307" * 500).count("\u1e8b") == 64


@pytest.mark.parametrize("raw", ["", " \n ", "\u200b\u202e", "\u3164\u2800", "\u0301"])
def test_names_without_anything_visible_are_refused(raw: str) -> None:
    with pytest.raises(GalleryError, match="at least one visible character"):
        clean_name(raw)


def test_naughty_strings_are_cleaned_or_refused(shared_data: Path) -> None:
    strings = json.loads((shared_data / "names" / "naughty-strings.json").read_text())
    refused = 0
    for text in strings:
        try:
            name = clean_name(text)
        except GalleryError:
            refused += 1
            continue
        assert name == name.strip() == clean_name(name) and "\n" not in name
        plain = name.translate(dict.fromkeys(map(ord, SPELLED + JOINER + NON_JOINER)))
        assert not {unicodedata.category(character) for character in plain} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert len(name) <= limits.MAX_NAME_LENGTH * 5
        name.encode()
    assert refused < 20 < len(strings)


FLAG, END = "\U0001f3f4", "\U000e007f"
MEANT = {
    "flag of Scotland": FLAG + "".join(chr(0xE0000 + ord(letter)) for letter in "gbsct") + END,
    "flag of Wales": FLAG + "".join(chr(0xE0000 + ord(letter)) for letter in "gbwls") + END,
    "black flag": FLAG,
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "its members": "\U0001f468\U0001f469\U0001f467",
    "scientist with a skin tone": "\U0001f469\U0001f3fd\u200d\U0001f52c",
    "rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "flag, rainbow": "\U0001f3f3\ufe0f\U0001f308",
    "heart": "\u2764\ufe0f",
    "keycap": "1\ufe0f\u20e3",
    "Persian, half a space": "\u0645\u06cc\u200c\u0631\u0648\u0645",
    "Persian, joined": "\u0645\u06cc\u0631\u0648\u0645",
    "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
    "Sinhala, apart": "\u0dc1\u0dca\u0dbb\u0dd3",
    "Bengali ya-phalaa": "\u09b0\u200d\u09cd\u09af\u09be\u09ac",
    "Arabic number sign": "\u0600\u0661",
    "Masse": "Masse",
    "Maße": "Maße",
}


@pytest.mark.parametrize("what", MEANT)
def test_joiners_tags_and_variation_selectors_stay_where_they_are_spelling(what: str) -> None:
    assert clean_name(MEANT[what]) == MEANT[what] == clean_name(clean_name(MEANT[what]))


def test_names_with_different_meaning_stay_different() -> None:
    assert len({name_key(clean_name(name)) for name in MEANT.values()}) == len(MEANT)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("ca\u200dt", "cat"),
        ("cat\u200c", "cat"),
        ("cat\ufe0f", "cat"),
        ("cat\U000e0063\U000e007f", "cat"),
        (FLAG + "\U000e0067", FLAG),  # tags without their end
        (FLAG + chr(0xE0067) * 40 + END, FLAG),  # a sentence in tags
        ("\u200d\U0001f469\u200d", "\U0001f469"),
        ("\u0645\u200c\u200c\u06cc", "\u0645\u200c\u06cc"),
        ("e\u200d\u0301", "\u00e9"),
    ],
)
def test_joiners_and_tags_are_removed_where_invisible(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean == clean_name(clean)


def test_an_emoji_sequence_counts_as_one_letter_and_is_not_cut() -> None:
    family = MEANT["family"]
    cut = clean_name(family * 100)
    assert cut == family * (len(cut) // len(family)) and 1 < len(cut) <= 5 * limits.MAX_NAME_LENGTH
    assert len(clean_name("\u200d".join("\U0001f468" * 500))) <= 5 * limits.MAX_NAME_LENGTH


@pytest.mark.parametrize(("one", "other"), [("Cat", "CAT"), ("\u03a3\u03a3", "\u03c3\u03c2"), ("ÉTÉ", "e\u0301té")])
def test_names_that_differ_only_in_case_are_equal(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_system_files_are_recognized() -> None:
    for name in ("@eaDir", "$RECYCLE.BIN", "__MACOSX", ".Trash-1000", ".thumbnails"):
        assert litter(name, is_folder=True)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.jpg", ".hidden.jpg", "Icon\r"):
        assert litter(name, is_folder=False)
    for name in (".net", "cat", "@home", "#1"):
        assert not litter(name, is_folder=True)


def test_folders_are_splits_only_when_all_of_them_are() -> None:
    assert split_folders(["Train", "val", "test"]) == {"train": "Train", "validation": "val", "test": "test"}
    for folders in ([], ["train", "cat"], ["val", "valid"], ["cat"]):
        assert split_folders(folders) == {}


# --- bytes ---------------------------------------------------------------------------------------------------------

PACKED = {
    "cp932": [["表紙の写真", "表札の写真"], ["猫", "犬"], ["ネコ", "イヌ"], ["DVD映画", "CD音楽"], ["良品", "不良品"]],
    "gbk": [
        ["猫咪照片", "狗狗照片"],
        ["猫", "狗"],
        ["苹果", "香蕉"],
        ["誠實的人", "誠信公司"],
        ["联通", "移动"],
        ["男", "女"],
    ],
    "big5": [["功夫電影", "功能圖示"], ["貓", "狗"], ["蘋果", "香蕉"], ["許願", "功能"], ["石頭", "剪刀", "布"]],
    "cp949": [["고양이", "강아지"], ["사과", "바나나"], ["뷁", "똠방각하"]],
    "cp866": [["кошки", "собаки"], ["кот", "пёс"], ["Цветы"]],
    "cp1251": [["кошки", "собаки"], ["кот", "пёс"], ["Новая папка"]],
    "cp437": [["café", "naïve"], ["Käfer", "Vögel"], ["Äpfel", "Birnen"], ["Größe"], ["piñata"], ["Masse", "Maße"]],
    "cp850": [["São Paulo", "maçã"], ["Ñandú", "Águila"], ["À la carte"]],
    "cp1252": [["café", "naïve"], ["Käfer", "Vögel"], ["Größe"]],
    "cp852": [["łódź", "świnia"]],
}


@pytest.mark.parametrize("encoding", PACKED)
def test_code_pages_are_recognized_by_their_letters(encoding: str) -> None:
    for names in PACKED[encoding]:
        packed = [f"{name}/IMG_{number}.jpg" for number, name in enumerate(names)]
        found, said = decode_names([name.encode(encoding) for name in packed])
        assert found == packed and said not in ("", UNKNOWN)


def test_ascii_and_utf_8_names_need_no_note() -> None:
    assert decode_names([b"cat", b"dog"]) == (["cat", "dog"], "")
    assert decode_names(["猫".encode(), "Käfer".encode()]) == (["猫", "Käfer"], "")
    assert decode_names([]) == ([], "")


def test_one_code_page_name_leaves_utf_8_names_unchanged() -> None:
    names = ["猫.jpg", "犬.jpg", "鳥.jpg"]
    found, said = decode_names([*(name.encode() for name in names), "Käfer".encode("cp437")])
    assert found == [*names, "Käfer"] and said == "CP437"


def test_undecodable_names_keep_every_byte() -> None:
    raw = [b"\xa4\xff\xb1\\1", b"\xa4\xff\xb1\\2"]
    found, said = decode_names(raw)
    assert said == UNKNOWN and [name.encode("cp437") for name in found] == raw


def test_non_text_names_are_refused() -> None:
    with pytest.raises(GalleryError, match="A name must be a text, not a value of type NoneType"):
        clean_name(None)  # type: ignore[arg-type]
