"""What the Masking tab keeps of a visitor."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitmsn.ui.masking.controls import MaskingControls

Stamp = tuple[object, ...]  # what an answer was made of


@dataclass
class MaskingState:
    answered: Stamp | None = None  # what the page shows
    drawn: MaskingControls | None = None  # the last mask that was not painted: painting begins with it
    wanted: dict[str, Stamp] = field(default_factory=dict)  # of each section: what it would be made of now,
    made: dict[str, Stamp] = field(default_factory=dict)  # and what it was made of
