"""AdamW, or Muon for the matrices of a backbone's layers and AdamW for all else.

Muon (Jordan et al. 2024; scaled as in Liu et al., arXiv 2502.16982) makes each update of a matrix orthogonal, so that
all its directions are learned at the same speed. A step costs more, and a small ViT needs fewer of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vitmsn.errors import ConfigError


class Optimizers:
    """Two optimizers, for different parameters, that look like one."""

    def __init__(self, **parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts.values() for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def adamw(groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Over parameter groups, in one fused step each."""
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def muon(groups: list[dict[str, Any]], layers: nn.Module, rate: float) -> Optimizers:
    """Muon for every matrix inside ``layers``, AdamW for the other parameters of ``groups``.

    Updates are scaled to the size of AdamW's, so that both take the same rate and weight decay.

    Raises:
        ConfigError: this torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(f"torch {torch.__version__} has no Muon; install 2.9 or newer, or train without muon.")
    inside = {id(parameter) for parameter in layers.parameters() if parameter.ndim == 2}
    matrices = torch.optim.Muon(_only(groups, inside, True), lr=rate, adjust_lr_fn="match_rms_adamw")
    return Optimizers(muon=matrices, adamw=adamw(_only(groups, inside, False), rate))


def _only(groups: Iterable[dict[str, Any]], chosen: set[int], inside: bool) -> list[dict[str, Any]]:
    """The groups with those of their parameters that are among the chosen, or that are not."""
    some = ({**group, "params": [p for p in group["params"] if (id(p) in chosen) == inside]} for group in groups)
    return [group for group in some if group["params"]]
