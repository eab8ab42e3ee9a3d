"""Several processes that learn together: those that `accelerate launch` or `torchrun` started, each on its own device.

Every process takes its share of each batch, and gradients are averaged, so that the steps are those of one process.
"""

import os
from collections.abc import Iterable

import torch
from torch import Tensor

from wordmask.registry import pick_device
from wordmask.saliency.base import SaliencyError


class Team:
    """This process' place among its like; a team of one where nobody launched several."""

    def __init__(self, device: str = "auto"):
        self.count, self.place = 1, 0
        self._state = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=device == "cpu")
            self.count, self.place = self._state.num_processes, self._state.process_index
            self.device = torch.device(self._state.device)
        else:
            self.device = torch.device(pick_device(device))

    @property
    def is_first(self) -> bool:
        """The one that writes files and talks to people."""
        return self.place == 0

    def share(self, batch: int) -> slice:
        """Which of a batch's pictures are this process'."""
        if batch % self.count:
            raise SaliencyError(f"a batch of {batch} cannot be shared evenly by {self.count} processes; choose another")
        own = batch // self.count
        return slice(self.place * own, (self.place + 1) * own)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes the mean of what the processes have, in place."""
        if self._state is None:
            return
        from accelerate.utils import reduce

        for tensor in tensors:
            tensor.copy_(reduce(tensor, reduction="mean"))

    def wait(self) -> None:
        """Until all are here."""
        if self._state is not None:
            self._state.wait_for_everyone()
