"""What people take away: tables as CSV that spreadsheets cannot be attacked with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

# A cell that begins so is a formula to a spreadsheet; a quote in front makes it text. Numbers stay numbers.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV (RFC 4180: CRLF, quoted where needed), one line per row under `header`.

    Strings that a spreadsheet would run as a formula, also behind spaces, get a leading quote; other values are written
    as Python prints them.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    for row in (header, *rows):
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and (value.startswith(FORMULA) or value.lstrip().startswith(FORMULA)):
        return "'" + value
    return value
