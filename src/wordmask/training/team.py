"""Several processes that learn together: those that `accelerate launch` or `torchrun` started, each on its own device.

Every process takes its share of each batch, and gradients are averaged, so that the steps are those of one process.
Batch norm, where a network has it, is the exception: it sees a process's own pictures, unless `with_shared_statistics`
can help that.
"""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wordmask.compute import pick_device
from wordmask.errors import WordmaskError
from wordmask.extras import need

PATIENCE = timedelta(days=7)
"""For one that takes figures or writes files while the others wait; what they exchange in steps has minutes."""


class TeamError(WordmaskError):
    """These processes cannot learn together so."""


def launched() -> int:
    """Return how many processes a launcher has started, of which this is one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Team:
    """This process's place among its like; a team of one where nobody launched several."""

    def __init__(self, device: str = "auto"):
        self.count, self.place = 1, 0
        self._state: Any = None
        self.device = torch.device(pick_device(device))
        if launched() > 1:
            self._join(launched())

    def _join(self, launched: int) -> None:
        need("accelerate")
        from accelerate import PartialState

        wished = self.device
        if wished.index is not None:
            raise TeamError(f"{launched} processes cannot all have device {wished}: choose {wished.type}, one for each")
        self._state = PartialState(cpu=wished.type == "cpu")
        found = self._state.num_processes
        if found != launched:
            raise TeamError(
                f"the launcher says WORLD_SIZE={launched}, but this process finds {found} on device {wished}: "
                "start them with torchrun or accelerate launch, or choose device cpu"
            )
        self.count, self.place = found, self._state.process_index
        _patient_group()  # which all must make at the same time
        given = torch.device(self._state.device)
        self.device = torch.device("cpu") if given.type == "cpu" else given  # accelerate numbers the processor too

    @property
    def is_first(self) -> bool:
        """The one that writes files and talks to people."""
        return self.place == 0

    def share(self, batch: int) -> slice:
        """Return which of a batch's pictures are this process's."""
        if batch % self.count:
            raise TeamError(
                f"a batch of {batch} cannot be shared evenly by {self.count} processes: take a multiple of {self.count}"
            )
        own = batch // self.count
        return slice(self.place * own, (self.place + 1) * own)

    def sum(self, value: Tensor) -> Tensor:
        """Of what the processes have; a new tensor."""
        total = value.clone()
        if self.count > 1:
            torch.distributed.all_reduce(total)
        return total

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes the mean of what the processes have, in place."""
        if self.count > 1:
            for tensor in tensors:
                tensor.copy_(self.sum(tensor) / self.count)

    def with_shared_statistics(self, network: nn.Module) -> nn.Module:
        """Return the same network, whose batch norms see the pictures of all processes; PyTorch can do so on CUDA
        alone.
        """
        if self.count == 1 or self.device.type != "cuda":
            return network
        from timm.layers import convert_sync_batchnorm  # PyTorch's own would drop the activations in timm's norms

        shared: nn.Module = convert_sync_batchnorm(network)
        return shared

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the same network, whose gradients become the processes' mean while they are computed."""
        if self.count == 1:
            return network
        return DistributedDataParallel(network, device_ids=None if self.device.type == "cpu" else [self.device])

    def quietly(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Exchange no gradients of a wrapped network in here: more of this step's are to come."""
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()

    def wait(self) -> None:
        """Until all are here, which may take one of them hours."""
        if self.count > 1:
            torch.distributed.barrier(group=_patient_group())


@cache
def _patient_group() -> Any:
    """Of all processes. They meet on the processor: accelerators' own barriers give up after ten minutes."""
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
