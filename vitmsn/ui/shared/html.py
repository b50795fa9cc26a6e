"""Small pieces of HTML that every tab shares, as `Markup`: strings marked as safe HTML.

`Markup(...).format(...)` and `.join` escape everything else that is put in; `text` also removes control characters and
cuts long text. CSS classes are in the .css files of vitmsn/ui. `percent`, `share`, `milliseconds`, `time_left`,
`of_megabytes`, `similar`, `pictures` and `examples` write numbers for people, in their language.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape
from PIL import Image

from vitmsn import draw, export
from vitmsn.ui.locale import LANGUAGES, PARAMETER, current, tr, tr_count, tr_html, tr_number, tr_said

BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])
SHOWN_LINES = 3  # of the details of a notice
CONTROL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF])


def plain(value: object, length: int = 200) -> str:
    """`value` without control or bidirectional characters, at most `length` characters; not escaped."""
    clean = str(value).translate(BIDI | CONTROL)
    return clean if len(clean) <= length else clean[: length - 1] + "…"


def text(value: object, length: int = 200) -> Markup:
    """The same, escaped as HTML."""
    return escape(plain(value, length))


def notice(message: str, details: Sequence[str] = ()) -> Markup:
    """An error or hint, and a list of details with one line each; the first few are shown, the rest is folded."""
    message = tr_said(message)
    if not details:
        return Markup('<p class="msn-notice" role="alert">{}</p>').format(text(message, 600)) if message else Markup()
    parts = [Markup("<p>{}</p>").format(text(message, 600))] if message else []
    parts.append(_lines(details[:SHOWN_LINES]))
    if len(details) > SHOWN_LINES:
        folded = tr_html("<details><summary>{} more</summary>{}</details>")
        parts.append(folded.format(len(details) - SHOWN_LINES, _lines(details[SHOWN_LINES:])))
    return Markup('<div class="msn-notice" role="alert">{}</div>').format(Markup().join(parts))


def _lines(lines: Sequence[str]) -> Markup:
    return Markup("<ul>{}</ul>").format(
        Markup().join(Markup("<li>{}</li>").format(text(tr_said(line), 300)) for line in lines)
    )


def sentence(message: str, *, said: bool = True) -> Markup:
    """The one plain sentence of a result. Screen readers hear it when it is new (announce.js); `said=False` keeps one
    that changes all the time from them."""
    spoken = Markup(" data-say") if said else Markup()
    return Markup('<p class="msn-sentence"{}>{}</p>').format(spoken, text(message, 600)) if message else Markup()


def hint(message: str) -> Markup:
    """A quiet line of explanation."""
    return Markup('<p class="msn-hint">{}</p>').format(text(message, 600)) if message else Markup()


def header() -> Markup:
    """The title and subtitle at the top."""
    return tr_html(
        '<a class="msn-skip" href="#work">Skip to the work</a><h1 class="msn-name">ViT-MSN</h1>'
        '<p class="msn-tagline">Look inside an AI that learned to see from half-hidden pictures</p>'
        '<p class="msn-aside" id="msn-announcer" role="status"></p>'
    )


def _languages() -> Markup:
    """A link to the page in each other language, named in that language; on a phone by its two letters."""
    link = Markup(
        '<a class="msn-language" href="?{}={}" lang="{}" hreflang="{}" aria-label="{}"><span>{}</span><b>{}</b></a>'
    )
    others = ((name, words) for name, words in LANGUAGES.items() if name != current())
    return Markup().join(link.format(PARAMETER, name, name, name, words, words, name.upper()) for name, words in others)


def about(facts: Sequence[tuple[str, str]], bounds: Sequence[tuple[str, str]], privacy: str, credit: str) -> Markup:
    """The other language, and the button of the panel About: the model, the limits, what happens to pictures."""

    def table(rows: Sequence[tuple[str, str]]) -> Markup:
        row = Markup("<dt>{}</dt><dd>{}</dd>")
        return Markup("<dl>{}</dl>").format(Markup().join(row.format(name, text(value, 300)) for name, value in rows))

    return tr_html(
        '{}<button type="button" class="msn-button" data-open aria-haspopup="dialog">About</button>'
        '<dialog class="msn-about" aria-label="About this page"><button type="button" class="msn-x" data-close '
        'aria-label="Close">×</button><h2>Running</h2>{}<h2>Limits</h2>{}'
        "<h2>Your pictures</h2><p>{}</p><button type='button' class='msn-button' data-forget>Delete mine now</button>"
        "<h2>About</h2><p>A vision transformer trained without "
        "labels, by hiding patches and asking for the same answer: "
        '<a href="https://arxiv.org/abs/2204.07141" rel="noreferrer" target="_blank">Masked Siamese Networks</a> '
        "(Assran et al., 2022). This page and its library are free software, Apache-2.0.</p>"
        "<h2>Example pictures</h2><p>{}</p></dialog>"
    ).format(_languages(), table(facts), table(bounds), text(privacy, 1000), text(credit, 2000))


def status(words: Sequence[str]) -> Markup:
    """The status line at the foot."""
    joined = Markup(" <span>·</span> ").join(text(word) for word in words)
    return Markup('<p class="msn-status">{}</p>').format(joined)


def in_python(*lines: str) -> Markup:
    """'In Python' under a result: the few lines of code that give the same. Lines are escaped; pass them indented."""
    page = tr_html(
        '<details class="msn-code"><summary>In Python</summary>'
        '<pre tabindex="0" aria-label="Python code"><code>{}</code></pre></details>'
    )
    return page.format("\n".join(lines))


def bars(rows: Sequence[tuple[str, float]], *, quiet: bool = False) -> Markup:
    """Horizontal bars of (label, probability in 0..1), full width for 1, with numbers; `quiet` mutes them."""
    items = Markup().join(_bar(label, min(max(value, 0.0), 1.0)) for label, value in rows)
    return Markup('<ol class="msn-bars{}">{}</ol>').format(" msn-quiet" if quiet else "", items)


def _bar(label: str, value: float) -> Markup:
    return Markup(
        '<li><span class="msn-bar-label">{}</span><span class="msn-bar-value">{}</span>'
        '<span class="msn-bar" aria-hidden="true"><span style="width:{:.2f}%"></span></span></li>'
    ).format(text(label, 80), percent(value), 100 * value)


def percent(value: float, *, whole: bool = False) -> str:
    """A probability with two significant digits, never rounded to certainty: "8.4 %", "< 0.1 %", "over 99 %".

    whole: for a counted share, without decimals: "63 %".
    """
    if whole:
        return tr_number(f"{100 * value:.0f} %")
    if value >= 0.995:
        return tr("over 99 %")
    return tr_number(f"{100 * value:.2g} %" if value >= 0.001 else "< 0.1 %")


def share(value: float) -> str:
    """A share with two significant digits: "4.1 %"."""
    return tr_number(draw.percent(value))


def data_url(picture: Image.Image, quality: int = 85) -> str:
    """The picture re-encoded as WebP in a data: URL, so that showing it writes no file. Shrink it first."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def img(picture: Image.Image, alt: str, css: str = "") -> Markup:
    """An <img> that contains its own pixels, with alternative text that says what it shows."""
    return Markup('<img class="{}" src="{}" alt="{}">').format(text(css), data_url(picture), text(alt, 300))


