"""Small pieces of page that every tab shares. Everything that comes from outside is escaped here, once.

Returned strings are HTML for `gr.HTML`; class names live in theme.css.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from vitmsn import draw

BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])
CONTROL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF])


def text(value: object, length: int = 200) -> str:
    """`value` as escaped text: no control or bidirectional characters, at most `length` characters."""
    plain = str(value).translate(BIDI | CONTROL)
    return escape(plain if len(plain) <= length else plain[: length - 1] + "…", quote=True)


def notice(message: str) -> str:
    """An error or a hint beside the thing it is about; an empty message is nothing at all."""
    return f'<p class="msn-notice" role="alert">{text(message, 600)}</p>' if message else ""


def sentence(message: str) -> str:
    """The one plain sentence of a result (polite for screen readers)."""
    return f'<p class="msn-sentence" role="status">{text(message, 600)}</p>' if message else ""


def hint(message: str) -> str:
    """A quiet line of explanation."""
    return f'<p class="msn-hint">{text(message, 600)}</p>' if message else ""


def header() -> str:
    """The name and what it is, at the top."""
    return '<h1 class="msn-name">ViT-MSN</h1><p class="msn-tagline">see what a masked siamese network sees</p>'


def about(facts: Sequence[tuple[str, str]], bounds: Sequence[tuple[str, str]], privacy: str) -> str:
    """The sidebar's text: what is running, the limits, what happens to pictures."""

    def table(rows: Sequence[tuple[str, str]]) -> str:
        return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value, 300)}</dd>" for name, value in rows) + "</dl>"

    return (
        f'<section class="msn-about"><h2>Running</h2>{table(facts)}<h2>Limits</h2>{table(bounds)}'
        f"<h2>Your pictures</h2><p>{text(privacy, 600)}</p><h2>About</h2><p>A vision transformer trained without "
        "labels, by hiding patches and asking for the same answer: "
        '<a href="https://arxiv.org/abs/2204.07141" rel="noreferrer" target="_blank">Masked Siamese Networks</a> '
        "(Assran et al., 2022). This page and its library are free software, Apache-2.0.</p></section>"
    )


def status(words: Sequence[str]) -> str:
    """The status line at the foot."""
    return '<p class="msn-status">' + " <span>·</span> ".join(text(word) for word in words) + "</p>"


def in_python(*lines: str) -> str:
    """'In Python' under a result: the few lines that give the same. Lines are escaped; indent them as you want them."""
    code = escape("\n".join(lines))
    return f'<details class="msn-code"><summary>In Python</summary><pre><code>{code}</code></pre></details>'


def bars(rows: Sequence[tuple[str, float]], *, quiet: bool = False) -> str:
    """Horizontal bars of (label, probability in 0..1), full width for 1, numbers beside them; `quiet` mutes them."""
    items = "".join(_bar(label, min(max(value, 0.0), 1.0)) for label, value in rows)
    return f'<ol class="msn-bars{" msn-quiet" if quiet else ""}">{items}</ol>'


def _bar(label: str, value: float) -> str:
    return (
        f'<li><span class="msn-bar-label">{text(label, 80)}</span><span class="msn-bar-value">{percent(value)}</span>'
        f'<span class="msn-bar" aria-hidden="true"><span style="width:{value * 100:.2f}%"></span></span></li>'
    )


def percent(value: float) -> str:
    """A probability with two significant digits, never rounded to certainty: "8.4 %", "&lt; 0.1 %", "over 99 %"."""
    if value >= 0.995:
        return "over 99 %"
    return f"{100 * value:.2g} %" if value >= 0.001 else "&lt; 0.1 %"


def data_url(picture: Image.Image, quality: int = 85) -> str:
    """The picture re-encoded as WebP in a data: URL, so that showing it writes no file. Shrink it first."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def img(picture: Image.Image, alt: str, css: str = "") -> str:
    """An <img> that carries its own pixels, with the alternative text that says what it shows."""
    return f'<img class="{text(css)}" src="{data_url(picture)}" alt="{text(alt, 300)}">'


def milliseconds(value: float) -> str:
    """A duration with two significant digits and its unit."""
    return f"{value / 1000:.2g} s" if value >= 9950 else f"{float(f'{value:.2g}'):g} ms"


def similar(value: float) -> str:
    """A cosine with two digits, or as many more as tell it from 1."""
    digits = next((digits for digits in (2, 3, 4) if round(value, digits) < 1), 2)
    return f"{value:.{digits}f}"


def whole_percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def badge(index: int) -> str:
    """A class's colour with its letter on it."""
    tone, letter = draw.class_style(index)
    return f'<span class="msn-letter" style="background:{tone};color:{ink(index)}">{letter}</span>'


def ink(index: int) -> str:
    """Black or white, whichever is read better on the class's colour."""
    tone = draw.class_style(index)[0]
    red, green, blue = ((int(tone[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # relative luminance, as WCAG counts contrast
    return "#000" if light > 0.18 else "#fff"
