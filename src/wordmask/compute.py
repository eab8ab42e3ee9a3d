"""What networks compute on and with: a device and a precision, chosen in one place."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from wordmask.errors import WordmaskError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]
AUTO = "auto"
INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of these multiplies bf16, in the words of `torch.cpu.get_capabilities`; the last is Arm's."""


class DeviceError(WordmaskError):
    """No such device, or none that this machine can use."""


class PrecisionError(WordmaskError):
    """No such precision."""


@dataclass(frozen=True)
class Compute:
    """A device and a precision, for whoever builds or holds a network.

    "auto" is settled as the value is made: the accelerator of this machine, or else its processor; and what
    `pick_precision` chooses for that device. So `Compute()` is what `wordmask.load` computes with.
    """

    device: str = AUTO
    precision: str = AUTO

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", pick_device(str(self.device)))
        object.__setattr__(self, "precision", pick_precision(self.precision, self.device))

    @property
    def dtype(self) -> "torch.dtype":
        """Of a network's parameters."""
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def pick_device(device: str) -> str:
    """Return a device that this machine can use; "auto" is its accelerator, or the processor."""
    if device == "cpu":
        return device
    import torch

    if device != AUTO:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise DeviceError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}; try cpu") from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_precision(precision: str, device: "str | torch.device") -> Precision:
    """Return what to compute with on a device; "auto" is bf16 where the device has it, and fp32 elsewhere."""
    if precision == AUTO:
        return "bf16" if has_bf16(device) else "fp32"
    if precision not in get_args(Precision):
        raise PrecisionError(f"precision {precision!r} is unknown: choose auto, fp32 or bf16")
    return cast(Precision, precision)


def has_bf16(device: "str | torch.device") -> bool:
    """Return whether the device multiplies bf16 itself. Elsewhere it is emulated, and slower than fp32."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    # On processors it is oneDNN that uses the instructions. Before torch 2.11 nothing public tells of them.
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        return False
    told = torch.cpu.get_capabilities()
    return any(told.get(instruction, False) for instruction in INSTRUCTIONS)


PLAIN = Compute("cpu", "fp32")
"""The processor, in single precision: where nobody says otherwise, and labels must be the same on all machines."""
