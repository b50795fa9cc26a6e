"""The format of a file by its bytes, not its name; for unsupported formats, what to do about it."""

from __future__ import annotations

import struct

from vitmsn.errors import ImageError

SUPPORTED = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "HEIC", "AVIF")
# of the names of such files; trusted until they are decoded
EXTENSIONS = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif")
SNIFFED = 1024  # bytes that are enough to tell a picture

_ASK = "save it as JPEG or PNG and try again"
_RAW = ("a camera's raw picture", "export it as JPEG with the camera's program")
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_STILL = {b"mif1", b"mif2", b"msf1", b"miaf"}  # of either codec; the other brands of the file say which
# Unsupported formats that people send: their first bytes (at an offset), their name, what to do instead.
_REFUSED: tuple[tuple[int, tuple[bytes, ...], str, str], ...] = (
    (4, (b"ftypcrx ",), "a raw picture of a Canon camera (CR3)", _RAW[1]),
    (4, (b"ftypM4A", b"ftypM4B"), "a sound file", "send a picture"),
    (4, (b"ftyp",), "a video", "take a screenshot of the moment you want"),
    (0, (b"\x1aE\xdf\xa3", b"FLV\x01"), "a video", "take a screenshot of the moment you want"),
    (0, (b"IIRO", b"IIRS", b"MMOR", b"IIU\x00", b"FUJIFILMCCD-RAW"), *_RAW),
    (0, (b"%PDF",), "a PDF document", "take a screenshot of the page"),
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "an EPS or PostScript drawing", "export it as PNG"),
    (0, (b"\xff\x0a", b"\x00\x00\x00\x0cJXL "), "a JPEG XL picture", _ASK),
    (0, (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "), "a JPEG 2000 picture", _ASK),
    (0, (b"II\xbc\x01",), "a JPEG XR picture", _ASK),
    (0, (b"8BPS",), "a Photoshop document", "export it as PNG"),
    (0, (b"gimp xcf",), "a GIMP document", "export it as PNG"),
    (0, (b"\x00\x00\x01\x00", b"\x00\x00\x02\x00"), "a Windows icon or cursor", "export it as PNG"),
    (0, (b"v/1\x01",), "an OpenEXR picture", _ASK),
    (0, (b"DDS ",), "a DDS texture", _ASK),
    (0, (b"#?RADIANCE", b"#?RGBE"), "a Radiance HDR picture", _ASK),
    (0, (b"qoif",), "a QOI picture", _ASK),
    (128, (b"DICM",), "a DICOM file", "export it as PNG with your viewer"),
    (0, (b"PK\x03\x04", b"PK\x05\x06"), "a zip archive (or an office document)", "send the pictures inside it"),
    (0, (b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b"), "an archive", "send the pictures inside it"),
)


def is_picture(data: bytes) -> bool:
    """Whether the first ``SNIFFED`` bytes of a file, or all of it, are those of a picture that ``decode`` takes."""
    return _kind(data) is not None


def kind(data: bytes, shown: str) -> str:
    """The format in ``SUPPORTED`` of these bytes. Raises ImageError, which names any other format."""
    found = _kind(data)
    if found is not None:
        return found
    if not data:
        raise ImageError(f"{shown} is empty: save or download it again.")
    what, advice = _refused(data)
    supported = f"{', '.join(SUPPORTED[:-1])} and {SUPPORTED[-1]}"
    raise ImageError(f"{shown} is {what}, which is unsupported; {supported} are supported: {advice}.")


def _kind(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    brands = _brands(data)
    if brands & {b"avif", b"avis"} and not brands & _HEVC:
        return "AVIF"
    return "HEIC" if brands & (_HEVC | _STILL) else None


def _brands(data: bytes) -> set[bytes]:
    """The brands of an ISO container file: its own and those it is compatible with."""
    if data[4:8] != b"ftyp" or data[8:12] == b"crx ":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    return {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}


def _refused(data: bytes) -> tuple[str, str]:
    """The unsupported format of these bytes, and what to do about it."""
    if data[-18:] == b"TRUEVISION-XFILE.\x00" or _like_tga(data):  # before icons, which begin alike
        return "a TGA picture", _ASK
    for offset, magics, what, advice in _REFUSED:
        if data.startswith(magics, offset):
            return what, advice
    text = data[:SNIFFED].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG drawing", "export it as PNG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "save the picture itself, not the page"
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "a PNM picture", _ASK
    return "a file of unknown format", _ASK


def _like_tga(data: bytes) -> bool:
    """TGA has no signature: it is recognized by a header whose every field is valid."""
    if len(data) < 18:
        return False
    colors, kind, first, count, entry, _, _, width, height, bits, flags = struct.unpack("<xBBHHBHHHHBB", data[:18])
    palette = (colors, kind) in ((1, 1), (1, 9)) and bits == 8 and 0 < count <= 256 and entry in (15, 16, 24, 32)
    plain = (colors, first, count, entry) == (0, 0, 0, 0) and kind in (2, 3, 10, 11) and bits in (8, 15, 16, 24, 32)
    return (palette or plain) and width > 0 and height > 0 and not flags & 0xC0


def webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header of a WebP file; (1, 1) when it is too damaged to tell, which Pillow then says."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 1, 1
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", body[6:10])
    return max(1, width & 0x3FFF), max(1, height & 0x3FFF)
