"""Whoever walks with the Tab key sees where they are: every stop of every tab has a frame, and nothing cuts it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

Visit = Callable[..., Page]
TABS = ["classify", "attention", "masking", "fewshot", "explore", "learn"]
MOST = 300  # stops of a tab
# Remembers each stop with its frame: how it and the boxes around it look, and which sides of its outline a box cuts.
WALK = """() => {
  const OUTLINE = ["outlineStyle", "outlineWidth", "outlineColor"], SHADOW = ["boxShadow"];
  const NAMES = [...OUTLINE, ...SHADOW, "borderTopStyle", "borderTopWidth", "borderTopColor"];
  const LEVELS = 4; // from a control to the wrapper that may have its frame
  const stops = [], met = new Set();
  const settle = () => document.getAnimations().forEach((one) => one.transitionProperty && one.finish());
  const look = (one) => {
    const style = getComputedStyle(one), values = NAMES.map((name) => style[name]);
    if (values[0] === "none") values.fill("", 0, 3); // no outline, whatever its color
    if (values[4] === "none" || values[5] === "0px") values.fill("", 4);
    return values.join(" ");
  };
  const around = (one) => {
    const found = [];
    for (let box = one; box && box !== document.body && found.length < LEVELS; box = box.parentElement) found.push(box);
    return found;
  };
  const cut = (one) => {
    const style = getComputedStyle(one), sides = new Set();
    if (style.outlineStyle === "none") return "";
    const out = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset), box = one.getBoundingClientRect();
    for (let outer = one.parentElement; outer && outer !== document.body; outer = outer.parentElement) {
      const { overflowX, overflowY } = getComputedStyle(outer), edge = outer.getBoundingClientRect();
      if (overflowX !== "visible" && box.left - out < edge.left - 1) sides.add("left");
      if (overflowX !== "visible" && box.right + out > edge.right + 1) sides.add("right");
      if (overflowY !== "visible" && box.top - out < edge.top - 1) sides.add("top");
      if (overflowY !== "visible" && box.bottom + out > edge.bottom + 1) sides.add("bottom");
    }
    return [...sides].join(", ");
  };
  window.msnStop = () => { // false at the end of the walk
    const here = document.activeElement;
    if (met.has(here)) return false;
    met.add(here);
    if (here === document.body) return true;
    settle();
    const boxes = around(here), name = here.ariaLabel || here.innerText || here.placeholder || here.className;
    const looks = boxes.map(look), sides = boxes.map(cut).join("");
    stops.push({ name: `${here.tagName} ${name}`.slice(0, 80), boxes, looks, cut: sides });
    return true;
  };
  window.msnFaults = () => {
    document.activeElement.blur();
    settle();
    const seen = (stop) => stop.boxes.some((box, place) => look(box) !== stop.looks[place]);
    return [stops.length, stops.flatMap((stop) => [
      ...(seen(stop) ? [] : [`${stop.name}: no frame`]), ...(stop.cut ? [`${stop.name}: cut ${stop.cut}`] : []),
    ])];
  };
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_every_stop_of_the_tab_key_has_a_frame_that_nothing_cuts(visit: Visit, tab: str, dark: bool) -> None:
    page = visit(dark=dark, address=f"?tab={tab}")
    expect(page.locator(f"#tab-{tab} :is(.msn-sentence, .msn-answer, h2.msn-step)").first).to_be_visible()
    expect(page.locator(".msn-status")).to_contain_text("px")
    if tab == "fewshot":
        expect(page.locator("#tab-fewshot .msn-answers").first).to_be_visible()
    for folded in page.locator(f"#tab-{tab} :is(button.label-wrap, summary)").all():
        if folded.is_visible():
            folded.click()
    expect(page.locator("[data-testid=status-tracker]:not(.hide)").filter(visible=True)).to_have_count(0)
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(WALK)
    for _ in range(MOST):
        page.keyboard.press("Tab")
        if not page.evaluate("window.msnStop()"):
            break
    stops, faults = page.evaluate("window.msnFaults()")
    assert stops > 20
    assert faults == []
