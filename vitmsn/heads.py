"""The heads that come with a backbone, trained: embeddings -> classes, numbers of a regression, or prototypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitmsn.checkpoint import Checkpoint
from vitmsn.classification import MULTI, REGRESSION, SINGLE, Classification
from vitmsn.config import ViTMSNConfig
from vitmsn.errors import InputError, MissingHeadError
from vitmsn.msn_head import MSNHead, log_assignment
from vitmsn.runner import ModelRunner


class Heads:
    """A classifier, and projector and prototypes, as far as a model has them; frozen and in float32: they are small,
    and probabilities depend on them.

    Args:
        runner: of the backbone; the heads are where it is.
        card: what the model's ``vitmsn.json`` says: the threshold of "not sure", kinds of labels.

    Attributes:
        classifier: the linear head on CLS, or None.
        msn_head: projector and prototypes, or None.
        labels: the classes it can name, or what a regression's numbers are of; empty without a classifier.
    """

    def __init__(
        self,
        runner: ModelRunner,
        classifier: nn.Linear | None,
        msn_head: MSNHead | None,
        card: dict[str, Any],
    ) -> None:
        self._runner, self._card = runner, card
        self.classifier, self.msn_head = classifier, msn_head
        self.labels = list(self._config.id2label.values()) if classifier is not None else []
        for head in (classifier, msn_head):
            if head is not None:
                runner.companions.append(head.to(runner.device).eval().requires_grad_(False))

    @property
    def _config(self) -> ViTMSNConfig:
        return self._runner.model.config

    @property
    def problem_type(self) -> str | None:
        """What the classifier answers, as transformers' pipeline reads its config; None without one."""
        if self.classifier is None:
            return None
        if self._config.problem_type == REGRESSION:
            return REGRESSION
        return MULTI if self._config.problem_type == MULTI or self._config.num_labels == 1 else SINGLE

    @property
    def threshold(self) -> float:
        """The probability from which a class is sure; it was chosen on held-out pictures."""
        return float(self._card.get("not_sure_below", 0.5))

    def classify(self, embeddings: np.ndarray, top_k: int) -> list[Classification]:
        """Embeddings (N, D) -> what is named, a regression's numbers."""
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; it must be at least 1.")
        return [self.named(row, top_k) for row in self.scores(embeddings)]

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) -> calibrated probabilities (N, classes) float32; see :meth:`scores`.

        Raises:
            MissingHeadError: there is no classifier, or it is a regression.
        """
        if self.problem_type == REGRESSION:
            raise MissingHeadError(
                f"{self._runner.name} gives numbers ({', '.join(self.labels[:3])}) and no probabilities of classes; "
                "take them from scores or classify, or choose a model with a classifier."
            )
        return self.scores(embeddings)

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) -> (N, labels) float32: probabilities, which add up to one where one class is right and are
        each between 0 and 1 where several may; or the numbers of a regression.

        Raises:
            MissingHeadError: there is no classifier.
        """
        if self.classifier is None:
            raise MissingHeadError(
                f"{self._runner.name} is a backbone without a trained classifier, so it has no class to name; teach it "
                "your own classes (few-shot), or choose a model with a classifier."
            )
        rows = self._rows(embeddings)
        with self._runner.lock, torch.inference_mode():
            logits = self.classifier(rows.to(self._runner.device))
            if self.problem_type != REGRESSION:
                logits = logits.sigmoid() if self.problem_type == MULTI else logits.softmax(-1)
            return logits.cpu().numpy()

    def assign(self, embeddings: np.ndarray, sharpen: bool, temperature: float | None) -> np.ndarray:
        """Embeddings (N, D) -> probabilities over the prototypes (N, P) float32.

        Args:
            sharpen: as of a target, not of an anchor.
            temperature: replaces the head's own, sharpened or not.

        Raises:
            MissingHeadError: there are no prototypes.
        """
        head, rows = self.check_prototypes(), self._rows(embeddings)
        with self._runner.lock, torch.inference_mode():
            rows = rows.to(self._runner.device)
            if temperature is None:
                assigned = head.assign(rows, sharpen)
            else:
                assigned = log_assignment(head(rows), head.prototypes, temperature)
            return assigned.exp().cpu().numpy()

    def check_prototypes(self) -> MSNHead:
        """The MSN head; MissingHeadError without one."""
        if self.msn_head is None:
            raise MissingHeadError(
                f"{self._runner.name} carries no projector and prototypes, so nothing can be assigned; choose a "
                "model that does, like the embedded one."
            )
        return self.msn_head

    def named(self, scores: np.ndarray, top_k: int) -> Classification:
        """The scores of one picture (labels,) in words: what is named, or that it is not sure."""
        best = np.argsort(-scores, kind="stable")[:top_k]
        threshold = self.threshold
        problem = self.problem_type or SINGLE
        right = int((scores[best] >= threshold).sum()) if problem == MULTI else 1
        sure = problem == REGRESSION or bool(scores[best[0]] >= threshold)
        kind, total = None, 0.0
        if not sure and problem == SINGLE:  # probabilities of classes that do not exclude each other do not add up
            place = {label: index for index, label in enumerate(self.labels)}
            for name, members in self._card.get("kinds", {}).items():
                share = float(sum(scores[place[label]] for label in members if label in place))
                if share >= threshold and share > total:
                    kind, total = name, share
        labels, shares = [self.labels[i] for i in best], [float(scores[i]) for i in best]
        return Classification(labels, shares, sure, kind, total, problem, right)

    def _rows(self, embeddings: np.ndarray) -> Tensor:
        """Embeddings of this model, checked."""
        rows = torch.tensor(np.asarray(embeddings, np.float32))
        if rows.ndim != 2 or rows.shape[1] != self._config.hidden_size:
            raise InputError(
                f"The embeddings are {tuple(rows.shape)}; {self._runner.name} makes and takes (pictures, "
                f"{self._config.hidden_size})."
            )
        return rows


def opened(loaded: Checkpoint) -> tuple[nn.Linear | None, MSNHead | None]:
    """The classifier and the MSN head of a checkpoint, as far as it has them."""
    classifier, msn_head = None, None
    if loaded.classifier:
        labels, dim = loaded.classifier["weight"].shape
        classifier = nn.Linear(dim, labels)
        classifier.load_state_dict(loaded.classifier)
    if "prototypes" in loaded.msn_head and len(loaded.msn_head) > 1:
        msn_head = MSNHead.from_tensors(loaded.msn_head, loaded.temperature, loaded.sharpening)
    return classifier, msn_head
