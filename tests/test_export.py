"""CSV that opens as data, whatever the cells say."""

from __future__ import annotations

import csv
import io

import pytest

from vitmsn.export import csv_text


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_formulas_become_text(cell: str) -> None:
    assert read(csv_text(["name"], [[cell]]))[1][0].startswith("'")


def test_numbers_and_plain_text_stay() -> None:
    assert csv_text(["file", "p"], [["a.png", -0.25], ["b", 3]]) == "file,p\r\na.png,-0.25\r\nb,3\r\n"


def test_commas_quotes_and_lines_come_back_as_they_were() -> None:
    cell = 'a "quoted", two-line\nname'
    assert read(csv_text(["name"], [[cell]])) == [["name"], [cell]]


def test_headers_are_cells_too() -> None:
    assert csv_text(["=cmd"], []) == "'=cmd\r\n"
