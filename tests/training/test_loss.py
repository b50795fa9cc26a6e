"""The loss against the paper's formulas written plainly, its gradients against finite differences, its properties."""

from __future__ import annotations

import math

import pytest
import torch

from vitmsn.errors import InputError
from vitmsn.training.loss import msn_loss, sharpen, sinkhorn


def log_probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(-1)


def plain_loss(anchors: torch.Tensor, targets: torch.Tensor, me_max: float, entropy: float) -> torch.Tensor:
    """Equation 2 and me-max as the paper writes them, with probabilities and loops."""
    views, pictures, _ = anchors.shape
    p = anchors.exp()
    cross = sum(-(targets[b] * p[v, b].log()).sum() for v in range(views) for b in range(pictures)) / (views * pictures)
    mean = p.reshape(-1, p.shape[-1]).mean(0)
    spread = -(mean * mean.log()).sum()
    own = sum(-(p[v, b] * p[v, b].log()).sum() for v in range(views) for b in range(pictures)) / (views * pictures)
    return cross - me_max * spread + entropy * own


@pytest.mark.parametrize(("me_max", "entropy"), [(1.0, 0.0), (5.0, 0.0), (0.0, 0.3), (2.5, 1.5)])
def test_equals_the_formula_of_the_paper(me_max: float, entropy: float) -> None:
    anchors, targets = log_probabilities(3, 5, 7), log_probabilities(5, 7, seed=1).exp()
    parts = msn_loss(anchors, targets, me_max, entropy)
    assert parts.total.item() == pytest.approx(plain_loss(anchors, targets, me_max, entropy).item(), abs=1e-6)


def test_gradient_equals_finite_differences() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    targets = log_probabilities(3, 4, seed=3).exp()

    def loss(values: torch.Tensor) -> torch.Tensor:
        return msn_loss(values.log_softmax(-1), targets, 1.3, 0.4).total

    loss(logits).backward()
    assert logits.grad is not None
    step = 1e-2
    for place in [(0, 0, 0), (0, 2, 3), (1, 1, 2)]:
        shift = torch.zeros_like(logits)
        shift[place] = step
        with torch.no_grad():
            up, down = ((logits + sign * shift).double().log_softmax(-1) for sign in (1, -1))
            slope = (plain_loss(up, targets, 1.3, 0.4) - plain_loss(down, targets, 1.3, 0.4)) / (2 * step)
        assert logits.grad[place].item() == pytest.approx(slope.item(), abs=2e-4)


def test_targets_get_no_gradient() -> None:
    targets = log_probabilities(3, 4).exp().requires_grad_()
    anchors = log_probabilities(2, 3, 4).requires_grad_()
    msn_loss(anchors, targets).total.backward()
    assert targets.grad is None
    assert anchors.grad is not None


def test_mean_entropy_is_largest_when_prototypes_are_used_alike() -> None:
    even = torch.full((4, 8), 1e-9).scatter(1, torch.arange(4).unsqueeze(1), 1.0)
    even = (even / even.sum(1, keepdim=True)).repeat(2, 1)[:8]
    collapsed = even[:1].expand(8, -1)
    spread = msn_loss(even.log().unsqueeze(0), even).mean_entropy
    alone = msn_loss(collapsed.log().unsqueeze(0), collapsed).mean_entropy
    assert spread.item() == pytest.approx(math.log(4), abs=1e-5)
    assert alone.item() == pytest.approx(0, abs=1e-5)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match=r"\(2, 3, 4\).*\(3, 5\)"):
        msn_loss(log_probabilities(2, 3, 4), log_probabilities(3, 5).exp())


def test_sharpening_equals_the_power_and_does_not_underflow() -> None:
    p = log_probabilities(6, 5, seed=4)
    power = p.exp() ** 4
    assert torch.allclose(sharpen(p, 0.25).double(), power / power.sum(1, keepdim=True), atol=1e-6)
    tiny = torch.tensor([[-800.0, -801.0, -900.0]])  # exp(-3200) is 0 in every float
    assert torch.allclose(sharpen(tiny, 0.25).sum(1), torch.ones(1))
    assert sharpen(tiny, 0.25)[0, 0] == pytest.approx(1 / (1 + math.exp(-4)), abs=1e-6)


def test_sinkhorn_balances_columns_and_keeps_rows() -> None:
    p = log_probabilities(64, 8, seed=5).exp()
    p[:, 0] += 3
    p = p / p.sum(1, keepdim=True)
    balanced = sinkhorn(p, 50)
    assert torch.allclose(balanced.sum(1), torch.ones(64), atol=1e-5)
    assert torch.allclose(balanced.sum(0), torch.full((8,), 8.0), atol=1e-3)
    few = sinkhorn(p, 3)
    assert (few.sum(0) - 8).abs().max() < (p.float().sum(0) - 8).abs().max() / 4


def test_sinkhorn_handles_an_unused_prototype() -> None:
    p = torch.zeros(4, 3)
    p[:, 0] = 1
    balanced = sinkhorn(p)
    assert torch.isfinite(balanced).all()
    assert torch.allclose(balanced.sum(1), torch.ones(4))
