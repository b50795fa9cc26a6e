"""The queue compares each picture with the last ones, as the teacher's answers have it, and teaches distances."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from vitmsn.training.answers import Probabilities
from vitmsn.training.similarity import STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, SimilarityQueue


def told(classes: list[int], sure: float = 1.0, of: int = 4) -> Probabilities:
    """A teacher that gives each picture one class with this probability, and the others the rest."""
    n = len(classes)
    rest = torch.full((n,), (1 - sure) / (of - 1))
    return Probabilities(torch.tensor(classes)[:, None], torch.full((n, 1), sure), rest)


def test_the_loss_is_that_of_the_paper() -> None:
    queue = SimilarityQueue(8, 3, 4)
    first, second = torch.randn(5, 3), torch.randn(2, 3, requires_grad=True)
    assert queue.loss(first, told([0, 1, 2, 3, 0])) == 0
    loss = queue.loss(second, told([0, 3], sure=0.7))

    def roots(p: Probabilities) -> torch.Tensor:
        dense = p.rest[:, None].repeat(1, 4).scatter(1, p.classes, p.probabilities)
        return dense.sqrt()

    wanted = (roots(told([0, 3], sure=0.7)) @ roots(told([0, 1, 2, 3, 0])).T / TEACHER_TEMPERATURE).softmax(1)
    mean = first.mean(0)
    keys = F.normalize(first - mean, dim=1)
    asked = F.normalize(second - mean.lerp(second.mean(0), 0.01), dim=1)
    found = (asked @ keys.T / STUDENT_TEMPERATURE).log_softmax(1)
    expected = (wanted * (wanted.log() - found)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)  # the answers are kept in bfloat16
    loss.backward()
    assert second.grad is not None and second.grad.abs().sum() > 0


def test_the_oldest_pictures_leave_and_a_large_batch_fills_it() -> None:
    queue = SimilarityQueue(4, 2, 4)
    for start in (0, 3, 6):
        queue.loss(torch.randn(3, 2), told([start % 4, (start + 1) % 4, (start + 2) % 4]))
    assert len(queue) == 4 and queue.seen == 9
    assert sorted(queue.roots.argmax(1).tolist()) == sorted([5 % 4, 6 % 4, 7 % 4, 8 % 4])
    queue.loss(torch.randn(7, 2), told([0, 1, 2, 3, 3, 3, 3]))
    assert queue.roots.argmax(1).tolist() == [3, 3, 3, 3]


def test_it_teaches_embeddings_whose_neighbors_have_the_same_answer() -> None:
    torch.manual_seed(0)
    classes = torch.arange(64) % 4
    embeddings = torch.nn.Parameter(torch.randn(64, 8))
    optimizer, queue = torch.optim.Adam([embeddings], lr=0.05), SimilarityQueue(32, 8, 4)
    for step in range(120):
        rows = torch.arange(16) + 16 * (step % 4)
        loss = queue.loss(embeddings[rows], told(classes[rows].tolist(), sure=0.9))
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
    centered = F.normalize(embeddings.detach() - embeddings.detach().mean(0), dim=1)
    nearest = (centered @ centered.T - 2 * torch.eye(64)).argmax(1)
    assert (classes[nearest] == classes).float().mean() > 0.95


def test_a_saved_queue_goes_on_as_it_was() -> None:
    batches = [(torch.randn(3, 2), told([n % 4, 1, 2])) for n in range(3)]
    whole, part = SimilarityQueue(4, 2, 4), SimilarityQueue(4, 2, 4)
    losses = [whole.loss(*batch).item() for batch in batches]
    for batch in batches[:2]:
        part.loss(*batch)
    rest = SimilarityQueue(4, 2, 4)
    rest.load_state_dict(part.state_dict())
    assert rest.loss(*batches[2]).item() == losses[2] and math.isfinite(losses[2])