def download(name: str, kind: str, data: bytes, words: str) -> Markup:
    """A link that contains the file itself: nothing is written on the server. kind: a MIME type."""
    link = Markup('<a class="msn-button" download="{}" href="data:{};base64,{}">{}</a>')
    return link.format(name, kind, base64.b64encode(data).decode("ascii"), words)


def csv_link(name: str, head: Sequence[str], lines: Iterable[Sequence[object]]) -> Markup:
    """A CSV to download: spreadsheets open it as UTF-8, and no cell is a formula."""
    return download(name, "text/csv", export.csv_text(head, lines).encode("utf-8-sig"), tr("Download as CSV"))


def milliseconds(value: float) -> str:
    """A duration with two significant digits and its unit."""
    return tr_number(f"{value / 1000:.2g} s" if value >= 9950 else f"{float(f'{value:.2g}'):g} ms")


def time_left(seconds: float) -> str:
    """How much longer something takes, roughly: "about 20 s left", "about 3 min left"."""
    if seconds < 10:
        return tr("about {seconds} s left", seconds=max(1, round(seconds)))
    if seconds < 100:
        return tr("about {seconds} s left", seconds=5 * round(seconds / 5))
    return tr("about {minutes} min left", minutes=round(seconds / 60))


def of_megabytes(here: int, total: int) -> str:
    """How much of a file is here: "23 of 88 MB"."""
    return tr("{here:,.0f} of {total:,.0f} MB", here=here / 1e6, total=total / 1e6)


def similar(value: float) -> str:
    """A cosine with two digits, or as many more as it needs to differ from 1."""
    digits = next((digits for digits in (2, 3, 4) if round(value, digits) < 1), 2)
    return tr_number(f"{value:.{digits}f}".replace("-", "−"))


def pictures(count: int) -> str:
    return tr_count(count, "{n} picture", "{n} pictures")


def examples(count: int) -> str:
    return tr_count(count, "{n} example", "{n} examples")


def badge(index: int) -> Markup:
    """A class's color with its letter on it."""
    tone, letter = draw.class_style(index)
    return Markup('<span class="msn-letter" style="background:{};color:{}">{}</span>').format(tone, ink(index), letter)


def ink(index: int) -> str:
    """Black or white, whichever has more contrast on the class's color."""
    tone = draw.class_style(index)[0]
    red, green, blue = ((int(tone[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # relative luminance, as WCAG counts contrast
    return "#000" if light > 0.18 else "#fff"
