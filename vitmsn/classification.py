"""What a head says of one picture: classes with their probabilities, or numbers; in words and as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"

UNCOUNTED = {
    "clothing",
    "equipment",
    "food",
    "fruit",
    "fungi",
    "furniture",
    "jewelry",
    "people",
    "scenery",
    "tableware",
}


@dataclass(frozen=True)
class Classification:
    """What a classifier says of one picture.

    Attributes:
        labels, probabilities: the ``top_k`` most probable classes, best first; calibrated, so that of the answers given
            with 0.7 about 70 % are right on pictures like those it was trained on. Of a regression, its numbers.
        sure: whether the first is probable enough to be named (the threshold was chosen on held-out pictures).
        kind, kind_probability: where the class is not sure, but its kind is ("cat"): the kind and its probability.
        problem_type: "single_label_classification" where one class is right, "multi_label_classification" where each
            may be or not, "regression" where nothing is a class.
        right: of several classes that may be right, how many of the first are probable enough to be named.
    """

    labels: list[str]
    probabilities: list[float]
    sure: bool
    kind: str | None = None
    kind_probability: float = 0.0
    problem_type: str = SINGLE
    right: int = 1

    def top(self) -> list[dict[str, Any]]:
        """The classes as plain JSON: [{"label", "probability"}, ...], best first; of a regression {"label", "value"}"""
        name = "value" if self.problem_type == REGRESSION else "probability"
        pairs = zip(self.labels, self.probabilities, strict=True)
        return [{"label": label, name: round(share, 6)} for label, share in pairs]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, the same on the page, over the API and on the command line."""
        kind_probability = None if self.kind is None else round(self.kind_probability, 6)
        named = (
            {}
            if self.problem_type == REGRESSION
            else {"closest": self.labels[0], "probability": round(self.probabilities[0], 6)}
        )
        return {
            "label": self.label,
            "reason": self.reason,
            **named,
            "labels": self.top(),
            "kind": self.kind,
            "kind_probability": kind_probability,
            "problem_type": self.problem_type,
            "sentence": self.sentence(),
        }

    @property
    def label(self) -> str | None:
        """The first class where it is sure, else None, as for numbers, which are no classes."""
        return self.labels[0] if self.sure and self.problem_type != REGRESSION else None

    @property
    def reason(self) -> str:
        """Why no class is named: "not sure", or ""."""
        return "" if self.sure else "not sure"

    def named(self) -> str:
        """What is named: "cat", "cat, indoor"; in doubt the kind with its own probability, or "not sure"."""
        if self.sure:
            return ", ".join(self.labels[: max(self.right, 1)])
        if self.kind is None:
            return "not sure"
        return f"probably {with_article(self.kind)} ({percent(self.kind_probability)})"

    def sentence(self) -> str:
        """The answer in words."""
        if self.problem_type == REGRESSION:
            pairs = zip(self.labels, self.probabilities, strict=True)
            return f"{', '.join(f'{label}: {value:.4g}' for label, value in pairs)}."
        first = f"{self.labels[0]} ({percent(self.probabilities[0])})"
        if self.problem_type == MULTI and self.sure:
            pairs = zip(self.labels[: self.right], self.probabilities, strict=False)
            return f"This shows: {', '.join(f'{label} {percent(share)}' for label, share in pairs)}."
        if self.sure:
            return f"This looks like: {first}."
        named = self.named()
        return f"{named[0].upper()}{named[1:]}. Closest match: {first}."


def with_article(kind: str) -> str:
    """A kind of thing inside a sentence: "a cat", "an insect"; "clothes" and "food" are not counted, so have none."""
    last = kind.split()[-1].lower() if kind.strip() else ""
    if last in UNCOUNTED or (last.endswith("s") and not last.endswith(("ss", "us", "is"))):
        return kind
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def percent(probability: float) -> str:
    """A probability with two significant digits, never rounded to certainty: "8.4 %", "< 0.1 %", "over 99 %"."""
    if probability >= 0.995:
        return "over 99 %"
    return "< 0.1 %" if probability < 0.001 else f"{100 * probability:.2g} %"
