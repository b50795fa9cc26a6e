"""What the Masking tab keeps for a visitor."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitmsn.ui.locale import Retold
from vitmsn.ui.masking.controls import MaskingControls
from vitmsn.ui.masking.view_times import ViewTimes

Stamp = tuple[object, ...]  # what an answer depends on


@dataclass
class MaskingState:
    answered: Stamp | None = None  # what the page shows
    drawn: MaskingControls | None = None  # the last mask that was not painted: painting starts from it
    wanted: dict[str, Stamp] = field(default_factory=dict)  # the stamp that each section would get now,
    made: dict[str, Stamp] = field(default_factory=dict)  # and the stamp of the result it shows
    results: dict[str, Retold] = field(default_factory=dict)  # the last result of each section, for a page loaded again
    wall: bool = False  # the prototype wall was opened
    opened: str = ""  # fingerprint of the model whose prototype is shown large
    times: ViewTimes = field(default_factory=ViewTimes)  # of the model chosen last

    @property
    def nbytes(self) -> int:
        return sum(result.nbytes for result in list(self.results.values()))


@dataclass
class MaskingOnPage:
    filled: bool = False  # the page has the results of the sections
