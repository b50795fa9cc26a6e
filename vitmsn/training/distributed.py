"""Several processes as one: each sees its own share of a batch, and all compute what one alone would.

Each process encodes its own pictures; their CLS embeddings are then gathered, so that the projector's BatchNorm,
Sinkhorn, me-max and the loss see the whole batch, in the same order, everywhere. That repeats the head's small
work in each process and needs no synchronized layers (torch's SyncBatchNorm refuses CPU tensors). The processes are
started by `accelerate launch`, which also chooses devices and backends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor

from vitmsn import extras
from vitmsn.errors import ConfigError


class Processes:
    """This process among those that train together; alone it does nothing and costs nothing."""

    index = 0
    count = 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    @classmethod
    def from_environment(cls, device: str | torch.device = "cpu") -> Processes:
        """The processes that `accelerate launch` (or torchrun) started; one, where it started none.

        Args:
            device: where to train; with several processes on accelerators each gets one of its own.
        """
        return _Several(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else cls(device)

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.index == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch: equal consecutive parts, in the order of the processes."""
        if len(batch) % self.count:
            raise ConfigError(f"A batch of {len(batch)} cannot be shared by {self.count} processes; use a multiple.")
        return batch.chunk(self.count)[self.index]

    def gather(self, own: Tensor) -> Tensor:
        """(V, b, D) of this process -> (V, B, D) of all; the gradient reaches one's own part."""
        return own

    def combine_gradients(self, own: Iterable[Tensor], common: Iterable[Tensor]) -> None:
        """After the backward pass, in place.

        Args:
            own: gradients of what saw this process's pictures alone; they are summed.
            common: of what saw the whole batch everywhere; equal up to rounding, they are averaged to stay so.
        """

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        return flag

    def wait(self) -> None:
        """Until all are here."""


class _Several(Processes):
    def __init__(self, device: str | torch.device) -> None:
        with extras.named():
            from accelerate import PartialState

        self._state = PartialState(cpu=torch.device(device).type == "cpu")
        on_cpu = self._state.device.type == "cpu"  # with a number, under which no checkpoint can be loaded
        super().__init__("cpu" if on_cpu else self._state.device)
        self.index, self.count = self._state.process_index, self._state.num_processes

    def gather(self, own: Tensor) -> Tensor:
        from accelerate.utils import gather

        # first axis last and back: accelerate joins along the first, and pictures are the second
        others = list(gather(own.detach().transpose(0, 1).contiguous()).transpose(0, 1).chunk(self.count, dim=1))
        others[self.index] = own
        return torch.cat(others, dim=1)

    def combine_gradients(self, own: Iterable[Tensor], common: Iterable[Tensor]) -> None:
        from accelerate.utils import reduce

        for gradients, how in ((list(own), "sum"), (list(common), "mean")):
            if not gradients:
                continue
            flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]), how)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        from accelerate.utils import reduce

        return bool(reduce(torch.tensor([float(flag)], device=self.device), "sum").item())

    def wait(self) -> None:
        self._state.wait_for_everyone()
