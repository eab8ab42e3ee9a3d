"""What numbers a network computes with: single precision, or bf16 where the device multiplies it natively."""

from typing import cast, get_args

import torch

from wordmask.encoders.clip import Precision
from wordmask.errors import WordmaskError

INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of these multiplies bf16, in the words of `torch.cpu.get_capabilities`; the last is Arm's."""


class PrecisionError(WordmaskError):
    """No such precision."""


def pick_precision(precision: str, device: str | torch.device) -> Precision:
    """ "auto" -> bf16 where the device has it, fp32 elsewhere."""
    if precision == "auto":
        return "bf16" if has_bf16(torch.device(device)) else "fp32"
    if precision not in get_args(Precision):
        raise PrecisionError(f"precision {precision!r} is unknown: choose auto, fp32 or bf16")
    return cast(Precision, precision)


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 itself. Elsewhere it is emulated, and slower than fp32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    # On processors it is oneDNN that uses the instructions. Before torch 2.11 nothing public tells of them.
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        return False
    told = torch.cpu.get_capabilities()
    return any(told.get(instruction, False) for instruction in INSTRUCTIONS)
