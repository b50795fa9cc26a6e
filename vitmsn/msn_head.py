"""The MSN head: a projector and prototypes, which turn a CLS token into an assignment.

Letters in shape comments: B pictures, D width, d of the projection, P prototypes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitmsn.layers import initialize


class MSNHead(nn.Module):
    """Projector and prototypes: what turns a CLS token into an assignment (arXiv 2204.07141, section 3).

    The projector is Linear-BN-GELU, Linear-BN-GELU, Linear; an assignment is softmax(cosine / tau) over P prototypes.

    Args:
        dim: width D of the backbone.  hidden: of the projector.  output: of the space the prototypes live in.
        prototypes: how many.  temperature: tau of anchors.  sharpening: T, so that targets have tau * T.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 2048,
        output: int = 256,
        prototypes: int = 1024,
        temperature: float = 0.1,
        sharpening: float = 0.25,
    ) -> None:
        super().__init__()
        self.temperature, self.sharpening = temperature, sharpening
        self.projector = nn.Sequential()
        for name, module in (
            ("fc1", nn.Linear(dim, hidden)),
            ("bn1", nn.BatchNorm1d(hidden)),
            ("gelu1", nn.GELU()),
            ("fc2", nn.Linear(hidden, hidden)),
            ("bn2", nn.BatchNorm1d(hidden)),
            ("gelu2", nn.GELU()),
            ("fc3", nn.Linear(hidden, output)),
        ):
            self.projector.add_module(name, module)
        self.prototypes = nn.Parameter(torch.empty(prototypes, output))
        initialize(self.projector, 0.02)
        nn.init.uniform_(self.prototypes, -(output**-0.5), output**-0.5)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], temperature: float = 0.1, sharpening: float = 0.25) -> MSNHead:
        """Rebuild a trained head, in eval mode; its sizes are those of its tensors."""
        hidden, dim = tensors["projector.fc1.weight"].shape
        prototypes, output = tensors["prototypes"].shape
        head = cls(dim, hidden, output, prototypes, temperature, sharpening)
        head.load_state_dict(tensors, strict=True)
        return head.eval()

    def forward(self, cls: Tensor) -> Tensor:
        """CLS (B, D) -> projections (B, output), not normalized."""
        return self.projector(cls)

    def assign(self, cls: Tensor, sharpen: bool = False) -> Tensor:
        """CLS (B, D) -> log-probabilities over prototypes (B, P): an anchor's, or a target's when sharpened."""
        temperature = self.temperature * (self.sharpening if sharpen else 1.0)
        return log_assignment(self(cls), self.prototypes, temperature)


def log_assignment(projections: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """log softmax(cosine / temperature): (B, d) and (P, d) -> (B, P), in float32 (equation 1 of the paper)."""
    cosine = F.normalize(projections.float(), dim=-1) @ F.normalize(prototypes.float(), dim=-1).T
    return F.log_softmax(cosine / temperature, dim=-1)
