"""Similarities of pictures as a teacher sees them: what makes a student's embeddings good for nearest neighbors.

A head learns which class a picture is, and leaves the distances between embeddings to chance. Here the student's
similarities of a picture to many earlier ones learn those of the teacher (SEED, Fang et al. 2021, arXiv 2101.04731,
section 3.2), whose similarity is sum sqrt(p q), the Bhattacharyya coefficient of its answers p and q, from 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vitmsn.training.answers import Probabilities

TEACHER_TEMPERATURE, STUDENT_TEMPERATURE = 0.05, 0.1
MEAN_MOMENTUM = 0.99


class SimilarityQueue:
    """The last ``size`` pictures of a training: their embeddings, and the square roots of the teacher's answers."""

    def __init__(self, size: int, width: int, classes: int, device: torch.device | str = "cpu") -> None:
        self.embeddings = torch.zeros(size, width, device=device)
        self.roots = torch.zeros(size, classes, dtype=torch.bfloat16, device=device)
        self.mean = torch.zeros(width, device=device)  # of the embeddings; distances are measured around it
        self.seen = 0  # pictures so far

    def __len__(self) -> int:
        return min(self.seen, len(self.embeddings))

    def loss(self, embeddings: Tensor, told: Probabilities) -> Tensor:
        """Mean KL(teacher || student) in nats of the similarities to the queue; then the batch joins it.

        Args:
            embeddings: (B, D) float32, with gradients.  told: the teacher's answers to the same pictures.

        Returns:
            A scalar; 0 for the first batch, which has no queue to compare with.
        """
        with torch.no_grad():
            mean = embeddings.mean(0)
            self.mean = self.mean.lerp(mean, 1 - MEAN_MOMENTUM if self.seen else 1.0)
            roots = _dense(told, self.roots.shape[1]).sqrt().bfloat16()
        centered = F.normalize(embeddings - self.mean, dim=1)
        count = len(self)
        loss = embeddings.new_zeros(())
        if count:
            with torch.no_grad():
                wanted = ((roots @ self.roots[:count].T).float() / TEACHER_TEMPERATURE).softmax(1)
            # the queue changes before the backward pass needs it, so that a copy takes part
            found = centered @ self.embeddings[:count].clone().T / STUDENT_TEMPERATURE
            loss = F.kl_div(found.log_softmax(1), wanted, reduction="batchmean")
        size = len(self.embeddings)
        places = (self.seen + torch.arange(len(embeddings), device=self.mean.device)) % size
        self.embeddings[places[-size:]] = centered.detach()[-size:]
        self.roots[places[-size:]] = roots[-size:]
        self.seen += len(embeddings)
        return loss

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"embeddings": self.embeddings, "roots": self.roots, "mean": self.mean, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.mean.device) if isinstance(value, Tensor) else value)


def _dense(told: Probabilities, classes: int) -> Tensor:
    """(B, classes) float32."""
    return told.rest[:, None].repeat(1, classes).scatter_(1, told.classes, told.probabilities)
