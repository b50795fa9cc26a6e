"""The picture in README.md shows the page as it is.

SCREENSHOT=write python -m pytest tests/browser/test_screenshot.py      takes it anew
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.app import ROOT

KEPT = ROOT / "assets" / "screenshots" / "masking.png"
ALIKE = 4.0  # of 255, on average: fonts differ between machines
ABOVE = (0, 0, 1440, 490)  # what is compared; the words below name milliseconds, and so may take a line more or less
SMALL = (72, 24)


def test_the_picture_of_masking_is_of_today(visit: Callable[..., Page]) -> None:
    page = visit(width=1440, height=900, address="?tab=masking")
    expect(page.locator(".msn-sentence:visible").first).to_contain_text("it still says espresso")
    expect(page.locator("#masked-view img")).to_be_visible()
    expect(page.locator("#masked-view .eta-bar, .progress-text:visible")).to_have_count(0)
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    taken = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    if os.environ.get("SCREENSHOT") == "write":
        taken.quantize(256, dither=Image.Dither.NONE).save(KEPT, optimize=True)
    kept = Image.open(KEPT).convert("RGB")
    assert taken.size == kept.size
    small, other = (np.asarray(one.crop(ABOVE).resize(SMALL, Image.Resampling.BOX), float) for one in (taken, kept))
    apart = np.abs(small - other).mean()
    assert apart < ALIKE, f"{KEPT.name} is {apart:.1f} apart from the page; take it anew with SCREENSHOT=write"
