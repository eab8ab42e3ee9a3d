"""How pictures come to an accelerator, and how many of them go through a network together."""

import torch
from torch import Tensor

BYTES_PER_PIXEL = 512
"""That a window takes while a large transformer reads it, on the safe side: 100 MB for 448 x 448."""
SHARE = 0.5
"""Of an accelerator's free memory that windows may take: names' scores and other processes need some."""
MOST_TOGETHER = 64
"""Windows; with more, an accelerator is no busier."""


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device. To CUDA it is copied from pinned memory while the processor goes on: what computes
    with it waits, and nothing else does.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def windows_together(device: torch.device, pixels: int, few: int) -> int:
    """Return how many windows of so many pixels each go through a network together: `few` on a processor, and on CUDA
    as many as its free memory holds.
    """
    if device.type != "cuda":
        return few
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST_TOGETHER, int(SHARE * free) // (BYTES_PER_PIXEL * pixels)))
