"""A challenge without a model: six squares, and the answer stays as long as the first one does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitmsn.ui.classroom.challenge import Challenge, Said


def look(choices: Sequence[Iterable[int]]) -> list[Said]:
    kept = Said(3, "<i>espresso</i>", 0.75, 0.75)
    lost = Said(1, "teapot", 0.5, 0.125)
    return [kept if 0 in choice else lost for choice in choices]


CHALLENGE = Challenge(
    "A cup", "data:image/webp;base64,", (2, 3), 1, Said(3, "<i>espresso</i>", 0.875, 0.875), look, chance=4
)
