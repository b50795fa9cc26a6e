"""Calibrated probabilities, and a threshold that reaches its precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support import models
from vitmsn.errors import DataError, InputError
from vitmsn.training import calibration
from vitmsn.training.calibration import NEVER, calibrate, fold_temperature, measure, sure_threshold


def test_calibration_finds_the_temperature_that_made_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, 5, generator=generator) * 1.5
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator).flatten()
    assert calibrate(honest * 3, labels) == pytest.approx(3, rel=0.05)
    assert calibrate(honest, labels) == pytest.approx(1, rel=0.05)


def test_a_folded_temperature_divides_the_logits() -> None:
    head = {"weight": torch.randn(3, 4), "bias": torch.randn(3)}
    folded = fold_temperature(head, 2.0)
    x = torch.randn(5, 4)
    assert torch.allclose(x @ folded["weight"].T + folded["bias"], (x @ head["weight"].T + head["bias"]) / 2, atol=1e-6)


def test_sure_answers_reach_the_promised_precision() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = (torch.randn(20_000, 10, generator=generator) * 2).softmax(1)
    labels = torch.multinomial(probabilities, 1, generator=generator).flatten()
    threshold = sure_threshold(probabilities, labels, precision=0.8)
    best, guess = probabilities.max(1)
    sure = best >= threshold
    assert (guess == labels)[sure].float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert 0.1 < sure.float().mean() < 0.9


def test_a_random_classifier_is_never_sure() -> None:
    generator = torch.Generator().manual_seed(2)
    probabilities = torch.randn(1000, 10, generator=generator).softmax(1)
    with pytest.raises(DataError, match="cannot be sure"):
        sure_threshold(probabilities, torch.randint(0, 10, (1000,), generator=generator))


def test_a_classifier_is_measured_on_held_out_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.arange(3).repeat(200)
    logits = torch.randn(600, 3, generator=generator) + 2 * torch.nn.functional.one_hot(wanted, 3)
    found, sharper = measure(logits, wanted), measure(4 * logits, wanted)
    assert sharper.temperature == pytest.approx(4 * found.temperature, rel=1e-3)
    assert sharper.not_sure_below == pytest.approx(found.not_sure_below, abs=1e-3)
    assert 1 / 3 < found.not_sure_below < 1 and not found.notes
    best, guess = (logits / found.temperature).softmax(1).max(1)
    assert (guess == wanted)[best >= found.not_sure_below].float().mean() > 0.6
    assert found.held_out["top1"] == pytest.approx(float((guess == wanted).float().mean()), abs=1e-4)
    assert found.held_out["pictures"] == 600 and found.held_out["top5"] == 1


def test_with_too_few_pictures_nothing_is_sure() -> None:
    found = measure(torch.tensor([[2.0, 0], [0, 2.0], [1.0, 0]]), torch.tensor([0, 1, 0]))
    assert found.not_sure_below == NEVER and "always say that it is not sure" in found.notes[0]


def test_only_a_classifier_of_one_right_class_is_calibrated(tmp_path: Path) -> None:
    config = replace(models.small(("cat", "sofa")), problem_type="multi_label_classification")
    folder = models.write(tmp_path / "model", config)
    with pytest.raises(InputError, match=r"no classifier of which one class is right \(multi_label_classification\)"):
        calibration.run(str(folder), tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()
