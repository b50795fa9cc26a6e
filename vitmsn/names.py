"""Names of files and classes: cleaned for display, compared, and checked for system files.

clean_name("Caf\\u0301e") -> fit to be shown       name_key -> equal for the same name
litter("@eaDir", is_folder=True) -> True          split_folders(["train", "val"]) -> {"train": "train", ...}
decode_names([b"..."]) -> names and the encoding they were read in
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence

from vitmsn import limits
from vitmsn.errors import GalleryError

# --- names to be shown ---------------------------------------------------------------------------------------------

# Letters by their category, yet blank on the screen: Hangul fillers, the Khmer inherent vowels, Braille's empty cell.
BLANK = "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"

# Format characters by category, yet visible (Arabic and Kaithi number signs) or a part of the spelling (Mongolian).
SPELLED = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u180e\U000110bd\U000110cd"
NON_JOINER, JOINER = "\u200c", "\u200d"
EMOJI_STYLE = "\ufe0e\ufe0f"
FLAG, TAGS, END_OF_TAGS = "\U0001f3f4", range(0xE0020, 0xE007F), "\U000e007f"
VIRAMA = 9  # the combining class of the sign that joins two consonants, in every script of India


def clean_name(text: str, most: int | None = None) -> str:
    """A class or file name cleaned for display: NFC, one line, visible, at most ``most`` letters (without it,
    ``limits.MAX_NAME_LENGTH``).

    Control, bidi and zero-width characters go, runs of spaces become one, accents do not count as letters. Joiners,
    variation selectors and tags stay where they are part of the spelling: in Persian, in Sinhala, in emoji. It is plain
    text, not HTML, CSV or a path: callers that write those must escape it. Raises GalleryError when nothing visible is
    left.
    """
    if not isinstance(text, str):
        raise GalleryError(f"A name must be a text, not a value of type {type(text).__name__}: type a word.")
    letters: list[str] = []
    marks, joined, size = 0, 0, 0
    for character in _visible(" ".join(unicodedata.normalize("NFC", text).split())):
        last = letters[-1] if letters else ""
        joins = last.endswith(JOINER) and _is_emoji(character) and joined < limits.MAX_JOINED
        stacks = character in (JOINER, NON_JOINER) or ord(character) in TAGS or character == END_OF_TAGS
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        joined = joined + 1 if joins else joined if marks or stacks else 0
        if not (marks or stacks or joins):
            letters.append(character)
        elif last not in ("", " ") and marks <= limits.MAX_MARKS:
            letters[-1] += character
        else:
            continue
        size += 1
        if len(letters) > (most or limits.MAX_NAME_LENGTH) or size > limits.MAX_NAME_CODE_POINTS:
            letters.pop()
            break
    name = " ".join("".join(letters).split())
    if not name:
        raise GalleryError("A name needs at least one visible character: type a word.")
    return name


def _visible(text: str) -> str:
    """``text`` without what cannot be seen, except where it changes how its neighbors are written."""
    kept: list[str] = []
    plain = [letter for letter in text if not _hidden(letter)]
    for place, letter in enumerate(plain):
        before = kept[-1] if kept else ""
        if letter in (JOINER, NON_JOINER):
            after = next((other for other in plain[place + 1 :] if other not in (JOINER, NON_JOINER)), "")
            if not _joins(kept, letter, after):
                continue
        elif letter in EMOJI_STYLE:
            if before == "" or unicodedata.category(before)[0] not in "SPNCM":
                continue  # after a letter it only makes two different names look alike
        elif (ord(letter) in TAGS or letter == END_OF_TAGS) and not _tags(plain, place):
            continue
        kept.append(letter)
    return unicodedata.normalize("NFC", "".join(kept))


def _hidden(letter: str) -> bool:
    if letter in (JOINER, NON_JOINER, END_OF_TAGS, *SPELLED) or ord(letter) in TAGS:
        return False
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or letter in BLANK


def _joins(kept: Sequence[str], joiner: str, after: str) -> bool:
    """Whether a joiner between ``kept`` and ``after`` changes how they are written; see Unicode's annexes 31 and 51."""
    if kept and kept[-1] in (JOINER, NON_JOINER):
        return False
    if (kept and unicodedata.combining(kept[-1]) == VIRAMA) or (after and unicodedata.combining(after) == VIRAMA):
        return True
    base = next((letter for letter in reversed(kept) if unicodedata.category(letter) != "Mn"), "")
    if base and unicodedata.bidirectional(base) == "AL":  # Arabic and its relatives, whose letters join by themselves
        return joiner == JOINER or (bool(after) and unicodedata.bidirectional(after) == "AL")
    return joiner == JOINER and _is_emoji(base) and _is_emoji(after)


