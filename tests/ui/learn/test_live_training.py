"""The sentences and charts of a live run: learning, collapse, waiting, and every way to end."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from vitmsn import limits
from vitmsn.ui.learn import live_training
from vitmsn.ui.learn.training_process import Run, Switches
from vitmsn.ui.locale import speaking
from vitmsn.ui.visits import Visit

ABOUT = {"pictures": 1440, "held_out": 360, "steps": 100, "prototypes": 64, "raw": 0.986, "labels": [3, 7]}


def frame(step: int, knn: float, in_use: int, mean_entropy: float = 4.1) -> dict[str, Any]:
    told = {"step": step, "seconds": step / 10, "knn": knn, "spread": 0.3, "xy": [[0.1, 0.2], [-0.5, 0]]}
    more = {"loss": -1, "cross_entropy": 3.2, "mean_entropy": mean_entropy, "prototypes_in_use": in_use}
    return told | more if step else told


def run(*frames: dict[str, Any], ended: str = "") -> Run:
    return Run(Switches(), Visit("a", "model"), told=[ABOUT, *frames], ended=ended)


START, LEARNED, COLLAPSED = frame(0, 0.65, 0), frame(100, 0.91, 52), frame(100, 0.62, 1, 0.01)


def test_the_sentence_of_a_run_has_numbers() -> None:
    assert live_training.sentence(run(START)).startswith("With random weights kNN names 65\xa0% of the test pictures")
    said = live_training.sentence(run(START, frame(50, 0.8, 47)))
    assert said.startswith("After 50 of 100 steps in 5 s (about 5 s left), kNN names 80\xa0% of the test pictures ")
    assert "correctly (random weights: 65\xa0%); " in said
    assert "47 of 64 prototypes are in use." in said and said.endswith("use.")


@pytest.mark.parametrize(
    ("language", "switches", "words"),
    [
        ("en", Switches(), "steps in 10 s, kNN"),
        ("en", Switches(masking=False), "steps in 10 s without masking, kNN"),
        ("de", Switches(masking=False), "Schritten in 10 s ohne Maskieren benennt kNN"),
        ("en", Switches(sinkhorn=False, me_max=False), "steps in 10 s without Sinkhorn and me-max, kNN"),
        ("de", Switches(False, False, False), "in 10 s ohne Maskieren, Sinkhorn und me-max benennt kNN"),
    ],
)
def test_the_sentence_names_what_was_off(language: str, switches: Switches, words: str) -> None:
    shown = Run(switches, Visit("a", "model"), told=[ABOUT, START, LEARNED], ended="finished")
    with speaking(language):
        assert words in live_training.sentence(shown)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ("finished", "It never saw a label"),
        ("stopped", "Stopped."),
        ("time", f"Its {limits.LIVE_SECONDS} s were over before its last step: this machine is busy."),
        ("left", "the page was left"),
        ("failed", "start it again"),
    ],
)
def test_every_way_to_end_has_a_sentence(ended: str, words: str) -> None:
    assert words in live_training.sentence(run(START, LEARNED, ended=ended))


def test_a_run_that_is_stopped_at_its_first_frame_says_so() -> None:
    said = live_training.sentence(run(START, ended="stopped"))
    assert said == "With random weights kNN names 65\xa0% of the test pictures correctly. Stopped."


def test_a_collapse_is_named() -> None:
    assert live_training.collapsed(run(START, COLLAPSED)) and not live_training.collapsed(run(START, LEARNED))
    assert not live_training.collapsed(run(START)) and not live_training.collapsed(run(START, frame(9, 0.6, 1, 3.9)))
    said = live_training.sentence(run(START, COLLAPSED, ended="finished"))
    assert "on the same prototype" in said and "1 of 64 prototypes" in said and "label" not in said
    assert "on the same two prototypes" in live_training.sentence(run(START, frame(60, 0.6, 2, 0.3)))


def test_the_charts_show_reference_values() -> None:
    page = live_training.charts(run(START, frame(50, 0.8, 47), LEARNED))
    assert page.count("<svg") == 3 and page.count("aria-label=") == 3
    for words in (
        "raw pixels 99\xa0%",
        "trained 91\xa0%",
        "random 65\xa0%",
        "in use 52",
        "mean entropy 4.1",
        "cross-entropy 3.2",
    ):
        assert words in page
    assert "65\xa0% after 0, 80\xa0% after 50, 91\xa0% after 100" in page and f"log 64 = {math.log(64):.1f}" in page
    assert (
        live_training.charts(run(START)).count("<svg") == 1
        and live_training.charts(Run(Switches(), Visit("a", "m"))) == ""
    )


def test_other_runs_are_lines_in_the_chart_of_accuracy() -> None:
    mine, other = run(START, LEARNED), run(START, frame(50, 0.7, 40))
    mine.letter, other.letter = "B", "A"
    page = live_training.charts(mine, [other, mine])
    assert "B 91\xa0%" in page and "A 70\xa0%" in page and "trained" not in page
    assert page.count("<polyline") == live_training.charts(mine).count("<polyline") + 1


def test_runs_side_by_side_are_buttons_with_what_was_off() -> None:
    one, other = run(START, LEARNED), run(START, COLLAPSED)
    one.letter, other.letter = "A", "B"
    other.switches = Switches(sinkhorn=False, me_max=False)
    page = live_training.cards([one, other], other)
    assert page.count("<button") == page.count("<svg") == 2 and page.count("<circle") == 4
    assert "everything on" in page and "no Sinkhorn, no me-max" in page and "kNN 62\xa0%, 1 of 64 prototypes" in page
    assert re.findall('data-letter="(.)" aria-pressed="(.*?)"', page) == [("A", "false"), ("B", "true")]
    assert live_training.cards([one], one) == ""


def test_a_waiting_visitor_sees_the_queue_and_the_time() -> None:
    first, changing = live_training.line_of(1, 34.2)
    assert first.startswith("Another visitor's network is first") and "in 34 s" in changing
    assert "2 other visitors' networks are first" in live_training.line_of(2, 150)[0]
    strip = live_training.ready(first, changing)
    assert "<span data-say>Another visitor" in strip and "</span> Yours starts by itself" in strip


def test_a_recording_is_shown_before_anyone_trains() -> None:
    kept = live_training.recorded()
    about, frames = kept.about, kept.frames
    assert about is not None and frames[-1]["step"] == about["steps"] and len(frames[-1]["xy"]) == len(about["labels"])
    said = live_training.invitation(kept)
    assert said.startswith("A recording: ") and live_training.share(frames[-1]["knn"]) in said
    assert live_training.charts(kept).count("<svg") == 3 and not live_training.collapsed(kept)
    assert frames[-1]["knn"] > frames[0]["knn"] + 0.1