def _is_emoji(letter: str) -> bool:
    return bool(letter) and (unicodedata.category(letter) in ("So", "Sk", "Sm") or letter == END_OF_TAGS)


def _tags(letters: Sequence[str], place: int) -> bool:
    """Whether the tag at ``place`` belongs to a flag like Scotland's: a black flag, some tags, the end of tags."""
    start = place
    while start and (ord(letters[start]) in TAGS or letters[start] == END_OF_TAGS):
        start -= 1
    end = start + 1
    while end < len(letters) and ord(letters[end]) in TAGS:
        end += 1
    ended = end < len(letters) and letters[end] == END_OF_TAGS
    return letters[start] == FLAG and ended and 1 < end - start <= 8 and place <= end


def name_key(name: str) -> str:
    """Equal for names that people would take for the same one: upper and lower case, but not Masse and Maße."""
    folded = (letter.casefold() if len(letter.casefold()) == 1 else letter.lower() for letter in name)
    return unicodedata.normalize("NFC", "".join(folded))


def escaped(name: str) -> str:
    r"""A file name of any bytes as text that every format can hold: bytes that are no UTF-8 become ``\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown_name(name: str) -> str:
    """``clean_name`` for messages: an invisible name is described."""
    try:
        return clean_name(name)
    except GalleryError:
        return "a file without a name"


# --- system files --------------------------------------------------------------------------------------------------

# What systems, network drives and programs leave beside people's files; all in lower case.
LITTER = {
    *("__macosx", ".ds_store", ".appledouble", ".spotlight-v100", ".fseventsd", ".trashes", ".trash", "icon\r"),
    *(".temporaryitems", ".documentrevisions-v100", ".apdisk", ".localized", "network trash folder"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "recycled", "system volume information"),
    *("lost+found", ".thumbnails", ".thumb", ".thumbs", ".nomedia", ".hidden", ".directory", ".cache", ".streams"),
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", ".@__thumb", ".@upload_cache"),
    *(".picasa.ini", "picasa.ini", ".picasaoriginals", ".dropbox", ".dropbox.cache", ".tmp.drivedownload"),
    *(".stfolder", ".stversions", ".sync", ".git", ".svn", ".hg", ".idea", ".vscode", ".venv", ".ipynb_checkpoints"),
    *("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".xdg-volume-info"),
}
LITTER_BEGINS = ("._", ".trash-", ".trashed-", ".pending-", ".fuse_hidden", ".nfs", ".syncthing.", "~$")


def litter(name: str, is_folder: bool) -> bool:
    """Whether a file or folder of this name belongs to the operating system or a program, not to a person.

    A file that begins with a dot does; a folder may be a class (".net") unless it is a known one.
    """
    key = name.casefold()
    return key in LITTER or key.startswith(LITTER_BEGINS) or (not is_folder and key.startswith("."))


def litter_in(parts: Sequence[str], is_folder: bool = False) -> str | None:
    """The part of a path for which ``litter`` is true, or None."""
    last = len(parts) - 1
    return next((part for place, part in enumerate(parts) if litter(part, place < last or is_folder)), None)


def ignored_note(found: Iterable[str]) -> str:
    """A note on system files that were ignored; "" where there were none."""
    kinds = list(dict.fromkeys(shown_name(name) for name in found))
    few = ", ".join(kinds[:3]) + (f" and {len(kinds) - 3} more" if len(kinds) > 3 else "")
    return f"hidden files and those of systems are left out ({few})" if kinds else ""


SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def split_folders(folders: Collection[str]) -> dict[str, str]:
    """split -> folder, where all these folders are different splits of a data set; {} where they are not.

    The caller checks whether there are classes in them: a folder "test" full of pictures is a class.
    """
    found = {SPLITS[name.lower()]: name for name in folders if name.lower() in SPLITS}
    return found if folders and len(found) == len(folders) else {}


# --- bytes to names ------------------------------------------------------------------------------------------------

# Encodings that Windows and older packers use without stating them, each with its common name.
CODE_PAGES = {
    "gbk": "GBK",
    "cp950": "Big5",
    "cp932": "Shift-JIS",
    "cp949": "EUC-KR",
    "cp866": "CP866",
    "cp1251": "Windows-1251",
    "cp437": "CP437",
    "cp850": "CP850",
    "cp1252": "Windows-1252",
    "cp852": "CP852",
    "cp1250": "Windows-1250",
}
LATIN = ("cp437", "cp850", "cp1252", "cp852", "cp1250")  # the zip format says cp437; Windows follows its own page
UNKNOWN = "an unknown encoding"


def decode_names(names: Sequence[bytes]) -> tuple[list[str], str]:
    """File names of one archive that does not say how they are written -> (names, encoding).

    ``encoding`` is "" for ASCII and UTF-8, which need no mention; the name of the code page that was recognized by its
    letters; or ``UNKNOWN``, and then every byte becomes some character, so that different names stay different.
    """
    foreign = [name for name in names if not name.isascii()]
    utf8 = sum(_decoded(name, "utf-8") is not None for name in foreign)
    if 2 * utf8 > len(foreign):  # a short name may be UTF-8 by chance, most of an archive is not
        known = [_decoded(name, "utf-8") for name in names]
    else:
        known = [name.decode() if name.isascii() else None for name in names]
    rest = [name for name, text in zip(names, known, strict=True) if text is None]
    if not rest:
        return [text or "" for text in known], ""
    page = _code_page(b"\n".join(dict.fromkeys(rest)))
    texts = [name.decode(page or "cp437") if text is None else text for name, text in zip(names, known, strict=True)]
    return texts, CODE_PAGES[page] if page else UNKNOWN


def _decoded(name: bytes, encoding: str) -> str | None:
    try:
        return name.decode(encoding)
    except UnicodeDecodeError:
        return None


DETECTED = {"gb18030": "gbk", "big5": "cp950", **{f"windows-{page[2:]}": page for page in CODE_PAGES}}


def _code_page(names: bytes) -> str | None:
    """The code page in which these lines are names; None when there is none."""
    from chardet import detect_all  # 50 ms to import, for the few archives that need it

    asked = [*CODE_PAGES, "gb18030", "big5"]
    found = detect_all(names, ignore_threshold=True, include_encodings=asked)  # the most probable first
    ranked = [str(one["encoding"]).lower().replace("ibm", "cp") for one in found]
    fits = [page for page in (DETECTED.get(page, page) for page in ranked) if _like_names(names, page)]
    if fits and fits[0] in LATIN:
        return next(page for page in LATIN if _like_names(names, page))
    return fits[0] if fits else None


def _like_names(names: bytes, page: str) -> bool:
    """Whether the text looks right: a wrong code page gives symbols, other scripts or capitals inside words."""
    text = _decoded(names, page) if page in CODE_PAGES else None
    if text is None:
        return False
    for before, letter, after in zip(f"\n{text}", text, f"{text[1:]}\n", strict=False):
        if not letter.isascii() and not _letter(letter):
            return False
        if before.isascii() and before.islower() and _wide(letter) and not _wide(after):
            return False  # "Größe" as Shift-JIS
        if before.isalpha() and letter.isalpha() and not (before.isascii() and letter.isascii()):
            scripts = {_script(before), _script(letter)} & {"LATIN", "GREEK", "CYRILLIC"}
            if len(scripts) > 1 or (before.islower() and letter.isupper()):
                return False
    return True


def _letter(letter: str) -> bool:
    """Whether a sign outside of ASCII is usual in names: letters, digits, the punctuation of Chinese and Japanese."""
    kind = unicodedata.category(letter)[0]
    return letter != "\u00b5" and (kind in "LM" or (kind in "NPS" and _wide(letter)) or letter in "\u00a0ªº№·")


def _wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in ("W", "F")


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
